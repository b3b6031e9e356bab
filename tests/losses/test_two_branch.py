from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from monai_cryo.losses import TwoBranchLoss


def example() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two samples of two classes; classification 1.5 ln 2, segmentation below."""
    masks = torch.full((2, 2, 1, 1, 2), 50.0)  # a wrong answer wherever it is looked at
    masks[0, 0] = 0
    masks[1, 1] = log(3)
    target = {"class": torch.tensor([0, 1]), "mask": torch.tensor([[1.0, 0.0], [1.0, 0.0]]).view(2, 1, 1, 1, 2)}
    return {"logits": torch.tensor([[0.0, 0.0], [log(3), 0.0]]), "masks": masks}, target


CLASSIFICATION = (log(2) + log(4)) / 2
SEGMENTATION = (log(2) + log(2) - log(3 / 4) - log(1 / 4)) / 4


@pytest.mark.parametrize("weight", [0.0, 0.15, 1.0])
def test_against_values_by_hand(weight: float) -> None:
    loss = TwoBranchLoss(weight)
    total = loss(*example())
    assert total.shape == ()
    assert float(total) == pytest.approx(weight * CLASSIFICATION + (1 - weight) * SEGMENTATION)
    assert float(loss.parts["classification"]) == pytest.approx(CLASSIFICATION)
    assert float(loss.parts["segmentation"]) == pytest.approx(SEGMENTATION)


def test_default_is_the_papers() -> None:
    assert TwoBranchLoss().weight == 0.15


def test_bool_masks() -> None:
    prediction, target = example()
    expected = TwoBranchLoss()(prediction, target)
    assert TwoBranchLoss()(prediction, {**target, "mask": target["mask"].bool()}) == expected


def test_only_the_true_mask_learns() -> None:
    prediction, target = example()
    for tensor in prediction.values():
        tensor.requires_grad_()
    loss = TwoBranchLoss()
    loss(prediction, target).backward()
    assert prediction["logits"].grad.all()
    touched = prediction["masks"].grad.flatten(2).abs().sum(2) > 0
    assert touched.tolist() == [[True, False], [False, True]]
    assert not any(part.requires_grad for part in loss.parts.values())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("masks", torch.zeros(2, 3, 1, 1, 2), r"masks must have shape \(2, 2, D, H, W\), got \(2, 3, 1, 1, 2\)"),
        ("class", torch.tensor([0]), r"class must have shape \(2,\), got \(1,\)"),
        ("class", torch.tensor([0, 2]), r"class must lie in 0\.\.1, got 2"),
        ("class", torch.tensor([-1, 0]), r"class must lie in 0\.\.1, got -1"),
        ("mask", torch.zeros(2, 1, 1, 2), r"mask must have shape \(2, 1, 1, 1, 2\), got \(2, 1, 1, 2\)"),
        ("mask", torch.zeros(2, 2, 1, 1, 2), r"mask must have shape \(2, 1, 1, 1, 2\), got \(2, 2, 1, 1, 2\)"),
    ],
)
def test_refuses_what_does_not_fit(key: str, value: Tensor, message: str) -> None:
    prediction, target = example()
    (prediction if key in prediction else target)[key] = value
    with pytest.raises(ValueError, match=message):
        TwoBranchLoss()(prediction, target)


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_refuses_other_weights(weight: float) -> None:
    with pytest.raises(ValueError, match=rf"weight must lie in 0\.\.1, got {weight}"):
        TwoBranchLoss(weight)
