"""The masks that count: the predicted class's against the true class's."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["selected_masks"]


def selected_masks(
    logits: Tensor, masks: Tensor, target_class: Tensor, target_mask: Tensor, threshold: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Put prediction and truth into one channel per class, as `monai.metrics.MeanIoU` compares them.

    The thresholded mask stands in the predicted class's channel alone and the truth in the true class's alone. With
    ``MeanIoU(ignore_empty=True)`` a wrong class therefore scores 0 and the empty channels are left out; with
    ``ignore_empty=False`` they would each count as 1 and inflate the mean.

    Parameters
    ----------
    logits
        Of the classes, (B, K).
    masks
        Logits of the masks, (B, K, D, H, W).
    target_class
        True classes, integers (B,).
    target_mask
        True masks, 0 or 1, (B, 1, D, H, W).
    threshold
        A voxel belongs to the particle if its probability is at least this.

    Returns
    -------
    y_pred, y
        Predicted and true masks, bool, (B, K, D, H, W).
    """
    classes = torch.arange(logits.shape[1], device=logits.device)
    predicted = classes == logits.argmax(1, keepdim=True)
    true = classes == target_class[:, None]
    y_pred = (masks.sigmoid() >= threshold) & predicted[:, :, None, None, None]
    return y_pred, (target_mask > 0.5) & true[:, :, None, None, None]
