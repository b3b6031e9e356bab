"""What is drawn of a tomogram: picks and labels where they are, in the sections with most in them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.patches import Circle

from monai_cryo.io import Picks, Tomogram
from monai_cryo.visualize.tomogram import _survey, draw_tomogram


def test_circles_lie_on_their_picks_in_every_section() -> None:
    """Each is as large as its ball is where the section cuts it; the sections are those with most labels."""
    labels = np.zeros((20, 24, 28), np.int8)
    labels[9, 10, 17] = 2
    volume = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32)
    reading = SimpleNamespace(
        tomogram=Tomogram(Path("t.mrc"), volume, 10.0, (0.0, 0.0, 0.0)),
        volume=volume,
        voxel_size=10.0,
        classes=["a", "b"],
        reading=SimpleNamespace(labels=labels),
    )
    picks = Picks(np.array([[9.0, 11.0, 15.0]]), ["b"], np.array([0.9]), np.array([10]), 10.0, labels.shape)
    figure = draw_tomogram(reading, picks, {"b": 80.0})
    found = {
        ax.get_xlabel(): [(patch.center, patch.radius**2) for patch in ax.patches if isinstance(patch, Circle)]
        for ax in figure.axes
    }
    assert found["x-y, z = 9"] == [((15, 11), pytest.approx(16))]
    assert found["z-y, x = 17"] == [((9, 11), pytest.approx(12))]
    assert found["x-z, y = 10"] == [((15, 9), pytest.approx(15))]


def test_the_busiest_sections_of_the_middle_half_and_the_classes_seen() -> None:
    labels = np.random.default_rng(0).integers(-30, 3, size=(20, 24, 28)).clip(0).astype(np.int8)
    labels[2] = 1  # outside the middle half
    labels[9, :, 17] = 2
    busiest, seen = _survey(labels, ["a", "b", "c"])
    for axis, found in enumerate(busiest):
        n = labels.shape[axis]
        counts = np.count_nonzero(np.moveaxis(labels, axis, 0)[n // 4 : n - n // 4], axis=(1, 2))
        assert found == n // 4 + counts.argmax()
    assert seen == ["a", "b"]
    assert _survey(np.zeros((5, 6, 7), np.int8), ["a"]) == ([2, 3, 3], [])
