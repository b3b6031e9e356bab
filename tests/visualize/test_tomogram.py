"""What is drawn of a tomogram: the sections with most in them."""

from __future__ import annotations

import numpy as np

from monai_cryo.visualize.tomogram import _survey


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
