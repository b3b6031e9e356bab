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
    parts = {name: float(part) for name, part in loss.parts(*example()).items()}
    assert parts == pytest.approx({"classification": CLASSIFICATION, "segmentation": SEGMENTATION})


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
    TwoBranchLoss()(prediction, target).backward()
    assert prediction["logits"].grad.all()
    touched = prediction["masks"].grad.flatten(2).abs().sum(2) > 0
    assert touched.tolist() == [[True, False], [False, True]]


def test_label_smoothing_spreads_a_share_over_all_classes() -> None:
    prediction, target = example()
    likelihoods = -prediction["logits"].log_softmax(1)
    expected = 0.8 * CLASSIFICATION + 0.2 * float(likelihoods.mean())
    assert float(TwoBranchLoss(label_smoothing=0.2).parts(prediction, target)["classification"]) == pytest.approx(
        expected
    )


def test_an_empty_mask_teaches_its_channel_to_draw_nothing() -> None:
    prediction, target = example()
    prediction["masks"].requires_grad_()
    TwoBranchLoss()(prediction, {**target, "mask": torch.zeros_like(target["mask"])}).backward()
    pushed = prediction["masks"].grad.flatten(2)
    assert (pushed[0, 0] > 0).all() and (pushed[1, 1] > 0).all()  # noqa: PT018
    assert not pushed[0, 1].any() and not pushed[1, 0].any()  # noqa: PT018


def test_dice_stands_beside_the_cross_entropy_of_what_has_an_outline() -> None:
    prediction, target = example()
    p = prediction["masks"].sigmoid()
    first, second = (
        1 - 2 * (p[i, k] * target["mask"][i, 0]).sum() / (p[i, k].sum() + target["mask"][i, 0].sum())
        for i, k in enumerate(target["class"])
    )
    plain, both = (TwoBranchLoss(dice=d).parts(prediction, target)["segmentation"] for d in (0.0, 0.5))
    torch.testing.assert_close(both - plain, 0.5 * (first + second) / 2, rtol=1e-4, atol=1e-5)

    target["mask"] = target["mask"].clone()
    target["mask"][1] = 0
    plain, both = (TwoBranchLoss(dice=d).parts(prediction, target)["segmentation"] for d in (0.0, 0.5))
    torch.testing.assert_close(both - plain, 0.5 * first, rtol=1e-4, atol=1e-5)
    target["mask"][0] = 0
    plain, both = (TwoBranchLoss(dice=d).parts(prediction, target)["segmentation"] for d in (0.0, 0.5))
    assert plain == both


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_classes_are_whole_numbers_of_any_size(dtype: torch.dtype) -> None:
    prediction, target = example()
    expected = TwoBranchLoss()(prediction, target)
    assert TwoBranchLoss()(prediction, target | {"class": target["class"].to(dtype)}) == expected
    with pytest.raises(ValueError, match="class must be whole numbers, got"):
        TwoBranchLoss()(prediction, target | {"class": target["class"].float()})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("masks", torch.zeros(2, 3, 1, 1, 2), r"logits \(B, K\) and masks .*, got .* masks \(2, 3, 1, 1, 2\)$"),
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


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (torch.zeros(2, 4, 8, 8, 8), r"a tensor \(2, 4, 8, 8, 8\)"),
        ({"out": torch.zeros(2, 4)}, r"a dictionary with out \(2, 4\)"),
        ({"logits": torch.zeros(2, 4), "masks": [1]}, r"a dictionary with logits \(2, 4\), masks list"),
        ({}, "a dictionary with nothing"),
        ([torch.zeros(2, 4)], "a list"),
    ],
)
def test_refuses_the_output_of_another_kind_of_network(output: object, found: str) -> None:
    with pytest.raises(ValueError, match=f"^the network must return a dictionary with logits .*, got {found}$"):
        TwoBranchLoss()(output, example()[1])


@pytest.mark.parametrize("name", ["weight", "label_smoothing"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_refuses_other_shares(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must lie in 0\.\.1, got {value}"):
        TwoBranchLoss(**{name: value})


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_refuses_other_factors_of_dice(value: float) -> None:
    with pytest.raises(ValueError, match="dice must be a number >= 0"):
        TwoBranchLoss(dice=value)


def test_shows_its_parameters() -> None:
    assert repr(TwoBranchLoss(0.3, 0.05, 0.5)) == "TwoBranchLoss(weight=0.3, label_smoothing=0.05, dice=0.5)"
