"""Noise: the SNR asked for, over box, mask or band, white or coloured, at any scale, wherever it comes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.physics import apply_transfer, ctf, radial_frequency, radial_power_spectrum, sinc_mtf

VOXEL = 13.68
COLOURS = pytest.mark.parametrize(
    "colour", [{}, {"power_law": 1.5}, {"lowpass": 0.5}, {"spectrum": [[0, 3], [1, 1]]}], ids=str
)


def particle(channels=1, n=24):
    v = torch.zeros(channels, n, n, n)
    z, y, x = torch.meshgrid(*[torch.arange(n) - n // 2] * 3, indexing="ij")
    inside = (z / 6) ** 2 + (y / 5) ** 2 + (x / 4) ** 2 < 1
    v[:, inside] = 1 + 0.3 * torch.sin(2.0 * z[inside])
    return v


def power(v, inside):
    """Mean squared deviation from the box's mean over a region."""
    return (v - v.mean())[inside].square().mean()


def band_power(v, low, high):
    """Variance between two fractions of Nyquist, from numpy's full grid in float64."""
    array = v[0].double().numpy()
    grid = np.meshgrid(*(np.fft.fftfreq(n) * 2 for n in array.shape), indexing="ij")
    w = np.sqrt(sum(f**2 for f in grid))
    inside = (w >= low) & (w <= high) & (w > 0)
    return float((np.abs(np.fft.fftn(array)) ** 2 * inside).sum() / array.size**2)


def mask_of(v):
    return (v > 0).float()


@pytest.mark.parametrize("snr", [0.03, 0.5, 10.0])
@COLOURS
@pytest.mark.parametrize("region", ["box", "mask"])
def test_snr_is_the_one_asked_for(snr, colour, region):
    v = particle()
    inside = mask_of(v) > 0 if region == "mask" else torch.ones_like(v) > 0
    ratios = []
    for seed in range(8):
        noisy = T.AddNoise(snr, region=region, **colour).set_random_state(seed)(v, mask=mask_of(v))
        ratios.append(float(power(v, inside) / (noisy - v).var()))
    assert np.mean(ratios) == pytest.approx(snr, rel=0.05)


@COLOURS
@pytest.mark.parametrize("stage", ["before", "after"])
def test_snr_within_a_band(colour, stage):
    v, snr, band = particle(), 0.3, (0.05, 0.5)
    optics = T.CTF(2.0, voxel_size=VOXEL)
    imaged = T.FourierCompose([optics])(v)
    ratios = []
    for seed in range(10):
        noise = T.AddNoise(snr, band=band, stage=stage, **colour)
        both = T.FourierCompose([noise, optics]).set_random_state(seed)(v)
        grain = both - imaged
        if stage == "before":  # compared ahead of the optics
            transfer = ctf(radial_frequency(v.shape, VOXEL), 2.0)
            grain = apply_transfer(grain, torch.where(transfer.abs() > 0.02, 1 / transfer, 0))
        ratios.append(band_power(v if stage == "before" else imaged, *band) / band_power(grain, *band))
    assert np.mean(ratios) == pytest.approx(snr, rel=0.06)


@pytest.mark.parametrize("stage", ["before", "after", "split"])
@pytest.mark.parametrize("region", ["box", "mask"])
def test_snr_by_stage_in_the_container(stage, region):
    """before: ratio ahead of the optics; after: behind them; split: the two noise-to-signal ratios add up."""
    v, snr = particle(), 0.2
    inside = mask_of(v) > 0 if region == "mask" else torch.ones_like(v) > 0
    optics = [T.CTF(2.0, voxel_size=VOXEL), T.MTF()]
    imaged = T.FourierCompose(optics)(v)
    h = ctf(radial_frequency(v.shape, VOXEL), 2.0) * sinc_mtf(radial_frequency(v.shape, VOXEL), 0.5 / VOXEL)
    sig_before, sig_after = power(v, inside), power(imaged, inside)
    ratio = []
    for seed in range(12):
        box = T.FourierCompose([T.AddNoise(snr, region=region, stage=stage), *optics]).set_random_state(seed)
        grain = box(v, mask=mask_of(v)) - imaged
        if stage == "before":
            ratio.append(float(sig_before / apply_transfer(grain, torch.where(h.abs() > 0.02, 1 / h, 0)).var()))
        elif stage == "after":
            ratio.append(float(sig_after / grain.var()))
        else:  # expected power: half of each
            white = (h.square()).mean()
            expected = sig_before / (2 * snr) * white + sig_after / (2 * snr)
            ratio.append(float(snr * expected / grain.var()))
    assert np.mean(ratio) == pytest.approx(snr, rel=0.05)


@pytest.mark.parametrize("scale", [1e-25, 1e-6, 1e6, 1e25])
@pytest.mark.parametrize("stage", ["before", "after", "split"])
@pytest.mark.parametrize("how", [{}, {"region": "mask"}, {"band": (0.0, 0.4), "power_law": 1.0}], ids=str)
def test_snr_does_not_depend_on_the_scale_of_the_volume(scale, stage, how):
    v = particle()

    def imaged(volume):
        noise = T.AddNoise(0.5, stage=stage, **how)
        box = T.FourierCompose([noise, T.CTF(2.0, voxel_size=VOXEL)]).set_random_state(0)
        return box(volume, mask=mask_of(v))

    expected = imaged(v).double()
    got = imaged(v * scale).double() / scale
    torch.testing.assert_close(got, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("stage", ["before", "after", "split"])
@pytest.mark.parametrize("how", [{}, {"band": (0.0, 0.4)}, {"region": "mask"}], ids=str)
def test_noise_does_not_follow_a_power_out_of_its_limits(stage, how):
    """A box that holds little, or a bead, is imaged with the noise of one at the limit; within them nothing changes."""
    v, mask = particle(), mask_of(particle())

    def noise(scale, limits):
        snr = T.RandSNR(0.3, stage=stage, signal_power=limits, **how)
        optics = T.CTF(3.0, voxel_size=VOXEL)
        both = T.FourierCompose([snr, optics]).set_random_state(1)(v * scale, mask=mask)
        return both - T.FourierCompose([optics])(v * scale)

    own = band_power(v, *how["band"]) if "band" in how else float(power(v, mask > 0 if "region" in how else mask >= 0))
    plain = noise(1.0, None)
    close = {"atol": 1e-4 * float(plain.abs().max()), "rtol": 1e-4}
    torch.testing.assert_close(noise(1.0, (0.5 * own, 2 * own)), plain, **close)
    torch.testing.assert_close(noise(0.1, (own, 2 * own)), plain, **close)
    torch.testing.assert_close(noise(5.0, (0.5 * own, own)), plain, **close)


def test_before_carries_the_ctfs_zeros_and_after_does_not():
    noise_only = torch.zeros(1, 64, 64, 64)
    spectra = {}
    for stage in ("before", "after"):
        box = T.FourierCompose([T.AddNoise(1.0, stage=stage), T.CTF(8.0, voxel_size=VOXEL)])
        box.set_random_state(0)
        spectra[stage] = radial_power_spectrum(box(noise_only), VOXEL)[1][0, 2:]
    assert spectra["before"].min() < 0.05 * spectra["before"].max()
    assert spectra["after"].min() > 0.5 * spectra["after"].max()


@pytest.mark.parametrize("colour", [{"power_law": 100.0}, {"power_law": -100.0}, {"lowpass": 1e-3}], ids=str)
@pytest.mark.parametrize("band", [None, (0.1, 0.4)])
def test_extreme_colours_stay_finite(colour, band):
    noisy = T.AddNoise(1.0, band=band, **colour).set_random_state(0)(particle())
    assert bool(noisy.isfinite().all())


def test_an_empty_volume_gets_noise():
    out = T.AddNoise(4.0).set_random_state(0)(torch.zeros(1, 16, 16, 16))
    assert float(out.var()) == pytest.approx(0.25, rel=0.05)
    empty_mask = T.AddNoise(4.0, region="mask").set_random_state(0)(particle(), mask=torch.zeros(1, 24, 24, 24))
    assert float((empty_mask - particle()).var()) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("band", [None, (0, 0.4)])
@pytest.mark.parametrize("stage", ["before", "split", "after"])
def test_noise_of_nothing_is_that_of_a_white_signal(stage, band):
    """Whatever the stage, as much of it as the optics pass; `split` has both halves of one size."""
    v = torch.zeros(1, 40, 40, 40)
    image = T.FourierCompose([T.AddNoise(1.0, stage=stage, band=band), T.CTF(3.0)], voxel_size=VOXEL)
    out = image.set_random_state(0)(v)
    passed = ctf(radial_frequency(v.shape, VOXEL), 3.0).square()
    weight = torch.full((21,), 2.0)  # a half grid's columns stand for two, but the first and the last
    weight[[0, -1]] = 1
    low, high = band or (0, 2)
    inside = (radial_frequency(v.shape, 1.0) * 2 <= high) * weight
    expected = float((passed * inside).sum() / inside.sum())
    assert band_power(out, low, high) == pytest.approx(expected, rel=0.05)


def test_what_has_no_power_counts_as_the_least():
    v = torch.zeros(4, 1, 16, 16, 16)
    v[1] = 0.4
    v[2, 0, 8, 8, 8] = 1e-4
    v[3, :, ::2], v[3, :, 1::2] = 1, -1  # none in the band
    noise = T.RandSNR(1.0, signal_power=(0.05, 0.1), band=(0, 0.4))
    drawn = noise.draw(np.random.RandomState(0))
    added = (noise.apply(v, [drawn] * 4) - v).std(dim=(1, 2, 3, 4))
    assert added.tolist() == pytest.approx([float(added[0])] * 4, rel=1e-4)
    noise = T.RandSNR(1.0, signal_power=(0.05, 0.1), region="mask")
    added = noise.apply(v[1:2], [drawn], mask=torch.zeros_like(v[1:2])) - v[1:2]
    assert float(added.var()) == pytest.approx(0.05, rel=0.05)


def test_the_mean_takes_no_part_in_a_band():
    """In a box of 6 voxels the band has six frequencies besides."""
    noise, v = T.AddNoise(1.0, band=(0, 0.4)), particle(1, 24)[:, 9:15, 9:15, 9:15]
    state = np.random.RandomState(0)
    batch = v.expand(400, 1, 6, 6, 6)
    added = noise.apply(batch, [noise.draw(state) for _ in range(400)]) - batch
    ratio = np.mean([band_power(each, 0, 0.4) for each in added]) / band_power(v, 0, 0.4)
    assert ratio == pytest.approx(1, rel=0.06)


def test_infinite_snr_adds_nothing():
    v = particle(2)
    torch.testing.assert_close(T.AddNoise(float("inf"))(v), v)
    whole = T.FourierCompose([T.AddNoise(float("inf"), stage="split", power_law=1.0), T.MTF()])
    torch.testing.assert_close(whole(v), T.MTF()(v), atol=1e-5, rtol=0)


def test_ranges_are_the_papers():
    state = np.random.RandomState(0)
    log = np.log([T.RandSNR().draw(state)["snr"] for _ in range(2000)])
    assert (log.min(), log.max()) == pytest.approx((np.log(0.03), np.log(10)), abs=0.02)
    assert np.median(log) == pytest.approx((np.log(0.03) + np.log(10)) / 2, abs=0.15)


def test_stages_are_drawn_with_their_weights():
    noise, state = T.RandSNR(stage={"after": 0.7, "before": 0.3}), np.random.RandomState(0)
    drawn = [noise.draw(state)["stage"] for _ in range(2000)]
    assert drawn.count("after") / 2000 == pytest.approx(0.7, abs=0.04)
    assert set(drawn) == {"after", "before"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandSNR((0, 1)), "snr must be > 0"),
        (lambda: T.AddNoise(-1.0), "snr must be > 0"),
        (lambda: T.RandSNR((10, 1)), "min <= max"),
        (lambda: T.RandSNR(region="sphere"), "region must be one of box, mask"),
        (lambda: T.RandSNR(stage="later"), "stage must be one or several of"),
        (lambda: T.RandSNR(stage={"after": -1.0}), "weights of stage must be numbers >= 0"),
        (lambda: T.RandSNR(stage=[]), "stage must be one or several of"),
        (lambda: T.RandSNR(band=(0.4, 0.1)), "band must have min <= max"),
        (lambda: T.RandSNR(band=(0.1, 0.4), region="mask"), "band must be .* and region 'box'"),
        (lambda: T.RandSNR(band=0.4), "band must be"),
        (lambda: T.RandSNR(lowpass=0.0), "lowpass must lie in"),
        (lambda: T.RandSNR(spectrum=[[0, 1], [1, -1]]), "a noise spectrum's power must be >= 0"),
        (lambda: T.RandSNR(stage="split")(torch.zeros(1, 8, 8, 8)), "inside a FourierCompose only"),
        (lambda: T.RandSNR(region="mask")(torch.zeros(1, 8, 8, 8)), "needs the mask"),
        (
            lambda: T.RandSNR(region="mask")(torch.zeros(1, 8, 8, 8), mask=torch.zeros(1, 8, 8, 9)),
            "must equal image shape",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
