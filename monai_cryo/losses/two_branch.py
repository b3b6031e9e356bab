"""The paper's loss of the two-branch network: classification and, for the true class's mask alone, segmentation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.loss import _Loss

__all__ = ["TwoBranchLoss"]


class TwoBranchLoss(_Loss):
    """weight x negative log-likelihood of the class + (1 - weight) x binary cross-entropy of the true class's mask.

    Both parts are means: over the samples, and over the samples and voxels. The masks of the other classes get no
    gradient.

    Parameters
    ----------
    weight
        Share of the classification, 0..1; the paper's lambda is 0.15.

    Attributes
    ----------
    parts
        ``"classification"`` and ``"segmentation"`` of the last call, detached and unweighted, for logging.

    Raises
    ------
    ValueError
        If `weight` lies outside 0..1.

    References
    ----------
    Che et al., "Domain Randomization for Macromolecule Structure Classification and Segmentation in Electron
    Cryo-tomograms", BIBM 2019.
    """

    def __init__(self, weight: float = 0.15) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must lie in 0..1, got {weight}")
        self.weight = weight
        self.parts: dict[str, Tensor] = {}

    def forward(self, input: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
        """Return the loss, a scalar.

        Parameters
        ----------
        input
            ``"logits"`` (B, K) and ``"masks"`` (B, K, D, H, W), the outputs of `TwoBranchNet`.
        target
            ``"class"`` (B,), integers in 0..K-1, and ``"mask"`` (B, 1, D, H, W), 0 or 1.

        Raises
        ------
        ValueError
            If shapes disagree or a class is outside 0..K-1.
        """
        logits, masks = input["logits"], input["masks"]
        true_class, true_mask = target["class"], target["mask"]
        batch, num_classes = logits.shape
        if masks.shape[:2] != logits.shape:
            raise ValueError(f"masks must have shape ({batch}, {num_classes}, D, H, W), got {tuple(masks.shape)}")
        if true_class.shape != (batch,):
            raise ValueError(f"class must have shape ({batch},), got {tuple(true_class.shape)}")
        if true_mask.shape != (batch, 1, *masks.shape[2:]):
            raise ValueError(f"mask must have shape {(batch, 1, *masks.shape[2:])}, got {tuple(true_mask.shape)}")
        lowest, highest = torch.stack(true_class.aminmax()).tolist()
        if lowest < 0 or highest >= num_classes:
            raise ValueError(f"class must lie in 0..{num_classes - 1}, got {lowest if lowest < 0 else highest}")

        selected = masks[torch.arange(batch, device=masks.device), true_class]
        classification = F.cross_entropy(logits, true_class)
        segmentation = F.binary_cross_entropy_with_logits(selected, true_mask[:, 0].to(selected.dtype))
        self.parts = {"classification": classification.detach(), "segmentation": segmentation.detach()}
        return self.weight * classification + (1 - self.weight) * segmentation
