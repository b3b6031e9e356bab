"""One spectrum for all input: what it makes equal, what it leaves alone, and random gains."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.data import item_state
from monai_cryo.io import read_mrc
from monai_cryo.physics import apply_transfer, radial_frequency, radial_power_spectrum


def noise(n=24, count=3, seed=0):
    return torch.randn(count, 1, n, n, n, generator=torch.Generator().manual_seed(seed))


def processed(volume, gain):
    return apply_transfer(volume, gain(radial_frequency(volume.shape, 1.0) / 0.5))


def correlation(a, b):
    a, b = (v.flatten(1) - v.flatten(1).mean(dim=1, keepdim=True) for v in (a, b))
    return (a * b).sum(dim=1) / a.norm(dim=1) / b.norm(dim=1)


def test_mean_variance_and_spectrum_are_the_targets():
    out = T.NormalizeSpectrum(cutoff=0.3, highest=0.8, smooth_shells=1).apply(noise(32) * 7 + 3, [{}] * 3)
    torch.testing.assert_close(out.mean(dim=(1, 2, 3, 4)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(dim=(1, 2, 3, 4), correction=0), torch.ones(3))
    frequency, power = radial_power_spectrum(out[:, 0], 1.0)
    w = frequency / 0.5
    target = torch.exp(-(w / 0.3).square()) / w.square()
    inside = (w > 0.1) & (w < 0.7)
    ratio = power[:, inside] / target[inside]
    assert (ratio / ratio.mean(dim=1, keepdim=True)).log().abs().max() < 0.35  # shells of finite width
    assert power[:, w > 0.85].max() < 1e-8 * power.max()


@pytest.mark.parametrize(
    "gain",
    [
        lambda w: torch.exp(-((w / 0.5) ** 2)),
        lambda w: 1 / (0.2 + w),
        lambda w: torch.full_like(w, 1e3),
        lambda w: 1 + 0.5 * torch.cos(4 * w),
    ],
    ids=["lowpass", "pink", "scale", "wave"],
)
def test_smooth_radial_processing_does_not_matter(gain):
    v = processed(noise(), lambda w: 1 / (0.1 + w))
    normalize = T.NormalizeSpectrum()
    same = correlation(normalize.apply(v, [{}] * 3), normalize.apply(processed(v, gain), [{}] * 3))
    assert float(same.min()) > 0.985


def test_reconstructions_of_one_cell_become_alike(shared_data):
    folder = shared_data / "real" / "mpneumoniae"
    items = [i for i in json.loads((folder / "dataset.json").read_text())["test"] if i["class"] == "ribosome"][:12]
    raw, deconvolved = (
        torch.stack([torch.as_tensor(np.float32(read_mrc(folder / item[key])[0])) for item in items])[:, None]
        for key in ("image", "image_deconvolved")
    )
    normalize = T.NormalizeSpectrum()
    before = correlation(raw, deconvolved).mean()
    after = correlation(*(normalize.apply(v, [{}] * len(items)) for v in (raw, deconvolved))).mean()
    assert before < 0.9
    assert after >= 0.98


def test_a_table_measured_elsewhere_keeps_relative_power():
    """With one table for all, a volume's own spectrum still shows; with its own, it does not."""
    pink = processed(noise(seed=1), lambda w: 1 / (0.1 + w))
    flat = T.NormalizeSpectrum(spectrum=[[0, 1], [1, 1]]).apply(pink, [{}] * 3)
    own = T.NormalizeSpectrum().apply(pink, [{}] * 3)
    slope = []
    for v in (flat, own):
        power = radial_power_spectrum(v[:, 0], 1.0)[1].mean(dim=0)
        slope.append(float(power[0] / power[5]))
    assert slope[0] > 4 * slope[1]


def test_each_item_and_type_on_its_own():
    batch = noise()
    normalize = T.NormalizeSpectrum()
    together = normalize.apply(batch, [{}] * 3)
    for i in range(3):
        torch.testing.assert_close(normalize(batch[i]), together[i], atol=1e-5, rtol=1e-5)
    meta = normalize(MetaTensor(batch[0]))
    assert isinstance(meta, MetaTensor)
    assert isinstance(normalize(batch[0].numpy()), np.ndarray)
    got = T.NormalizeSpectrumd("image")({"image": batch[0], "mask": 1})
    torch.testing.assert_close(got["image"], together[0], atol=1e-5, rtol=1e-5)
    assert T.NormalizeSpectrum(cutoff=0.3).config() == {
        "_target_": "monai_cryo.transforms.NormalizeSpectrum",
        "cutoff": 0.3,
        "highest": 0.6,
        "target": None,
        "spectrum": None,
        "smooth_shells": 3,
        "gain_cap": 1000.0,
        "tilt_range_deg": None,
    }


@pytest.mark.parametrize("shape", [(1, 1, 9, 12, 15), (2, 1, 16, 16, 16)])
def test_shapes(shape):
    assert T.NormalizeSpectrum().apply(torch.randn(shape), [{}] * shape[0]).shape == shape


@pytest.mark.parametrize("value", [0.0, 5.0, 1e-30])
def test_a_constant_volume_becomes_zero(value):
    assert torch.equal(T.NormalizeSpectrum()(torch.full((1, 12, 12, 12), value)), torch.zeros(1, 12, 12, 12))


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e15, 1e30])
def test_scale_does_not_matter(scale):
    v = noise(count=1)[0]
    normalize = T.NormalizeSpectrum()
    torch.testing.assert_close(normalize(v * scale), normalize(v), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2])
def test_a_box_without_a_frequency_that_is_kept(size):
    v = torch.rand(1, size, size, size)
    assert torch.equal(T.NormalizeSpectrum()(v), torch.zeros_like(v))


def test_what_was_filtered_away_is_not_made_of_rounding():
    v = processed(noise(seed=2), lambda w: (w < 0.3).float())
    out = T.NormalizeSpectrum(target=[[0, 1], [1, 1]], gain_cap=10.0)(v[0])
    _, power = radial_power_spectrum(out, 1.0)
    assert float(power[0, 6:8].max()) < 1e-3 * float(power[0, 1:3].mean())


def test_the_wedge_does_not_dilute_the_power():
    v = T.MissingWedge((-40, 40))(noise(32, 1)[0])
    shares = [T.NormalizeSpectrum(tilt_range_deg=t)(v) for t in (None, (-40, 40))]
    assert correlation(*shares) > 0.99


def test_the_wedge_lies_where_the_affine_says():
    """Of a NIfTI-like volume, whose first axis is x, what is measured is the same turned round."""
    v = processed(noise(16, 1), lambda w: 1 / (0.1 + w))[0]
    v = v + 3 * torch.roll(v, 1, dims=1)  # the spectrum has a direction
    normalize = T.NormalizeSpectrum(tilt_range_deg=(-20, 70))
    turned = MetaTensor(v.permute(0, 3, 2, 1).contiguous(), affine=torch.diag(torch.tensor([10.0, 10, 10, 1])))
    got = normalize(turned).as_tensor().permute(0, 3, 2, 1)
    torch.testing.assert_close(got, normalize(v), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(normalize(turned.as_tensor()).permute(0, 3, 2, 1), got, atol=1e-3)


@pytest.mark.parametrize("voxel_size", [1.0, 1.7, 6.8, 10.0, 13.33, 13.68])
def test_the_voxel_size_does_not_matter(voxel_size):
    """Frequencies between two shells go the same way whatever their rounding."""
    v, normalize = noise(40, 1), T.NormalizeSpectrum(smooth_shells=1)
    assert torch.equal(normalize.apply(v, [{}], voxel_size=(voxel_size,) * 3), normalize.apply(v, [{}]))


def test_a_shell_without_points_has_the_power_of_the_next():
    """The lowest one: its points all lie on its border."""
    v = processed(noise(40, 1), lambda w: 1 / (0.1 + w))
    power = radial_power_spectrum(T.NormalizeSpectrum(smooth_shells=1).apply(v, [{}])[:, 0], 1.0)[1][0]
    expected = radial_power_spectrum(T.NormalizeSpectrum(smooth_shells=3).apply(v, [{}])[:, 0], 1.0)[1][0]
    assert float(power[0]) == pytest.approx(float(expected[0]), rel=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": 0}, "cutoff must lie in"),
        ({"highest": 1.5}, "highest must lie in"),
        ({"smooth_shells": 2}, "smooth_shells must be an odd whole number"),
        ({"gain_cap": 0.5}, "gain_cap must lie in"),
        ({"target": [[0, 1]]}, "the target must be n >= 2 rows"),
        ({"spectrum": [[0, -1], [1, 1]]}, "values must be >= 0"),
        ({"tilt_range_deg": (60, -60)}, "tilt_range_deg must be"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        T.NormalizeSpectrum(**options)


def test_radial_gain_is_a_walk_and_a_lowpass():
    gain = T.RandRadialGain(walk=0.3, nodes=6, lowpass=0.5)
    draws = [gain.draw(item_state(0, "test", i)) for i in range(400)]
    steps = np.diff([d["log_gain"] for d in draws], axis=1)
    assert steps.std() == pytest.approx(0.3, rel=0.05)
    v = noise(count=2)
    out = gain.apply(v, draws[:2])
    w = radial_frequency(v.shape, 1.0) / 0.5
    for i in range(2):
        at = w / w.max() * 6
        expected = np.interp(at.numpy(), np.arange(7), draws[i]["log_gain"])
        transfer = torch.exp(torch.as_tensor(expected) - 0.5 * (w / 0.5) ** 2).float()
        torch.testing.assert_close(out[i], apply_transfer(v[i], transfer), atol=1e-4, rtol=1e-4)


def test_radial_gain_acts_on_noise_too():
    empty = torch.zeros(1, 16, 16, 16)
    noisy = T.FourierCompose([T.AddNoise(1.0, stage="after"), T.RandRadialGain(walk=0.0, lowpass=0.2)])
    _, power = radial_power_spectrum(noisy.set_random_state(0)(empty), 1.0)
    assert float(power[0, -1]) < 1e-6 * float(power[0, 1])


def test_a_coloured_volume_gets_the_spectrum_of_a_white_one():
    """Where the input is far from flat, an amplitude divided once too little or too often shows."""
    normalize = T.NormalizeSpectrum(target=[[0, 1], [1, 1]], highest=0.8)
    steep = processed(noise(32, 1, seed=3), lambda w: 1 / (0.05 + w) ** 2)
    frequency, power = radial_power_spectrum(normalize(steep[0]), 1.0)
    inside = (frequency / 0.5 > 0.2) & (frequency / 0.5 < 0.7)
    assert float((power[0, inside] / power[0, inside].mean()).log().abs().max()) < 0.4
