"""The plain pickers that the model is compared with find particles that are easy to find."""

from __future__ import annotations

import numpy as np
import pickers
import pytest
from scipy import ndimage

WHERE = np.array([[20.0, 20.0, 20.0], [20.0, 44.0, 30.0], [30.0, 24.0, 60.0]])


@pytest.fixture(scope="module")
def tomogram() -> np.ndarray:
    grids = np.meshgrid(*(np.arange(n) for n in (48, 64, 80)), indexing="ij")
    balls = sum(sum((g - c) ** 2 for g, c in zip(grids, w, strict=True)) <= 36 for w in WHERE)
    noise = np.random.default_rng(0).normal(size=balls.shape)
    return (0.5 * noise - ndimage.gaussian_filter(balls.astype(float), 1)).astype(np.float32)


def test_blobs_of_a_size(tomogram: np.ndarray) -> None:
    places, scores = pickers.blobs(tomogram, 12.0)
    np.testing.assert_allclose(sorted(places[:3].tolist()), sorted(WHERE.tolist()), atol=2)
    assert scores[2] > 2 * scores[3]


def test_one_template(tomogram: np.ndarray) -> None:
    grid = np.arange(24) - 12
    ball = (grid[:, None, None] ** 2 + grid[:, None] ** 2 + grid**2 <= 36).astype(np.float32)
    places, scores = pickers.one_template(tomogram, ball, (-60.0, 60.0), rotations=2)
    np.testing.assert_allclose(sorted(places[:3].tolist()), sorted(WHERE.tolist()), atol=2)
    assert scores[2] > 2 * scores[3]


def test_the_better_of_two_near_peaks() -> None:
    score = np.zeros((20, 20, 20), np.float32)
    score[10, 10, 4], score[10, 10, 10], score[2, 2, 18] = 1, 2, 0.5
    places, values = pickers.peaks(score, 8.0, 10)
    assert places.tolist() == [[10, 10, 10], [2, 2, 18]]
    assert values.tolist() == [2, 0.5]
    assert len(pickers.peaks(score, 8.0, 1)[0]) == 1
