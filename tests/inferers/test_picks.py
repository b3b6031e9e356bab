"""Picks from maps whose particles are known."""

from __future__ import annotations

import numpy as np
import pytest

from monai_cryo.inferers import Reading, pick_particles

CLASSES = ["ribosome", "membrane", "tric"]


def reading(particles: list[tuple[int, tuple[float, ...], float, float]], shape: tuple[int, ...]) -> Reading:
    """Balls (class, centre, diameter, probability) in otherwise empty maps."""
    maps = np.zeros((3, *shape), np.float16)
    labels = np.zeros(shape, np.int8)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    for kind, centre, diameter, probability in particles:
        ball = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= (diameter / 2) ** 2
        maps[kind][ball] = probability
        labels[ball] = kind + 1
    return Reading(list(maps), labels)


def test_particles_are_found_where_they_are() -> None:
    particles = [(0, (20, 20, 20), 20, 0.9), (0, (20, 20, 41.5), 20, 0.7), (2, (21, 45, 30), 14, 0.8)]
    picks = pick_particles(reading(particles, (41, 60, 63)), CLASSES, {"ribosome": 200, "tric": 140}, 10.0)
    assert picks.names == ["ribosome", "tric", "ribosome"]
    np.testing.assert_allclose(picks.index, [particles[0][1], particles[2][1], particles[1][1]], atol=0.5)
    assert (np.diff(picks.scores) < 0).all()
    assert picks.sizes[0] == pytest.approx(np.pi / 6 * 20**3, rel=0.05)
    assert (picks.voxel_size, picks.shape) == (10.0, (41, 60, 63))


def test_segmented_classes_give_no_picks() -> None:
    found = pick_particles(reading([(1, (20, 20, 20), 20, 1.0)], (40, 40, 40)), CLASSES, {"ribosome": 200}, 10.0)
    assert len(found) == 0
    assert found.index.shape == (0, 3)


def test_the_better_of_two_that_cannot_both_be_there() -> None:
    volume = reading([(0, (20, 20, 20), 20, 0.6), (2, (20, 20, 22), 14, 0.9)], (40, 40, 40))
    both = {"ribosome": 200.0, "tric": 140.0}
    assert pick_particles(volume, CLASSES, both, 10.0).names == ["tric"]
    assert sorted(pick_particles(volume, CLASSES, both, 10.0, separation=0.1).names) == ["ribosome", "tric"]


def test_score_and_size_limits() -> None:
    volume = reading([(0, (20, 20, 20), 20, 0.5), (0, (20, 20, 60), 8, 1.0)], (40, 40, 80))
    size = {"ribosome": 200.0}
    assert len(pick_particles(volume, CLASSES, size, 10.0, min_score=0.1, min_size=0.01)) == 2
    assert len(pick_particles(volume, CLASSES, size, 10.0, min_score=0.1)) == 1  # the small one is dust
    assert len(pick_particles(volume, CLASSES, size, 10.0, min_score=0.5)) == 0


def test_refusals() -> None:
    volume = reading([], (8, 8, 8))
    with pytest.raises(ValueError, match="3 classes, got 1"):
        pick_particles(volume, ["ribosome"], {}, 10.0)
    for diameters in ({"nothing": 1.0}, {"ribosome": 0.0}):
        with pytest.raises(ValueError, match="diameters_a must give"):
            pick_particles(volume, CLASSES, diameters, 10.0)
