"""Whole volumes read in blocks: the same wherever blocks begin, and where a particle is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from monai_cryo.inferers import DenseInferer, standardize_whole
from monai_cryo.networks import TwoBranchNet


def network(norm: object = "batch") -> TwoBranchNet:
    torch.manual_seed(0)
    net = TwoBranchNet(num_classes=3, features=(2, 2, 3, 3, 4), fc=(4, 4), norm=norm)  # type: ignore[arg-type]
    with torch.no_grad():
        net.segmenter.layer.bias.zero_()  # masks that cover about half of the voxels
    return net.eval()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(2.0, 3.0, shape).astype(np.float32)


def test_the_size_of_cores_changes_nothing() -> None:
    volume, net = noise(16, 14, 30), network()
    whole, parts = DenseInferer(net, core=32)(volume), DenseInferer(net, core=16)(volume)
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-5)
    for a, b in zip(parts.maps, whole.maps, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
    assert (parts.labels == whole.labels).mean() > 0.99


def test_scores_are_those_of_windows_on_their_centres() -> None:
    volume, net = noise(24, 16, 32), network()
    standard = standardize_whole(volume)(torch.from_numpy(volume))
    around = torch.nn.functional.pad(standard, [64] * 6)
    for stride in (8, 4):
        reading = DenseInferer(net, core=32, stride=stride)(volume)
        assert reading.scores.shape == (3, 24 // stride, 16 // stride, 32 // stride)
        for index in [(0, 0, 0), (2, 1, 3)]:
            # a wide box around the window, on its grid of 8: what `window_logits` is tested on
            start = [64 + i * stride + stride // 2 - 20 - 24 for i in index]
            wide = around[tuple(slice(s, s + 88) for s in start)][None, None]
            with torch.inference_mode():
                found = _centre_window(net, wide)
            np.testing.assert_allclose(reading.scores[(slice(None), *index)], found, atol=1e-5)


def _centre_window(net: TwoBranchNet, wide: torch.Tensor) -> np.ndarray:
    x = wide
    for stack in net.encoder[:3]:
        x = torch.nn.functional.max_pool3d(stack(x), 2)
    x = net.encoder[3](x[..., 3:8, 3:8, 3:8])
    top = net.deepest(torch.nn.functional.max_pool3d(x, 2)).amax((2, 3, 4))
    return net.classifier(top)[0].softmax(0).numpy()


def test_masks_are_the_networks_own() -> None:
    volume, net = noise(32, 32, 32), network()
    reading = DenseInferer(net, core=32)(volume, lambda _: lambda block: block)
    around = torch.nn.functional.pad(torch.from_numpy(volume), [48] * 6)
    with torch.inference_mode():
        masks = net(around[None, None])["masks"][0, :, 48:-48, 48:-48, 48:-48].sigmoid().numpy()
    scores = reading.scores.repeat(8, 1).repeat(8, 2).repeat(8, 3)
    inside = (slice(None), *[slice(4, None, 8)] * 3)  # near the windows' centres interpolation changes little
    found = np.stack(reading.maps)[inside] / scores[inside]
    assert np.corrcoef(found.ravel(), masks[inside].ravel())[0, 1] > 0.98
    label, maps = reading.labels, np.stack(reading.maps).astype(np.float32)
    top = maps.argmax(0)
    chosen = np.take_along_axis(masks, top[None], 0)[0]
    # but for ties of float16
    assert (label == np.where(chosen >= 0.5, top + 1, 0)).mean() > 0.99
    assert len(np.unique(label)) > 1


def test_a_background_class_has_scores_but_no_voxels() -> None:
    reading = DenseInferer(network(), core=32, background=1)(noise(24, 24, 24))
    assert reading.scores[1].min() > 0
    assert not reading.maps[1].any()
    assert not (reading.labels == 2).any()


def test_memory_maps_and_progress(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", noise(40, 20, 20))
    volume = np.load(tmp_path / "v.npy", mmap_mode="r")
    seen: list[tuple[int, int]] = []

    def allocate(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
        return np.memmap(tmp_path / name, dtype, "w+", shape=shape)

    reading = DenseInferer(network(), core=32)(
        volume, allocate=allocate, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 2), (2, 2)]
    assert {p.name for p in tmp_path.iterdir()} == {"v.npy", "map_0", "map_1", "map_2", "labels"}
    np.testing.assert_array_equal(reading.labels, DenseInferer(network(), core=32)(np.array(volume)).labels)


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
        ({"core": 40}, "core must be a multiple of 16"),
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
    reading = DenseInferer(net, core=32, flips=True)(volume)
    single = DenseInferer(net, core=32)(volume)
    assert np.abs(reading.scores - single.scores).max() > 1e-3
    for axes in ((1,), (0, 2)):
        turned = DenseInferer(net, core=32, flips=True)(np.flip(volume, axes).copy())
        around = tuple(a + 1 for a in axes)
        np.testing.assert_allclose(np.flip(turned.scores, around), reading.scores, atol=1e-5)
        np.testing.assert_allclose(np.flip(np.stack(turned.maps), around), np.stack(reading.maps), atol=1e-3)
    other = DenseInferer(net, core=32, flips=True)(np.flip(volume, 2).copy())  # a wedge of unequal ends is another one
    assert np.abs(np.flip(other.scores, 3) - reading.scores).max() > 1e-3
