"""Noise on the half grid and its spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_cryo.physics import (
    half_grid_noise,
    noise_amplitude,
    radial_power_spectrum,
    region_power,
    rfft,
    shell_weights,
    spectrum_variance,
)
from monai_cryo.physics.fourier import frequency_shells, irfft, spread


@pytest.mark.parametrize("shape", [(8, 8, 8), (7, 8, 9), (8, 7, 6)])
def test_every_voxel_has_variance_one_and_voxels_are_independent(shape):
    many = irfft(half_grid_noise((4000, *shape), [1]), shape)
    np.testing.assert_allclose(many.var(dim=0), 1.0, atol=0.12)
    np.testing.assert_allclose(many.mean(dim=0), 0.0, atol=0.08)
    flat = many.flatten(1)
    correlation = (flat[:, :1] * flat[:, 1:]).mean(dim=0)
    assert float(correlation.abs().max()) < 0.1


@pytest.mark.parametrize(("shape", "transformed"), [((2, 8, 8, 8), 3), ((1, 7, 6, 9), 3), ((2, 3, 8, 6), 2)])
def test_it_is_the_transform_of_a_real_volume_whoever_inverts_it(shape, transformed):
    axes = tuple(range(-transformed, 0))
    grain = half_grid_noise(shape, [1], transformed=transformed, dtype=torch.float64)
    real = torch.fft.irfftn(grain, s=shape[-transformed:], dim=axes)
    torch.testing.assert_close(torch.fft.rfftn(real, dim=axes), grain)


def test_stacks_of_projections_have_variance_one_too():
    noise = torch.fft.irfft2(half_grid_noise((2, 2000, 8, 7), [1, 2], transformed=2), s=(8, 7))
    np.testing.assert_allclose(noise.var(dim=(0, 1)), 1.0, atol=0.12)


def test_each_channel_has_its_seed():
    together = half_grid_noise((2, 4, 4, 4), [5, 6])
    for channel, seed in enumerate((5, 6)):
        assert torch.equal(together[channel], half_grid_noise((1, 4, 4, 4), [seed])[0])
    assert not torch.equal(*half_grid_noise((2, 4, 4, 4), [5]))


def test_power_law_and_lowpass():
    w = torch.tensor([0.0, 0.1, 0.2, 0.4, 0.8])
    white = noise_amplitude(w, 1.0)
    torch.testing.assert_close(white, torch.ones(5))
    pink = noise_amplitude(w, 1.0, power_law=2.0)
    assert pink[0] == 0
    torch.testing.assert_close((pink[1:] / pink[1]).square() * (w[1:] / w[1]) ** 2, torch.ones(4))
    soft = noise_amplitude(w, 1.0, lowpass=0.4)
    assert float((soft[4] / soft[2]) ** 2) == pytest.approx(np.exp(0.25 - 4), rel=1e-5)
    batch = noise_amplitude(w, 1.0, power_law=torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(batch, torch.stack([white, pink]))


@pytest.mark.parametrize("colour", [{"power_law": 100.0}, {"power_law": -100.0}, {"lowpass": 1e-3}, {"lowpass": 1e3}])
def test_extreme_colours_stay_finite(colour):
    radii, index = frequency_shells((8, 8, 8), 13.68)
    amplitude = noise_amplitude(radii, 0.5 / 13.68, **colour)
    assert bool(amplitude.isfinite().all())
    assert float(amplitude.square() @ shell_weights((8, 8, 8), index, len(radii))) > 0


def test_a_measured_spectrum_comes_back():
    """Colour noise with a table, measure it: the same table, up to scale."""
    shape, voxel_size = (32, 32, 32), 10.0
    table = [[0.0, 4.0], [0.3, 2.0], [0.6, 1.0], [1.0, 0.5]]
    radii, index = frequency_shells(shape, voxel_size)
    amplitude = noise_amplitude(radii, 0.05, spectrum=table)
    volumes = irfft(half_grid_noise((16, *shape), [3]) * spread(amplitude, index), shape)
    frequency, power = radial_power_spectrum(volumes, voxel_size)
    expected = np.interp(frequency / 0.05, *np.array(table).T)
    np.testing.assert_allclose(power.mean(dim=0)[2:], expected[2:], rtol=0.08)


def test_region_power():
    volume = torch.randn(2, 6, 6, 6)
    mask = torch.zeros(2, 6, 6, 6)
    mask[:, 2:4, 2:4, 2:5] = 1
    for region in (None, mask):
        got = region_power(volume, region)
        deviation = volume - volume.mean(dim=(1, 2, 3), keepdim=True)
        want = [deviation[i][mask[i] > 0 if region is not None else ...].square().mean() for i in range(2)]
        torch.testing.assert_close(got, torch.stack(want))
    assert not region_power(volume, torch.zeros_like(volume)).any()


def test_variance_on_a_large_mean():
    volume = 1e7 + torch.randn(12, 12, 12, dtype=torch.float64)
    assert float(spectrum_variance(rfft(volume), volume.shape)) == pytest.approx(float(volume.var(correction=0)))
    flat = torch.full((13, 14, 15), 0.1)
    assert float(spectrum_variance(rfft(flat), flat.shape)) == 0


def test_refusals():
    with pytest.raises(ValueError, match="lowpass must be > 0"):
        noise_amplitude(torch.ones(2), 1.0, lowpass=0.0)
    with pytest.raises(ValueError, match="power must be >= 0"):
        noise_amplitude(torch.ones(2), 1.0, spectrum=[[0, 1], [1, -1]])
