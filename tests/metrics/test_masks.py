from __future__ import annotations

import pytest
import torch
from monai.metrics import MeanIoU
from torch import Tensor

from monai_cryo.metrics import selected_masks

K = 4


def three_halves_and_a_wrong_class() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four samples: three of the right class with IoU 1/2, one of a wrong class. Every other mask is full."""
    logits = torch.eye(K)[[0, 1, 2, 0]]
    masks = torch.full((4, K, 2, 2, 2), 9.0)
    true_class, true_mask = torch.tensor([0, 1, 2, 3]), torch.zeros(4, 1, 2, 2, 2)
    for i, predicted in enumerate([0, 1, 2, 0]):
        masks[i, predicted, 1] = -9.0  # 4 voxels predicted
        true_mask[i, 0, 0, 0] = 1.0  # 2 of them true
    return logits, masks, true_class, true_mask


@pytest.mark.parametrize(("ignore_empty", "expected"), [(True, 0.375), (False, 0.78125)])
def test_a_wrong_class_scores_zero_and_empty_channels_do_not_count(ignore_empty: bool, expected: float) -> None:
    metric = MeanIoU(reduction="mean_channel", ignore_empty=ignore_empty)
    metric(*selected_masks(*three_halves_and_a_wrong_class()))
    assert metric.aggregate().mean().item() == pytest.approx(expected)


def test_prediction_and_truth_each_stand_in_one_channel() -> None:
    logits, masks, true_class, true_mask = three_halves_and_a_wrong_class()
    y_pred, y = selected_masks(logits, masks, true_class, true_mask.bool())
    assert y_pred.dtype == y.dtype == torch.bool
    assert y_pred.sum((2, 3, 4)).tolist() == [[4, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [4, 0, 0, 0]]
    assert y.sum((2, 3, 4)).tolist() == [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 2]]


@pytest.mark.parametrize(("threshold", "voxels"), [(0.2, 8), (0.5, 4), (0.75, 4), (0.76, 0)])
def test_threshold_is_a_probability(threshold: float, voxels: int) -> None:
    masks = torch.full((1, 1, 2, 2, 2), 0.25).logit()
    masks[..., 0] = torch.tensor(0.75).logit()
    y_pred, _ = selected_masks(torch.zeros(1, 1), masks, torch.tensor([0]), torch.ones(1, 1, 2, 2, 2), threshold)
    assert y_pred.sum() == voxels
