"""Windows of a tomogram are read like subtomograms, and what they show is put where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from monai_cryo.inferers import WEDGE_FLIPS, WindowInferer
from monai_cryo.networks import TwoBranchNet


def network() -> TwoBranchNet:
    torch.manual_seed(0)
    net = TwoBranchNet(num_classes=3, features=(2, 2, 3, 3, 4), fc=(4, 4), norm="batch")
    with torch.no_grad():
        net.segmenter.layer.bias.zero_()  # masks that cover about half of the voxels
    return net.eval()


def half(windows: torch.Tensor) -> torch.Tensor:
    return 0.5 * windows


def volume() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 60, 70)).astype(np.float32)


@torch.inference_mode()
def answer(net: TwoBranchNet, box: np.ndarray) -> np.ndarray:
    given = net(torch.from_numpy(0.5 * box)[None, None])
    return (given["logits"].softmax(1)[0, :, None, None, None] * given["masks"].sigmoid()[0]).numpy()


def test_a_window_is_what_the_network_says_of_the_subtomogram() -> None:
    net, data = network(), volume()
    reading = WindowInferer(net, threshold=0.25)(data, np.array([[22.4, 30.0, 40.6]]), half)
    box = (slice(2, 42), slice(10, 50), slice(21, 61))
    expected = answer(net, data[box])
    for k, values in enumerate(reading.maps):
        np.testing.assert_allclose(values[box], expected[k], atol=1e-3)
        outside = values.copy()
        outside[box] = 0
        assert not outside.any()
    best = expected.max(0)
    clear = abs(best - 0.25) > 1e-3
    label = np.where(best >= 0.25, expected.argmax(0) + 1, 0)
    assert (reading.labels[box] == label)[clear].mean() > 0.999
    assert 0.01 < (label > 0).mean() < 0.99


def test_sightings_are_the_centres_of_masks() -> None:
    net, data = network(), volume()
    place = np.array([22.0, 30.0, 40.0])
    seen = WindowInferer(net, background=2)(data, place[None], half).sightings
    box = data[2:42, 10:50, 20:60]
    with torch.inference_mode():
        given = net(torch.from_numpy(0.5 * box)[None, None])
    probabilities, masks = given["logits"].softmax(1)[0].numpy(), (given["masks"][0] >= 0).numpy()
    kept = [k for k in range(2) if masks[k].any() and probabilities[k] >= 0.1]
    assert seen.kinds.tolist() == kept
    np.testing.assert_allclose(seen.probabilities, probabilities[kept], rtol=1e-5)
    np.testing.assert_array_equal(seen.sizes, masks[kept].sum((1, 2, 3)))
    expected = [np.argwhere(masks[k]).mean(0) + place - 20 for k in kept]
    np.testing.assert_allclose(seen.places, expected, atol=1e-3)


def test_only_what_shows_something_is_outlined() -> None:
    net, seen = network(), []
    net.segmenter.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[0]))
    with torch.no_grad():
        net.classifier[-1].bias[1] += 30.0
    places = np.array([[25.0, 30, 35], [20, 30, 40]])
    background = WindowInferer(net, background=1)(volume(), places, half)
    assert sum(seen) == 0
    assert not any(values.any() for values in background.maps)
    assert WindowInferer(net)(volume(), places, half).maps[1].any()
    assert sum(seen) == 2


def test_where_windows_meet_the_larger_counts_in_any_order() -> None:
    net, data = network(), volume()
    places = np.array([[20.0, 20, 20], [25, 30, 40], [20, 30, 22]])
    alone = [WindowInferer(net)(data, place[None], half) for place in places]
    for order in ([0, 1, 2], [2, 0, 1]):
        together = WindowInferer(net)(data, places[order], half)
        for k, values in enumerate(together.maps):
            np.testing.assert_allclose(values, np.max([one.maps[k] for one in alone], axis=0), atol=1e-3)


def test_beyond_the_faces_the_tomogram_is_mirrored() -> None:
    net, data = network(), volume()
    reading = WindowInferer(net)(data, np.array([[0.0, 59.0, 35.0]]), half)
    box = np.pad(data, [(20, 20), (20, 20), (0, 0)], mode="symmetric")[0:40, 59:99, 15:55]
    expected = answer(net, box)[:, 20:, :21]
    for k, values in enumerate(reading.maps):
        np.testing.assert_allclose(values[:20, 39:, 15:55], expected[k], atol=1e-3)


def test_a_background_leaves_nothing_and_maps_may_be_files(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def allocate(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
        return np.memmap(tmp_path / name, dtype, "w+", shape=shape)

    places = np.random.default_rng(1).uniform(0, 50, (18, 3))
    named = int(answer(network(), volume()[:40, :40, :40]).max((1, 2, 3)).argmax())
    inferer = WindowInferer(network(), background=named, threshold=0.1)
    reading = inferer(volume(), places, half, allocate=allocate, progress=lambda *n: seen.append(n))
    assert seen == [(16, 18), (18, 18)]
    assert {p.name for p in tmp_path.iterdir()} == {"map_0", "map_1", "map_2", "labels"}
    assert not reading.maps[named].any()
    assert named + 1 not in reading.labels
    assert reading.labels.any()
    nothing = inferer(volume(), np.empty((0, 3)), half)
    assert not nothing.labels.any()


def test_flips_are_averaged() -> None:
    net, data = network(), volume()
    place = np.array([[25.0, 30, 35]])
    box = (slice(5, 45), slice(10, 50), slice(15, 55))
    flipped = WindowInferer(net, flips=True)(data, place, half)
    parts = []
    with torch.inference_mode():
        for axes in WEDGE_FLIPS:
            given = net(torch.from_numpy(0.5 * data[box])[None, None].flip(axes))
            parts.append((given["logits"].softmax(1), given["masks"].sigmoid().flip(axes)))
    classes, masks = (torch.stack(part).mean(0)[0].numpy() for part in zip(*parts, strict=True))
    for k, values in enumerate(flipped.maps):
        np.testing.assert_allclose(values[box], classes[k] * masks[k], atol=1e-3)


def test_a_threshold_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"threshold must lie in 0\.\.1, got 2"):
        WindowInferer(network(), threshold=2)
