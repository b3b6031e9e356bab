"""Whole volumes classified in blocks: the same wherever blocks begin, and as windows on their places are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from monai_cryo.inferers import DenseInferer, standardize_whole
from monai_cryo.networks import TwoBranchNet


def network(norm: object = "batch", stride: int = 1) -> TwoBranchNet:
    torch.manual_seed(0)
    return TwoBranchNet(num_classes=3, features=(2, 2, 3, 3, 4), fc=(4, 4), norm=norm, stride=stride).eval()  # type: ignore[arg-type]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(2.0, 3.0, shape).astype(np.float32)


@pytest.mark.parametrize("resolution", [1, 2])
def test_the_size_of_cores_changes_nothing(resolution: int) -> None:
    volume, net = noise(16, 14, 30), network(stride=resolution)
    for stride, cores in ((8, (32, 8)), (4, (32, 16))):
        whole, parts = (DenseInferer(net, core=core, stride=stride)(volume) for core in cores)
        np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert whole.std(axis=(1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize("resolution", [1, 2])
def test_scores_are_those_of_windows_on_their_centres(resolution: int) -> None:
    volume, net = noise(24, 16, 32), network(stride=resolution)
    standard = standardize_whole(volume)(torch.from_numpy(volume))
    around = torch.nn.functional.pad(standard, [64] * 6)
    for stride in (8, 4):
        scores = DenseInferer(net, core=32, stride=stride)(volume)
        assert scores.shape == (3, 24 // stride, 16 // stride, 32 // stride)
        for index in [(0, 0, 0), (2, 1, 3)]:
            # a wide box around the window, on its grid of 8: what `window_logits` is tested on
            start = [64 + i * stride + stride // 2 - 20 - 24 for i in index]
            wide = around[tuple(slice(s, s + 88) for s in start)][None, None]
            with torch.inference_mode():
                found = _centre_window(net, wide)
            np.testing.assert_allclose(scores[(slice(None), *index)], found, atol=1e-5)


def _centre_window(net: TwoBranchNet, wide: torch.Tensor) -> np.ndarray:
    x = wide
    for stack, pool in zip(net.encoder[:3], (2 // net.stride, 2, 2), strict=True):
        x = torch.nn.functional.max_pool3d(stack(x), pool)
    x = net.encoder[3](x[..., 3:8, 3:8, 3:8])
    top = net.deepest(torch.nn.functional.max_pool3d(x, 2)).amax((2, 3, 4))
    return net.classifier(top)[0].softmax(0).numpy()


def test_memory_maps_and_progress(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", noise(40, 20, 20))
    volume = np.load(tmp_path / "v.npy", mmap_mode="r")
    seen: list[tuple[int, int]] = []
    inferer = DenseInferer(network(), core=32)
    scores = inferer(volume, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    assert inferer.blocks(volume.shape) == 2
    np.testing.assert_array_equal(scores, DenseInferer(network(), core=32)(np.array(volume)))


def test_standardisation_is_measured_on_the_whole() -> None:
    volume = noise(20, 20, 20)
    block = standardize_whole(volume)(torch.from_numpy(volume))
    assert float(block.mean()) == pytest.approx(0, abs=1e-5)
    assert float(block.std(correction=0)) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="one value everywhere"):
        standardize_whole(np.full((4, 4, 4), 3.0))
    volume[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        standardize_whole(volume)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"core": 44}, "core must be a multiple of 8"),
        ({"core": 0}, "core must be"),
        ({"stride": 3}, "stride must be 2, 4 or 8"),
    ],
)
def test_refused_arguments(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenseInferer(network(), **arguments)  # type: ignore[arg-type]


def test_refused_networks_and_volumes() -> None:
    for norm in ("instance", ("group", {"num_groups": 1})):
        with pytest.raises(ValueError, match="batch normalisation or none"):
            DenseInferer(network(norm))
    with pytest.raises(ValueError, match=r"expected a volume \(z, y, x\)"):
        DenseInferer(network())(noise(4, 4))
    with pytest.raises(ValueError, match="training mode"):
        DenseInferer(network().train())(noise(4, 4, 4))


def test_flips_make_mirror_images_alike() -> None:
    volume, net = noise(16, 16, 32), network()
    scores = DenseInferer(net, core=32, flips=True)(volume)
    assert np.abs(scores - DenseInferer(net, core=32)(volume)).max() > 1e-3
    for axes in ((1,), (0, 2)):
        turned = DenseInferer(net, core=32, flips=True)(np.flip(volume, axes).copy())
        np.testing.assert_allclose(np.flip(turned, [a + 1 for a in axes]), scores, atol=1e-5)
    other = DenseInferer(net, core=32, flips=True)(np.flip(volume, 2).copy())  # a wedge of unequal ends is another one
    assert np.abs(np.flip(other, 3) - scores).max() > 1e-3
