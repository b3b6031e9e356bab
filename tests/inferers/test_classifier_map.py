"""The classifier at every place against windows cut out one by one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from monai_cryo.inferers.classifier_map import window_logits
from monai_cryo.networks import TwoBranchNet


def network(norm: str | None = None, stride: int = 1) -> TwoBranchNet:
    torch.manual_seed(0)
    net = TwoBranchNet(num_classes=3, features=(2, 3, 4, 6, 8), fc=(8, 8), norm=norm, stride=stride)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.bias, -1, 1)  # so that zeros outside and inside differ
            torch.nn.init.uniform_(module.running_mean)
    return net.eval()


def third_pool(net: TwoBranchNet, x: torch.Tensor) -> torch.Tensor:
    for stack, pool in zip(net.encoder[:3], (2 // net.stride, 2, 2), strict=True):
        x = F.max_pool3d(stack(x), pool)
    return x


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("norm", [None, "batch"])
@torch.inference_mode()
def test_one_window_is_the_network_itself(norm: str | None, stride: int) -> None:
    net, x = network(norm, stride), torch.randn(2, 1, 40, 40, 40)
    found = window_logits(net, third_pool(net, x))
    assert found.shape == (2, 3, 1, 1, 1)
    torch.testing.assert_close(found.flatten(1), net(x)["logits"])


@pytest.mark.parametrize("norm", [None, "batch"])
@torch.inference_mode()
def test_every_window_is_the_one_cut_from_the_map(norm: str | None) -> None:
    net, cells = network(norm), torch.randn(1, 4, 6, 7, 8)
    found = window_logits(net, cells)
    assert found.shape == (1, 3, 2, 3, 4)
    for k in range(2):
        for j in range(3):
            for i in range(4):
                window = net.encoder[3](cells[..., k : k + 5, j : j + 5, i : i + 5])
                top = net.deepest(F.max_pool3d(window, 2)).amax((2, 3, 4))
                torch.testing.assert_close(found[..., k, j, i], net.classifier(top))


def test_a_map_smaller_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="5 cells of 8 voxels"):
        window_logits(network(), torch.zeros(1, 4, 5, 4, 5))
