"""CTF against the closed form and against acryo."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_cryo.physics import ctf, wiener_gain

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


def test_batch_equals_single():
    f = torch.linspace(0, 0.04, 64)
    defocus = torch.tensor([1.0, 4.0, 12.0])
    batch = ctf(f, defocus, cs_mm=torch.tensor([1.5, 2.0, 3.0]))
    assert batch.shape == (3, 64)
    torch.testing.assert_close(batch[1], ctf(f, 4.0, cs_mm=2.0))


@pytest.mark.parametrize(("strength", "falloff", "voxel_size"), [(1.0, 1.0, 10.0), (0.7, 1.3, 13.68), (1.2, 0.5, 4.0)])
def test_wiener_gain_is_warps_formula(strength, falloff, voxel_size):
    w = np.linspace(1e-3, 1, 400)
    transfer = closed_form(w / (2 * voxel_size), 3.0, 2.7, 300, 0.07, 0, 0)
    rise = 1 - np.cos(np.minimum(1, w / 0.02) * np.pi)
    snr = np.exp(-w * falloff * 100 / voxel_size) * 10 ** (3 * strength) * rise
    expected = transfer / (transfer**2 + 1 / snr)
    got = wiener_gain(torch.tensor(transfer), torch.tensor(w), voxel_size, strength=strength, falloff=falloff)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_a_wiener_gain_of_any_strength_divides_by_the_ctf():
    w = torch.linspace(0.1, 0.3, 50)
    transfer = ctf(w / 20, 1.0)
    torch.testing.assert_close(wiener_gain(transfer, w, 10.0, strength=200.0), 1 / transfer)


def test_wiener_gain_is_finite_everywhere_and_takes_batches():
    w = torch.linspace(0, 1.7, 50)
    transfer = ctf(w / 20, torch.tensor([0.0, 3.0]), amplitude_contrast=0.0)
    falloff = torch.tensor([1.0, 1000.0])
    gain = wiener_gain(transfer, w, 10.0, falloff=falloff)
    assert gain.shape == (2, 50)
    assert bool(gain.isfinite().all())
    assert not gain[:, 0].any()  # the mean is no signal
    torch.testing.assert_close(gain[0], wiener_gain(transfer[0], w, 10.0))


def test_differentiable_in_defocus():
    defocus = torch.tensor([2.0], requires_grad=True)
    ctf(torch.linspace(0, 0.04, 32), defocus).square().sum().backward()
    assert torch.isfinite(defocus.grad).all()
    assert defocus.grad.abs() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
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
