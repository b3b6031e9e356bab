"""CTF against the closed form and against acryo."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_cryo.physics import ctf

H, C, M0, E = 6.62607015e-34, 299792458.0, 9.1093837015e-31, 1.602176634e-19


def closed_form(f, defocus_um, cs_mm, kv, contrast, shift_deg, b_factor):
    """Textbook formula in float64; wavelength from the constants."""
    ev = E * kv * 1e3
    wavelength = H * C / math.sqrt(ev * (2 * M0 * C**2 + ev)) * 1e10
    chi = math.pi * wavelength * defocus_um * 1e4 * f**2 - math.pi / 2 * cs_mm * 1e7 * wavelength**3 * f**4
    return np.sin(chi + math.radians(shift_deg) + math.asin(contrast)) * np.exp(-b_factor * f**2 / 4)


@pytest.mark.parametrize("defocus_um", [-2.0, 0.0, 1.9, 12.0])
@pytest.mark.parametrize(
    ("cs_mm", "kv", "contrast", "shift_deg", "b_factor"), [(2.7, 300, 0.07, 0, 0), (0.0, 200, 0.1, 60, 900)]
)
def test_closed_form(defocus_um, cs_mm, kv, contrast, shift_deg, b_factor):
    f = np.linspace(0, math.sqrt(3) / 27.36, 500)
    got = ctf(
        torch.as_tensor(f, dtype=torch.float32),
        defocus_um,
        cs_mm=cs_mm,
        voltage_kv=kv,
        amplitude_contrast=contrast,
        phase_shift_deg=shift_deg,
        b_factor_a2=b_factor,
    )
    np.testing.assert_allclose(got, closed_form(f, defocus_um, cs_mm, kv, contrast, shift_deg, b_factor), atol=1e-5)


@pytest.mark.parametrize("defocus_um", [0.5, 1.9, 6.0])
def test_acryo(defocus_um):
    acryo = pytest.importorskip("acryo.ctf")
    f = np.linspace(0, 1 / 27.36, 300).astype(np.float32)
    theirs = acryo.CTFModel.from_kv(300, 2.7, -defocus_um, bfactor=5.0, amplitude=0.07).simulate(f * 10)
    ours = ctf(torch.from_numpy(f), defocus_um, cs_mm=2.7, b_factor_a2=500.0)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_pure_amplitude_contrast_without_aberration_changes_nothing():
    f = torch.linspace(0, 0.1, 50)
    torch.testing.assert_close(ctf(f, 0.0, cs_mm=0.0, amplitude_contrast=1.0), torch.ones(50))


def test_the_papers_cs_range_is_a_no_op_at_its_voxel_size():
    f = torch.linspace(0, 1 / 27.36, 300)
    assert (ctf(f, 12.0, cs_mm=1.5) - ctf(f, 12.0, cs_mm=3.0)).abs().max() < 4e-4


def test_batch_equals_single_and_magnitude_modes():
    f = torch.linspace(0, 0.04, 64)
    defocus = torch.tensor([1.0, 4.0, 12.0])
    batch = ctf(f, defocus, cs_mm=torch.tensor([1.5, 2.0, 3.0]))
    assert batch.shape == (3, 64)
    torch.testing.assert_close(batch[1], ctf(f, 4.0, cs_mm=2.0))
    for mode in ("flip", "abs"):
        torch.testing.assert_close(ctf(f, 4.0, cs_mm=2.0, mode=mode), batch[1].abs())


def test_differentiable_in_defocus():
    defocus = torch.tensor([2.0], requires_grad=True)
    ctf(torch.linspace(0, 0.04, 32), defocus).square().sum().backward()
    assert torch.isfinite(defocus.grad).all()
    assert defocus.grad.abs() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "magic"}, "CTF mode must be one of raw, flip, abs, got 'magic'"),
        ({"amplitude_contrast": 1.5}, "amplitude_contrast must lie in 0..1"),
        ({"voltage_kv": 0.0}, "voltage_kv must lie in"),
        ({"cs_mm": -1.0}, "cs_mm must lie in"),
        ({"b_factor_a2": float("nan")}, "b_factor_a2 must lie in"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        ctf(torch.zeros(3), 1.0, **options)


def test_astigmatism_is_refused():
    with pytest.raises(ValueError, match="astigmatism"):
        ctf(torch.zeros(3), (1.0, 1.2))
