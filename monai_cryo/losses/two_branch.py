"""The paper's loss of the two-branch network: classification and, for the true class's mask alone, segmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.loss import _Loss

from monai_cryo.networks.output import check_output

__all__ = ["TwoBranchLoss"]


class TwoBranchLoss(_Loss):
    """weight x negative log-likelihood of the class + (1 - weight) x loss of the true class's mask.

    The mask's loss is binary cross-entropy, and Dice loss beside it if wanted.

    Both parts are means: over the samples, and over the samples and voxels. The masks of the other classes get no
    gradient. A class without an outline, such as a background, is no exception: its true masks are empty, and its
    channel learns to draw nothing.

    Parameters
    ----------
    weight
        Share of the classification, 0..1; the paper's lambda is 0.15.
    label_smoothing
        Share of the target's probability that is spread evenly over all classes, 0..1; the paper's is 0.
    dice
        Factor on MONAI's soft Dice loss of the same masks, which the segmentation's cross-entropy is joined by, >= 0;
        the paper's is 0. Cross-entropy alone draws thin masks where it is unsure. Empty true masks take no part in it.

    Raises
    ------
    ValueError
        If `weight` or `label_smoothing` lies outside 0..1, or `dice` is negative.

    References
    ----------
    Che et al., "Domain Randomization for Macromolecule Structure Classification and Segmentation in Electron
    Cryo-tomograms", BIBM 2019.
    """

    def __init__(self, weight: float = 0.15, label_smoothing: float = 0.0, dice: float = 0.0) -> None:
        super().__init__()
        for name, value in (("weight", weight), ("label_smoothing", label_smoothing)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {value}")
        if not 0 <= dice < math.inf:
            raise ValueError(f"dice must be a number >= 0, got {dice}")
        self.weight = weight
        self.label_smoothing = label_smoothing
        self.dice = dice

    def extra_repr(self) -> str:
        """Return the parameters."""
        return f"weight={self.weight}, label_smoothing={self.label_smoothing}, dice={self.dice}"

    def forward(self, input: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
        """Return the loss, a scalar; arguments and errors are those of `parts`."""
        parts = self.parts(input, target)
        return self.weight * parts["classification"] + (1 - self.weight) * parts["segmentation"]

    def parts(self, input: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the loss is the weighted sum of: scalars under ``"classification"`` and ``"segmentation"``.

        Parameters
        ----------
        input
            ``"logits"`` (B, K) and ``"masks"`` (B, K, D, H, W), the outputs of `TwoBranchNet`; fewer masks are those of
            the batch's first samples.
        target
            ``"class"`` (B,), integers in 0..K-1, and ``"mask"`` (B, 1, D, H, W), 0 or 1.

        Raises
        ------
        ValueError
            If `input` is something else, shapes disagree or a class is outside 0..K-1.
        """
        logits, masks = check_output(input, fewer_masks=True)
        true_class, true_mask = target["class"], target["mask"]
        batch, num_classes = logits.shape
        if true_class.shape != (batch,):
            raise ValueError(f"class must have shape ({batch},), got {tuple(true_class.shape)}")
        if true_class.is_floating_point() or true_class.is_complex():
            raise ValueError(f"class must be whole numbers, got {true_class.dtype}")
        true_class = true_class.long()
        count = len(masks)
        if true_mask.shape != (batch, 1, *masks.shape[2:]):
            raise ValueError(f"mask must have shape {(batch, 1, *masks.shape[2:])}, got {tuple(true_mask.shape)}")
        lowest, highest = torch.stack(true_class.aminmax()).tolist()
        if lowest < 0 or highest >= num_classes:
            raise ValueError(f"class must lie in 0..{num_classes - 1}, got {lowest if lowest < 0 else highest}")

        selected = masks[torch.arange(count, device=masks.device), true_class[:count]][:, None]
        true_mask = true_mask[:count].to(selected.dtype)
        segmentation = F.binary_cross_entropy_with_logits(selected, true_mask)
        if self.dice:
            outlined = true_mask.flatten(1).any(1)
            dice = DiceLoss(sigmoid=True, reduction="none")(selected, true_mask).flatten() * outlined
            segmentation = segmentation + self.dice * dice.sum() / outlined.sum().clamp(min=1)
        return {
            "classification": F.cross_entropy(logits, true_class, label_smoothing=self.label_smoothing),
            "segmentation": segmentation,
        }
