"""Answers averaged over the four mirror images of a volume that keep a missing wedge where it is."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor

from monai_cryo.networks import TwoBranchNet, TwoBranchTensorNet

__all__ = ["WEDGE_FLIPS", "BoxInferer"]

#: axes of (D, H, W) turned round together. With the tilt axis along y and the beam along z a wedge is where kz / kx is
#: steep, whatever its two ends are: y is free, and z and x can only be turned together.
WEDGE_FLIPS: tuple[tuple[int, ...], ...] = ((), (-2,), (-3, -1), (-3, -2, -1))


class BoxInferer(SimpleInferer):
    """Read boxes with a `TwoBranchTensorNet`, averaged over `WEDGE_FLIPS` where asked.

    Parameters
    ----------
    flips
        Average the probabilities of classes and masks over the four; four times the work.
    """

    def __init__(self, flips: bool = False) -> None:
        super().__init__()
        self.flips = flips

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the network's answer (B, K, D, H, W), as `TwoBranchTensorNet` gives it."""
        if not self.flips:
            return super().__call__(inputs, network, *args, **kwargs)
        if not isinstance(network, TwoBranchTensorNet):
            raise ValueError(f"flips need a TwoBranchTensorNet, got {type(network).__name__}")
        image = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        answers = [(axes, TwoBranchNet.forward(network, image.flip(axes))) for axes in WEDGE_FLIPS]
        classes = torch.stack([a["logits"].softmax(1) for _, a in answers]).mean(0)
        masks = torch.stack([a["masks"].sigmoid().flip(axes) for axes, a in answers]).mean(0)
        # as TwoBranchTensorNet says: the mask of the most probable class, of every other class its probability - 1
        predicted = torch.zeros_like(classes, dtype=torch.bool).scatter(1, classes.argmax(1, keepdim=True), True)
        return torch.where(predicted[:, :, None, None, None], masks, (classes - 1)[:, :, None, None, None])
