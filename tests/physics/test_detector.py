"""Detector curves."""

from __future__ import annotations

import math

import pytest
import torch

from monai_cryo.physics import curve_mtf, sinc_mtf


def test_sinc_closed_form():
    w = torch.linspace(1e-3, 1, 40, dtype=torch.float64)
    x = math.pi * w / 2
    torch.testing.assert_close(sinc_mtf(w * 0.05, 0.05), x.sin() / x)
    assert sinc_mtf(torch.tensor(0.05), 0.05) == pytest.approx(2 / math.pi)
    assert sinc_mtf(torch.tensor(0.0), 0.05) == 1
    torch.testing.assert_close(sinc_mtf(w * 0.05, 0.05, 0.0), torch.ones_like(w))


def test_curve_is_interpolated_and_held_at_its_ends():
    curve = [[0.1, 1.0], [0.5, 0.6], [1.0, 0.2]]
    got = curve_mtf(torch.tensor([0.0, 0.01, 0.03, 0.05, 0.08]), 0.1, curve)
    torch.testing.assert_close(got, torch.tensor([1.0, 1.0, 0.8, 0.6, 0.36]))
    at_knots = curve_mtf(torch.tensor([0.01, 0.05, 0.1]), 0.1, curve)
    torch.testing.assert_close(at_knots, torch.tensor([1.0, 0.6, 0.2]))


@pytest.mark.parametrize("curve", [[[0.0, 1.0]], [[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]], [[0.5, 1.0], [0.1, 0.5]]])
def test_refuses_what_is_no_curve(curve):
    with pytest.raises(ValueError, match="an MTF curve"):
        curve_mtf(torch.zeros(3), 0.1, curve)


def test_refuses_negative_scale():
    with pytest.raises(ValueError, match="scale must be >= 0"):
        sinc_mtf(torch.zeros(3), 0.1, -1.0)
