"""Boxes are read into one tensor, whatever of the two forms a network answers in."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_cryo.inferers import WEDGE_FLIPS, BoxInferer, FlipInferer
from monai_cryo.networks import TwoBranchNet, TwoBranchTensorNet

SMALL = {"num_classes": 3, "features": (2, 2, 2, 4, 4), "fc": (4, 4)}


def networks() -> tuple[TwoBranchNet, TwoBranchTensorNet]:
    torch.manual_seed(0)
    two, one = TwoBranchNet(**SMALL).eval(), TwoBranchTensorNet(**SMALL).eval()
    one.load_state_dict(two.state_dict())
    return two, one


@pytest.mark.parametrize("flips", [False, True])
def test_both_forms_are_read_alike(flips: bool) -> None:
    two, one = networks()
    x = MetaTensor(torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        answer = BoxInferer(flips)(x, two)
        torch.testing.assert_close(answer, BoxInferer(flips)(x, one))
        classes, mask = TwoBranchTensorNet.decode(answer)
        seen = [two(x.as_tensor().flip(axes)) for axes in (WEDGE_FLIPS if flips else ((),))]
        mean = torch.stack([a["logits"].softmax(1) for a in seen]).mean(0)
        torch.testing.assert_close(classes, mean)
        drawn = [a["masks"].sigmoid().flip(axes) for a, axes in zip(seen, WEDGE_FLIPS, strict=False)]
        torch.testing.assert_close(mask[:, 0], torch.stack(drawn).mean(0)[[0, 1], mean.argmax(1)])


def test_an_evaluator_scores_the_averages() -> None:
    two, _ = networks()
    two.classifier[-1].bias.data[1] = -torch.inf  # a class told absent
    x = MetaTensor(torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        answer = FlipInferer()(x, two)
        seen = [two(x.as_tensor().flip(axes)) for axes in WEDGE_FLIPS]
    assert type(answer["masks"]) is Tensor
    mean = torch.stack([a["logits"].softmax(1) for a in seen]).mean(0)
    torch.testing.assert_close(answer["logits"].softmax(1), mean)
    assert float(answer["logits"][:, 1].max()) == -torch.inf
    drawn = [a["masks"].sigmoid().flip(axes) for a, axes in zip(seen, WEDGE_FLIPS, strict=True)]
    torch.testing.assert_close(answer["masks"].sigmoid(), torch.stack(drawn).mean(0))


class Lone(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def test_one_tensor_alone_cannot_be_averaged() -> None:
    x = torch.zeros(1, 1, 8, 8, 8)
    assert BoxInferer()(x, Lone()) is x
    with pytest.raises(ValueError, match="must return a dictionary with logits"):
        BoxInferer(flips=True)(x, Lone())
