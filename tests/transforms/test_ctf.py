"""CTF as a transform: contrast, what processing makes of signal and noise, ranges, refusals that explain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.physics import ctf, radial_frequency, wiener_gain
from monai_cryo.physics.fourier import irfft, rfft

VOXEL = 13.68
MODES = ("raw", "flip", "squared", "wiener")


def particle(n=20):
    v = torch.zeros(1, n, n, n)
    z, y, x = torch.meshgrid(*[torch.arange(n) - n // 2] * 3, indexing="ij")
    inside = (z / 6) ** 2 + (y / 5) ** 2 + (x / 4) ** 2 < 1
    v[:, inside] = 1 + 0.3 * torch.sin(2.0 * z[inside])
    return v


def gains(defocus_um, n=20):
    """CTF as recorded, and what each mode multiplies the recorded image with, on the half grid."""
    frequency = radial_frequency((n, n, n), VOXEL)
    raw = ctf(frequency, defocus_um)
    return raw, {
        "raw": torch.ones_like(raw),
        "flip": torch.where(raw < 0, -1.0, 1.0),
        "squared": raw,
        "wiener": wiener_gain(raw, frequency * 2 * VOXEL, VOXEL),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("contrast", "sign"), [("dark", -1), ("bright", 1)])
def test_modes_in_closed_form(mode, contrast, sign):
    v = particle()
    raw, gain = gains(8.0)
    assert bool((raw < 0).any())
    got = T.CTF(8.0, voxel_size=VOXEL, mode=mode, contrast=contrast)(v)
    torch.testing.assert_close(got, irfft(rfft(v) * sign * raw * gain[mode], v.shape), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stage", ["before", "after"])
def test_noise_passes_the_processing_whenever_it_came(mode, stage):
    """Ahead of the microscope it passes CTF and processing, behind it the processing alone."""
    v, noise, optics = particle(), T.RandSNR(), T.CTF(8.0, voxel_size=VOXEL, mode=mode)
    drawn = {"snr": 0.5, "stage": stage, "power_law": 0.0, "lowpass": None, "seed": 3}
    raw, gain = gains(8.0)
    recorded = irfft(-rfft(v) * raw, v.shape)
    if stage == "before":
        grain = rfft(noise.apply(v[None], [drawn])[0] - v) * -raw
    else:
        grain = rfft(noise.apply(recorded[None], [drawn])[0] - recorded)
    expected = irfft((rfft(recorded) + grain) * gain[mode], v.shape)
    box = T.FourierCompose([noise, optics])
    got = box.apply(v[None], [{"RandSNR": drawn, "CTF": optics.draw(np.random.RandomState(0))}])[0]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("contrast", ["dark", "bright"])
def test_the_contrast_is_always_the_one_named(mode, contrast):
    v = particle()
    out = T.CTF(3.0, voxel_size=VOXEL, mode=mode, contrast=contrast)(v)
    assert bool(out[v > 0].mean() < out[v == 0].mean()) == (contrast == "dark")


def test_pure_amplitude_contrast_changes_at_most_the_sign():
    flat = {"defocus_um": 0.0, "cs_mm": 0.0, "amplitude_contrast": 1.0, "voxel_size": VOXEL}
    torch.testing.assert_close(T.CTF(**flat, contrast="bright")(particle()), particle())
    torch.testing.assert_close(T.CTF(**flat)(particle()), -particle())


def test_modes_are_drawn_with_their_weights():
    transform = T.RandCTF(mode={"raw": 0.45, "flip": 0.4, "squared": 0.15}, voxel_size=VOXEL)
    state = np.random.RandomState(0)
    drawn = [transform.draw(state)["mode"] for _ in range(4000)]
    for mode, share in (("raw", 0.45), ("flip", 0.4), ("squared", 0.15)):
        assert drawn.count(mode) / 4000 == pytest.approx(share, abs=0.03)
    assert set(drawn) == {"raw", "flip", "squared"}


def test_weights_of_any_sum_and_plain_lists():
    state = np.random.RandomState(0)
    scaled = T.RandCTF(mode={"raw": 3, "flip": 1, "wiener": 0})
    drawn = [scaled.draw(state)["mode"] for _ in range(1000)]
    assert drawn.count("raw") / 1000 == pytest.approx(0.75, abs=0.05)
    assert "wiener" not in drawn
    even = [T.RandCTF(mode=("raw", "flip")).draw(state)["mode"] for _ in range(1000)]
    assert even.count("raw") / 1000 == pytest.approx(0.5, abs=0.05)


def test_ranges_are_the_papers():
    transform, state = T.RandCTF(), np.random.RandomState(0)
    drawn = [transform.draw(state) for _ in range(2000)]
    for name, low, high in (("defocus_um", 0, 12), ("cs_mm", 1.5, 3.0)):
        values = [d[name] for d in drawn]
        assert (min(values), max(values)) == pytest.approx((low, high), abs=0.05)
    assert {d["voltage_kv"] for d in drawn} == {300.0}


def test_deconvolution_is_drawn_where_it_is_used():
    drawn = T.RandCTF(mode="wiener", deconvolution_strength=(0.5, 1.0)).draw(np.random.RandomState(0))
    assert 0.5 < drawn["deconvolution_strength"] < 1.0
    assert "deconvolution_strength" not in T.RandCTF().draw(np.random.RandomState(0))


@pytest.mark.parametrize("value", [30000, (-12, 0), (0, 60), -2.0])
def test_angstroms_and_the_papers_sign_are_refused_with_the_reason(value):
    with pytest.raises(ValueError, match=r"defocus_um must lie in 0\.\.50 µm of underfocus, got") as error:
        T.RandCTF(value)
    assert "Δz of -12..0 µm is (0, 12), and 30000 Å are 3" in str(error.value)
    if not isinstance(value, tuple):
        with pytest.raises(ValueError, match=r"defocus_um must lie in 0\.\.50 µm"):
            T.CTF(value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandCTF((6, 1)), "defocus_um must have min <= max"),
        (lambda: T.RandCTF(amplitude_contrast=2), "amplitude_contrast must lie in"),
        (lambda: T.RandCTF(cs_mm=(-1, 2)), "cs_mm must lie in"),
        (lambda: T.RandCTF(mode="abs"), "mode must be one or several of raw, flip, squared, wiener, got 'abs'"),
        (lambda: T.RandCTF(mode={"raw": 0}), "weights of mode must be numbers >= 0 with a positive sum"),
        (lambda: T.RandCTF(mode={"raw": -1, "flip": 3}), "weights of mode must be numbers >= 0"),
        (lambda: T.CTF(1.0, mode="abs"), "mode must be one of raw, flip, squared, wiener, got 'abs'"),
        (lambda: T.CTF(1.0, contrast="grey"), "contrast must be dark or bright"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
