"""The half grid: frequencies, Parseval, reality, shells, spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_cryo.physics import apply_transfer, frequency_grid, frequency_shells, radial_frequency, radial_power_spectrum
from monai_cryo.physics.fourier import multiplicity, rfft, spread, voxel_size_zyx
from monai_cryo.physics.noise import band_points, spectrum_variance

SHAPES = st.tuples(*[st.integers(3, 9)] * 3)
VOXELS = st.tuples(*[st.floats(1.0, 20.0)] * 3)


@settings(max_examples=30, deadline=None)
@given(SHAPES, VOXELS)
def test_grid_is_numpys(shape, voxel_size):
    fz, fy, fx = frequency_grid(shape, voxel_size, dtype=torch.float64)
    np.testing.assert_allclose(fz.flatten(), np.fft.fftfreq(shape[0], voxel_size[0]))
    np.testing.assert_allclose(fy.flatten(), np.fft.fftfreq(shape[1], voxel_size[1]))
    np.testing.assert_allclose(fx.flatten(), np.fft.rfftfreq(shape[2], voxel_size[2]))


@settings(max_examples=30, deadline=None)
@given(SHAPES, VOXELS)
def test_shells_reproduce_the_radial_grid(shape, voxel_size):
    radii, index = frequency_shells(shape, voxel_size)
    torch.testing.assert_close(spread(radii, index), radial_frequency(shape, voxel_size), rtol=1e-5, atol=1e-7)
    assert bool((radii.diff() > 0).all())
    assert radii[0] == 0


def test_a_cube_has_few_shells():
    radii, index = frequency_shells((40, 40, 40), 13.68)
    assert len(radii) < 1200 < index.numel() / 25


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(0, 2**31))
def test_parseval_on_the_half_grid(shape, seed):
    volume = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    power = rfft(volume).abs().square() * multiplicity(shape) / volume[0].numel()
    torch.testing.assert_close(power.sum(dim=(1, 2, 3)), volume.square().sum(dim=(1, 2, 3)))
    variance = spectrum_variance(rfft(volume + 1e3), shape)
    torch.testing.assert_close(variance, volume.var(dim=(1, 2, 3), correction=0))


def test_shells_first_made_in_inference_mode_serve_training():
    """The shape is used nowhere else, so that this call is the one that fills the cache."""
    with torch.inference_mode():
        frequency_shells((5, 7, 11), 1.37)
    radii, index = frequency_shells((5, 7, 11), 1.37)
    profile = torch.ones(len(radii), requires_grad=True)
    (spread(profile * radii, index)).sum().backward()
    assert bool(profile.grad[1:].gt(0).all())


@pytest.mark.parametrize("size", [np.float32(2.5), np.array([2.5, 2.5, 2.5]), torch.tensor(2.5), [2.5], 2.5])
def test_voxel_sizes_in_every_guise(size):
    assert voxel_size_zyx(size) == (2.5, 2.5, 2.5)


@pytest.mark.parametrize("scale", [1e-25, 1e-6, 1e6, 1e25])
def test_variance_of_very_small_and_very_large_volumes(scale):
    volume = torch.randn(2, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    got = spectrum_variance(rfft(volume * scale), volume.shape).double() / scale**2
    torch.testing.assert_close(got, volume.double().var(dim=(1, 2, 3), correction=0), rtol=1e-4, atol=0)


def test_a_constant_volume_has_no_variance():
    for value in (1e-20, 3.0, 1e20):
        assert not spectrum_variance(rfft(torch.full((1, 6, 7, 8), value)), (6, 7, 8)).any()


@pytest.mark.parametrize("shape", [(6, 7, 8), (8, 8, 9)])
def test_variance_within_a_band(shape):
    """Against the full grid of numpy, where every frequency stands once."""
    volume = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 5
    w = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(n) * 2 for n in shape), indexing="ij")))
    power = np.abs(np.fft.fftn(volume.numpy(), axes=(1, 2, 3))) ** 2 / volume[0].numel() ** 2
    for low, high in ((0.0, 0.4), (0.3, 0.8), (0.0, 2.0)):
        inside = (w >= low) & (w <= high) & (w > 0)
        radii, index = frequency_shells(shape, 1.0, dtype=torch.float64)
        points = band_points(index, (radii * 2 >= low) & (radii * 2 <= high))
        got = spectrum_variance(rfft(volume), shape, points)
        np.testing.assert_allclose(got, (power * inside).sum(axis=(1, 2, 3)), rtol=1e-9)


def test_unit_transfer_is_the_identity_and_a_phase_ramp_shifts():
    volume = torch.randn(2, 8, 9, 10, dtype=torch.float64)
    torch.testing.assert_close(apply_transfer(volume, torch.ones(1)), volume)
    fz = frequency_grid(volume.shape, 2.0, dtype=torch.float64)[0]
    shifted = apply_transfer(volume, torch.exp(-2j * torch.pi * fz * 3 * 2.0))
    torch.testing.assert_close(shifted[:, 3:-1], volume.roll(3, 1)[:, 3:-1], atol=0.6, rtol=0)  # Nyquist is ambiguous
    odd = torch.randn(9, 9, 9, dtype=torch.float64)
    fz = frequency_grid(odd.shape, 2.0, dtype=torch.float64)[0]
    torch.testing.assert_close(apply_transfer(odd, torch.exp(-2j * torch.pi * fz * 6.0)), odd.roll(3, 0))


@pytest.mark.parametrize("voxel_size", [1.0, 6.84, 10.0, 13.68])
@pytest.mark.parametrize("bins", [None, 8])
def test_power_spectrum_of_white_noise_is_flat_from_the_first_shell_on(voxel_size, bins):
    noise = torch.randn(16, 32, 32, 32, generator=torch.Generator().manual_seed(0)) + 5
    _, power = radial_power_spectrum(noise, voxel_size, bins)
    assert power.shape == (16, bins or 16)
    # the first shell has 18 points, half of which are the others' conjugates
    np.testing.assert_allclose(power.mean(dim=0), 1.0, atol=0.25)
    np.testing.assert_allclose(power.mean(dim=0)[2:], 1.0, atol=0.05)
    torch.testing.assert_close(power, radial_power_spectrum(noise, 5.0, bins)[1])


def test_power_spectrum_of_a_wave_is_a_peak_at_its_frequency():
    for cycles in (1, 8, 16):
        wave = torch.cos(2 * torch.pi * torch.arange(32) * cycles / 32).expand(32, 32, 32)
        frequency, power = radial_power_spectrum(wave, 10.0)
        assert frequency[power.argmax()] == pytest.approx(cycles / 320)
        assert power.count_nonzero() == 1 or power.sort().values[-2] < 1e-6 * power.max()
    # the nearest shell's, not the next one below: sqrt(8) cycles are 3
    steps = torch.arange(32) + torch.arange(32)[:, None]
    frequency, power = radial_power_spectrum(torch.cos(2 * torch.pi * steps * 2 / 32).expand(32, 32, 32), 10.0)
    assert frequency[power.argmax()] == pytest.approx(3 / 320)


def test_more_shells_than_frequencies_are_refused():
    with pytest.raises(ValueError, match="40 shells are more than"):
        radial_power_spectrum(torch.randn(16, 16, 16), 10.0, bins=40)


@pytest.mark.parametrize("bad", [0.0, -1.0, (1.0, 2.0), float("nan")])
def test_impossible_voxel_size(bad):
    with pytest.raises(ValueError, match="voxel_size must be"):
        frequency_grid((4, 4, 4), bad)


def test_too_few_axes():
    with pytest.raises(ValueError, match=r"\(\.\.\., D, H, W\)"):
        frequency_grid((4, 4), 1.0)
