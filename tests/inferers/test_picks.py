"""Picks from sightings of particles that are known."""

from __future__ import annotations

import numpy as np
import pytest

from monai_cryo.inferers import Reading, Sightings, pick_particles

CLASSES = ["ribosome", "membrane", "tric"]
FULL = round(np.pi / 6 * 20**3)
SIZES = {"ribosome": 200.0, "tric": 140.0}


def reading(sightings: list[tuple[int, tuple[float, ...], float, int]], shape: tuple[int, ...] = (41, 60, 63)):
    """What windows showed: class, centre, probability and size of masks."""
    kinds, places, probabilities, sizes = zip(*sightings, strict=True) if sightings else ([], [], [], [])
    seen = Sightings(
        np.array(places, float).reshape(-1, 3), np.array(kinds, int), np.array(probabilities), np.array(sizes, int)
    )
    empty = [np.zeros(shape, np.float16)] * len(CLASSES)
    return Reading(empty, np.zeros(shape, np.int8), seen)


def test_a_particle_is_where_the_surest_window_shows_it() -> None:
    seen = [
        (0, (20, 20, 20), 0.9, FULL),
        (0, (22, 20, 20), 0.8, FULL),  # the same one, from aside
        (0, (20, 20, 41.5), 0.7, 3000),
        (2, (21, 45, 30), 0.8, 1000),
    ]
    picks = pick_particles(reading(seen), CLASSES, SIZES, 10.0)
    assert picks.names == ["ribosome", "tric", "ribosome"]
    np.testing.assert_array_equal(picks.index, [seen[0][1], seen[3][1], seen[2][1]])
    assert picks.scores.tolist() == [0.9, 0.8, 0.7]
    assert picks.sizes.tolist() == [FULL, 1000, 3000]
    assert (picks.voxel_size, picks.shape) == (10.0, (41, 60, 63))


def test_neighbours_that_touch_are_two() -> None:
    seen = [(0, (20, 20, 20), 0.9, FULL), (0, (20, 20, 34), 0.6, FULL), (0, (20, 20, 27), 0.5, FULL)]
    found = pick_particles(reading(seen), CLASSES, SIZES, 10.0)
    np.testing.assert_array_equal(found.index, [seen[0][1], seen[1][1]])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_a_face_cuts_is_no_particle(axis: int) -> None:
    shape = (41, 60, 63)
    for off, there in ((-0.5, False), (1.9, False), (2.1, True)):
        for mirrored in (False, True):
            place = [20.0, 20.0, 20.0]
            place[axis] = shape[axis] - 1 - off if mirrored else off
            assert len(pick_particles(reading([(0, tuple(place), 0.9, FULL)]), CLASSES, SIZES, 10.0)) == there


def test_segmented_classes_give_no_picks() -> None:
    for seen in ([], [(1, (20, 20, 20), 1.0, FULL)]):
        found = pick_particles(reading(seen), CLASSES, SIZES, 10.0)
        assert len(found) == 0
        assert found.index.shape == (0, 3)


def test_the_better_of_two_that_cannot_both_be_there() -> None:
    both = reading([(0, (20, 20, 20), 0.6, FULL), (2, (20, 20, 22), 0.9, 1400)])
    assert pick_particles(both, CLASSES, SIZES, 10.0).names == ["tric"]
    assert sorted(pick_particles(both, CLASSES, SIZES, 10.0, separation=0.1).names) == ["ribosome", "tric"]


def test_score_and_size_limits() -> None:
    seen = reading([(0, (20, 20, 20), 0.5, FULL), (0, (20, 20, 60), 1.0, FULL // 16)])
    assert len(pick_particles(seen, CLASSES, SIZES, 10.0, min_score=0.1, min_size=0.01)) == 2
    assert len(pick_particles(seen, CLASSES, SIZES, 10.0, min_score=0.1)) == 1  # the small one is dust
    assert len(pick_particles(seen, CLASSES, SIZES, 10.0, min_score=0.6)) == 0


def test_refusals() -> None:
    with pytest.raises(ValueError, match="3 classes, got 1"):
        pick_particles(reading([]), ["ribosome"], {}, 10.0)
    for diameters in ({"nothing": 1.0}, {"ribosome": 0.0}):
        with pytest.raises(ValueError, match="diameters_a must give"):
            pick_particles(reading([]), CLASSES, diameters, 10.0)
