"""Where to look: blobs as large as particles, and scores thinned out."""

from __future__ import annotations

import numpy as np
import pytest

from monai_cryo.inferers import blob_places, scored_places


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
