"""Noise, wedge, CTF and MTF as transforms: the SNR asked for, identity limits, contrast, the fused container."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.physics import apply_transfer, ctf, missing_wedge, radial_frequency, radial_power_spectrum, sinc_mtf

VOXEL = 13.68


def particle(channels=1, n=24):
    v = torch.zeros(channels, n, n, n)
    z, y, x = torch.meshgrid(*[torch.arange(n) - n // 2] * 3, indexing="ij")
    inside = (z / 6) ** 2 + (y / 5) ** 2 + (x / 4) ** 2 < 1
    v[:, inside] = 1 + 0.3 * torch.sin(2.0 * z[inside])
    return v


def power(v, inside):
    """Mean squared deviation from the box's mean over a region."""
    return (v - v.mean())[inside].square().mean()


def mask_of(v):
    return (v > 0).float()


@pytest.mark.parametrize("snr", [0.03, 0.5, 10.0])
@pytest.mark.parametrize("colour", [{}, {"power_law": 1.5}, {"lowpass": 0.5}, {"spectrum": [[0, 3], [1, 1]]}])
@pytest.mark.parametrize("region", ["box", "mask"])
def test_snr_is_the_one_asked_for(snr, colour, region):
    v = particle()
    inside = mask_of(v) > 0 if region == "mask" else torch.ones_like(v) > 0
    ratios = []
    for seed in range(8):
        noisy = T.AddNoise(snr, region=region, **colour).set_random_state(seed)(v, mask=mask_of(v))
        ratios.append(float(power(v, inside) / (noisy - v).var()))
    assert np.mean(ratios) == pytest.approx(snr, rel=0.05)


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
        noise = T.AddNoise(snr, region=region, stage=stage)
        box = T.FourierCompose([noise, *optics])
        box.set_random_state(seed)
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


def test_before_carries_the_ctfs_zeros_and_after_does_not():
    noise_only = torch.zeros(1, 40, 40, 40)
    spectra = {}
    for stage in ("before", "after"):
        box = T.FourierCompose([T.AddNoise(1.0, stage=stage), T.CTF(8.0, voxel_size=VOXEL)])
        box.set_random_state(0)
        spectra[stage] = radial_power_spectrum(box(noise_only), VOXEL)[1][0, 2:]
    assert spectra["before"].min() < 0.05 * spectra["before"].max()
    assert spectra["after"].min() > 0.5 * spectra["after"].max()


def test_infinite_snr_full_tilt_range_and_zero_width_change_nothing():
    v = particle(2)
    torch.testing.assert_close(T.AddNoise(float("inf"))(v), v)
    torch.testing.assert_close(T.MissingWedge((-90, 90))(v), v)
    torch.testing.assert_close(T.MTF(0.0)(v), v)
    flat = {"defocus_um": 0.0, "cs_mm": 0.0, "amplitude_contrast": 1.0, "voxel_size": VOXEL}
    torch.testing.assert_close(T.CTF(**flat, contrast="bright")(v), v)
    torch.testing.assert_close(T.CTF(**flat)(v), -v)


def test_protein_turns_dark_and_abs_leaves_it_bright():
    v = particle()
    inside, outside = mask_of(v) > 0, mask_of(v) == 0
    for mode, contrast, dark in [
        ("raw", "dark", True),
        ("flip", "dark", True),
        ("raw", "bright", False),
        ("abs", "dark", False),
    ]:
        out = T.CTF(3.0, voxel_size=VOXEL, mode=mode, contrast=contrast)(v)
        assert bool(out[inside].mean() < out[outside].mean()) == dark


def test_the_wedge_elongates_along_the_beam():
    v = torch.zeros(1, 33, 33, 33)
    v[0, 16, 16, 16] = 1
    out = T.MissingWedge((-60, 60))(v)[0]
    assert out[17, 16, 16] > 0.1 > 0 > out[16, 16, 17]
    assert out[16, 18, 16] == pytest.approx(0, abs=1e-3)  # along the tilt axis a point stays sharp
    expected = apply_transfer(v[0], missing_wedge((33, 33, 33), -60, 60))
    torch.testing.assert_close(out, expected)


FILTERS = {
    "snr": lambda: T.RandSNR((0.1, 1.0), channel_wise=True),
    "coloured": lambda: T.RandSNR((0.1, 1.0), power_law=(0, 2), channel_wise=True),
    "wedge": lambda: T.RandMissingWedge((10, 50), channel_wise=True, voxel_size=VOXEL),
    "ctf": lambda: T.RandCTF((0, 12), channel_wise=True, voxel_size=VOXEL),
    "mtf": lambda: T.RandMTF(channel_wise=True),
    "half": lambda: T.RandCTF((0, 12), prob=0.5, channel_wise=True, voxel_size=VOXEL),
}


@pytest.mark.parametrize(
    "names", [c for r in (1, 2, 4) for c in itertools.combinations(("snr", "wedge", "ctf", "mtf"), r)]
)
def test_fused_equals_the_sequence(names):
    check_fused([FILTERS[n]() for n in names])


@pytest.mark.parametrize("names", [("coloured", "ctf", "mtf", "wedge"), ("snr", "half", "wedge")])
def test_fused_equals_the_sequence_with_colour_and_partial_prob(names):
    check_fused([FILTERS[n]() for n in names])


def check_fused(members):
    v = particle(3)
    box = T.FourierCompose(members, voxel_size=VOXEL)
    box.set_random_state(11)
    fused = box(v)
    step = MetaTensor(v, affine=torch.diag(torch.tensor([VOXEL] * 3 + [1.0])))
    for member in members:
        step = member(step, randomize=False)
    scale = float(fused.abs().max())
    torch.testing.assert_close(fused / scale, step.as_tensor() / scale, atol=1e-5, rtol=0)


def test_detector_noise_after_the_optics_equals_that_sequence():
    v = particle(2)
    optics, noise, wedge = (
        T.CTF(4.0, voxel_size=VOXEL),
        T.RandSNR((0.2, 0.4), stage="after", channel_wise=True),
        T.MissingWedge(),
    )
    box = T.FourierCompose([noise, wedge, optics])
    box.set_random_state(2)
    fused = box(v)
    torch.testing.assert_close(fused, wedge(noise(optics(v), randomize=False)), atol=1e-4, rtol=1e-4)


def test_random_ranges_are_the_papers():
    wedge, ctf_, snr = (
        t.set_random_state(0)
        for t in (
            T.RandMissingWedge(channel_wise=True),
            T.RandCTF(channel_wise=True, voxel_size=VOXEL),
            T.RandSNR(channel_wise=True),
        )
    )
    many = torch.zeros(2000, 2, 2, 2)
    for t in (wedge, ctf_, snr):
        t.randomize(many)
    assert wedge.params["max_tilt_deg"].min() == pytest.approx(40, abs=0.2)
    assert wedge.params["max_tilt_deg"].max() == pytest.approx(90, abs=0.2)
    np.testing.assert_array_equal(wedge.params["min_tilt_deg"], -wedge.params["max_tilt_deg"])
    assert (ctf_.params["defocus_um"].min(), ctf_.params["defocus_um"].max()) == pytest.approx((0, 12), abs=0.05)
    assert (ctf_.params["cs_mm"].min(), ctf_.params["cs_mm"].max()) == pytest.approx((1.5, 3.0), abs=0.01)
    log = np.log(snr.params["snr"])
    assert (log.min(), log.max()) == pytest.approx((np.log(0.03), np.log(10)), abs=0.02)
    assert np.median(log) == pytest.approx((np.log(0.03) + np.log(10)) / 2, abs=0.15)


def test_voxel_size_from_the_image_and_without_one():
    v = particle()
    image = MetaTensor(v, affine=torch.diag(torch.tensor([VOXEL] * 3 + [1.0])))
    torch.testing.assert_close(T.CTF(3.0)(image).as_tensor(), T.CTF(3.0, voxel_size=VOXEL)(v))
    with pytest.raises(ValueError, match="CTF needs the voxel size"):
        T.CTF(3.0)(v)
    with pytest.raises(ValueError, match="CTF needs the voxel size"):
        T.CTF(3.0)(MetaTensor(v))


def test_an_empty_volume_gets_noise():
    out = T.AddNoise(4.0).set_random_state(0)(torch.zeros(1, 16, 16, 16))
    assert float(out.var()) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandSNR((0, 1)), "snr must be > 0"),
        (lambda: T.AddNoise(-1.0), "snr must be > 0"),
        (lambda: T.RandSNR((10, 1)), "min <= max"),
        (lambda: T.RandSNR(region="sphere"), "region must be one of box, mask"),
        (lambda: T.RandSNR(stage="later"), "stage must be one or several of"),
        (lambda: T.RandMissingWedge((0, 95)), r"missing_angle_deg must lie in 0\.\.90"),
        (lambda: T.RandMissingWedge((-5, 50)), r"missing_angle_deg must lie in 0\.\.90"),
        (lambda: T.RandMissingWedge(min_tilt_deg=-60), "both ends"),
        (lambda: T.RandMissingWedge(min_tilt_deg=(-60, 20), max_tilt_deg=(10, 60)), "-90 <= min < max <= 90"),
        (lambda: T.MissingWedge((60, -60)), "-90 <= min < max <= 90"),
        (lambda: T.MissingWedge((-60, 60), tilt_axis="z"), "two different axes"),
        (lambda: T.MissingWedge((-60, 60), step_deg=3), "both step_deg and thickness_a"),
        (lambda: T.RandCTF((6, 1)), "defocus_um must have min <= max"),
        (lambda: T.RandCTF(amplitude_contrast=2), "amplitude_contrast must lie in"),
        (lambda: T.CTF(1.0, mode="x"), "CTF mode must be one of"),
        (lambda: T.CTF(1.0, contrast="x"), "contrast must be one of dark, bright"),
        (lambda: T.MTF(-1.0), r"scale must lie in 0\.\.inf"),
        (lambda: T.MTF(curve=[[0, 1]]), "an MTF curve must be"),
        (lambda: T.RandIntensity(contrast=(0, 1)), "contrast must be > 0"),
        (lambda: T.FourierCompose([T.RandPose()]), "takes Fourier filters and RandSNR, got RandPose"),
        (lambda: T.FourierCompose([T.RandSNR(), T.RandSNR()]), "at most one noise"),
        (lambda: T.FourierCompose([T.CTF(voxel_size=10.0)], voxel_size=12.0), "different voxel sizes"),
        (lambda: T.RandSNR(stage="split")(torch.zeros(1, 8, 8, 8)), "inside a FourierCompose only"),
        (lambda: T.RandSNR(region="mask")(torch.zeros(1, 8, 8, 8)), "needs the mask"),
        (
            lambda: T.RandSNR(region="mask")(torch.zeros(1, 8, 8, 8), mask=torch.zeros(1, 8, 8, 9)),
            "must equal image shape",
        ),
        (lambda: T.Standardize()(torch.full((1, 4, 4, 4), float("nan"))), "finite values"),
        (lambda: T.RandPosed(["a"], mode="cubic"), "mode must be"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
