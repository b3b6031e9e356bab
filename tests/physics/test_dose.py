"""Radiation damage: which tilt has taken what, and what is left of its amplitude."""

from __future__ import annotations

import math

import pytest
import torch

from monai_cryo.physics import cumulative_dose, dose_attenuation


def test_dose_by_order():
    symmetric = cumulative_dose([-6.0, -3.0, 0.0, 3.0, 6.0], 2.0)
    assert symmetric.tolist() == [7.0, 3.0, 1.0, 5.0, 9.0]
    assert cumulative_dose([-6.0, -3.0, 0.0], 2.0, "sequential").tolist() == [1.0, 3.0, 5.0]
    assert cumulative_dose([[0.0, 3.0]] * 2, torch.tensor([1.0, 2.0])).tolist() == [[0.5, 1.5], [1.0, 3.0]]


def test_attenuation():
    f = torch.tensor([0.0, 1 / 30, 1 / 4], dtype=torch.float64)
    got = dose_attenuation(f, torch.tensor([0.0, 10.0, 100.0]))
    assert got.shape == (3, 3)
    assert got[:, 0].tolist() == [1.0, 1.0, 1.0]
    assert got[0].tolist() == [1.0, 1.0, 1.0]
    critical = 0.245 * (1 / 4) ** -1.665 + 2.81
    assert float(got[1, 2]) == pytest.approx(math.exp(-10 / (2 * critical)))
    assert bool((got[1:].diff(dim=1) < 0).all())


def test_refusals():
    with pytest.raises(ValueError, match="tilt order must be one of dose_symmetric, sequential, got 'random'"):
        cumulative_dose([0.0], 1.0, "random")
    with pytest.raises(ValueError, match="dose_e_a2 must be >= 0"):
        dose_attenuation(torch.ones(1), -1.0)
