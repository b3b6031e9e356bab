"""Where to look: blobs as large as particles, and scores thinned out."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from monai_cryo.inferers import blob_places, scored_places
from monai_cryo.inferers.binning import binned_blocks


def balls(shape: tuple[int, ...], centres: list[tuple[float, ...]], diameter: float) -> np.ndarray:
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    inside = [sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= diameter**2 / 4 for centre in centres]
    return np.any(inside, axis=0).astype(np.float32)


@pytest.mark.parametrize("bright", [True, False])
def test_particles_are_where_the_first_places_are(bright: bool) -> None:
    centres = [(20, 20, 20), (20, 20, 41), (41, 44, 30)]
    sign = 1 if bright else -1
    noise = np.random.default_rng(0).normal(scale=0.3, size=(61, 64, 67))
    volume = (5 + sign * 2 * balls((61, 64, 67), centres, 16) + noise).astype(np.float32)
    found = blob_places(volume, [16.0], bright=bright)
    nearest = np.linalg.norm(found[:3, None] - np.array(centres), axis=2).min(0)
    assert nearest.max() < 1.5
    assert len(blob_places(volume, [16.0], bright=not bright)) == 0 or not np.allclose(
        blob_places(volume, [16.0], bright=not bright)[0], found[0]
    )


def test_an_odd_face_of_a_volume_with_a_mean_is_no_wall() -> None:
    volume = np.random.default_rng(3).normal(128, 20, size=(41, 60, 60)).astype(np.float32)
    depth = blob_places(volume, [14.0])[:, 0]
    near, far = (depth < 3).sum(), (depth > 37).sum()
    assert near > 5
    assert far < 2 * near


def test_places_found_at_two_sizes_are_listed_once() -> None:
    volume = balls((50, 50, 50), [(24.5, 24.5, 24.5)], 14)
    found = blob_places(volume, [12.0, 16.0], bright=True)
    np.testing.assert_allclose(found[0], [24.5] * 3, atol=1)
    assert np.linalg.norm(found[1:] - found[0], axis=1).min(initial=99) >= 3


def test_nothing_to_look_for_and_nothing_there() -> None:
    assert blob_places(np.ones((20, 20, 20), np.float32), [10.0]).shape == (0, 3)
    assert blob_places(np.ones((20, 20, 20), np.float32), []).shape == (0, 3)
    assert scored_places(np.zeros((4, 4, 4), np.float32), 8, 0.25).shape == (0, 3)


def test_scored_places_are_the_best_ones_apart() -> None:
    scores = np.zeros((6, 6, 6), np.float32)
    scores[2] = 0.5  # a sheet
    scores[2, 3, 3] = 0.9
    scores[5, 5, 5] = 0.2
    found = scored_places(scores, 8, 0.25)
    np.testing.assert_array_equal(found[0], [20, 28, 28])
    assert set(found[:, 0]) == {20}
    distance = np.linalg.norm(found[:, None] - found, axis=2)
    assert distance[~np.eye(len(found), dtype=bool)].min() > 12
    sheet = np.argwhere(scores == 0.5) * 8 + 4
    assert np.linalg.norm(sheet[:, None] - found, axis=2).min(1).max() <= 12  # all of it is near one


def test_blocks_are_the_binned_volume_and_what_lies_around() -> None:
    volume = np.random.default_rng(1).normal(size=(13, 20, 9)).astype(np.float32)
    padded = np.pad(volume, [(0, 1), (0, 0), (0, 1)], mode="edge")
    expected = padded.reshape(7, 2, 10, 2, 5, 2).mean((1, 3, 5))
    result = np.full_like(expected, np.nan)
    for first, block, inner in binned_blocks(volume, 2, core=3):
        core = block[inner]
        result[tuple(slice(f, f + n) for f, n in zip(first, core.shape, strict=True))] = core
        start = [f - i.start for f, i in zip(first, inner, strict=True)]
        around = expected[tuple(slice(s, s + n) for s, n in zip(start, block.shape, strict=True))]
        np.testing.assert_allclose(block, around, atol=1e-6)
        assert max(i.start for i in inner) <= 2
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_places_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    centres = [tuple(c) for c in rng.uniform(8, 82, size=(14, 3))]
    shape = (90, 87, 85)
    volume = (balls(shape, centres, 14) + rng.normal(scale=0.2, size=shape)).astype(np.float32)
    found = blob_places(volume, [11.0, 14.0], bright=True)
    monkeypatch.setattr("monai_cryo.inferers.places.binned_blocks", partial(binned_blocks, core=17))
    assert len(found) > 14
    np.testing.assert_array_equal(blob_places(volume, [11.0, 14.0], bright=True), found)
