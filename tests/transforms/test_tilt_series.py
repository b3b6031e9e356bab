"""RandTiltSeries: what every transform here keeps to, and the physics of what it makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

import monai_cryo.transforms.tilt_series as module
from monai_cryo.data.seeding import ItemRandomState, item_state
from monai_cryo.physics import ctf, missing_wedge, radial_frequency
from monai_cryo.transforms.tilt_series import (
    RandTiltSeries,
    RandTiltSeriesD,
    RandTiltSeriesd,
    RandTiltSeriesDict,
)

VOXEL = 13.68
RANDOM = {"min_tilt_deg": (-65, -45), "max_tilt_deg": (45, 65), "tilt_jitter_deg": 0.5, "defocus_jitter_um": 0.2}


def make(**options):
    return RandTiltSeries(**{"snr": (0.1, 1.0), "step_deg": 10.0, "voxel_size": VOXEL, **options})


def volume(channels=1, dtype=torch.float32, n=16):
    generator = torch.Generator().manual_seed(7)
    v = torch.zeros(channels, n, n, n)
    a = n // 2 - 4
    v[:, a : a + 8, a + 1 : a + 8, a : a + 7] = torch.rand(channels, 8, 7, 7, generator=generator)
    return v.to(dtype)


def meta(tensor):
    affine = torch.tensor(
        [[0, 0, VOXEL, 5.0], [0, VOXEL, 0, 6.0], [VOXEL, 0, 0, 7.0], [0, 0, 0, 1]], dtype=torch.float64
    )
    return MetaTensor(tensor.clone(), affine=affine)


class TestContract:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    @pytest.mark.parametrize("size", [None, 12])
    def test_types_and_dtypes_are_kept(self, dtype, size):
        plain = volume(2, dtype)
        inputs = (plain, plain.numpy(), meta(plain))
        results = [make(output_size=size).set_random_state(0)(x) for x in inputs]
        assert type(results[0]) is torch.Tensor
        assert isinstance(results[1], np.ndarray)
        assert isinstance(results[2], MetaTensor)
        for result in results:
            assert tuple(result.shape) == (2, *(size or 16,) * 3)
            np.testing.assert_allclose(np.asarray(result), results[1], atol=1e-5)
        assert results[0].dtype == results[2].dtype == dtype
        assert results[1].dtype == plain.numpy().dtype

    def test_the_input_is_left_alone(self):
        v = volume()
        before = v.clone()
        assert not torch.allclose(make().set_random_state(0)(v), v, atol=1e-3)
        torch.testing.assert_close(v, before, rtol=0, atol=0)

    def test_integers_become_float(self):
        assert make()((volume() * 100).to(torch.int16)).dtype == torch.float32

    @pytest.mark.parametrize("shape", [(16, 16, 16), (1, 1, 16, 16, 16)])
    def test_wrong_dimensionality_is_refused(self, shape):
        with pytest.raises(ValueError, match=r"channel-first volume \(C, D, H, W\), got shape"):
            make()(torch.zeros(shape))

    def test_non_cubic_and_odd_boxes(self):
        assert make()(torch.rand(1, 9, 12, 15)).shape == (1, 9, 12, 15)
        assert make(output_size=(8, 9, 10))(torch.rand(1, 9, 12, 15)).shape == (1, 8, 9, 10)

    def test_prob_zero_is_the_identity(self):
        torch.testing.assert_close(make(prob=0.0)(volume()), volume(), rtol=0, atol=0)
        torch.testing.assert_close(
            make(prob=0.0, output_size=13)(volume()), volume()[:, 2:15, 2:15, 2:15], rtol=0, atol=0
        )

    def test_same_seed_same_result_whatever_the_global_generators(self):
        results = []
        for seed, noise in ((5, 1), (5, 2), (6, 2)):
            np.random.seed(noise)
            torch.manual_seed(noise)
            results.append(make(**RANDOM).set_random_state(seed)(volume()))
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
        assert not torch.allclose(results[0], results[2])

    def test_drawn_values_can_be_read_and_replayed(self):
        transform = make(**RANDOM).set_random_state(0)
        first = transform(volume())
        assert set(transform.params) >= {
            "snr",
            "tilts_deg",
            "defocus_um",
            "cs_mm",
            "dose_per_tilt",
            "mtf_scale",
            "seed",
        }
        torch.testing.assert_close(transform(volume(), randomize=False), first, rtol=0, atol=0)
        assert not torch.allclose(transform(volume()), first)

    @pytest.mark.parametrize("options", [{}, RANDOM, {"output_size": 12, "dose_per_tilt": (1.0, 3.0)}])
    def test_channels_as_a_batch_equal_single_runs(self, options):
        batch = volume(4)
        transform = make(channel_wise=True, **options)
        transform.set_random_state(state=ItemRandomState([item_state(3, i) for i in range(4)]))
        together = transform(batch)
        assert all(len(v) == 4 for v in transform.params.values())
        for i in range(4):
            alone = make(channel_wise=True, **options).set_random_state(state=item_state(3, i))(batch[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)

    def test_channel_wise_draws_differ_and_otherwise_agree(self):
        transform = make(channel_wise=True, **RANDOM).set_random_state(0)
        transform(volume(3))
        for name in ("snr", "tilts_deg", "defocus_um", "seed"):
            assert len(np.unique(transform.params[name], axis=0)) == 3
        transform = make(**RANDOM).set_random_state(0)
        result = transform(volume(1).expand(3, -1, -1, -1))
        assert all(len(v) == 1 for v in transform.params.values())
        assert not torch.allclose(result[0], result[1])  # the noise of each channel is its own

    def test_partial_probability(self):
        transform = make(prob=0.5, channel_wise=True).set_random_state(1)
        batch = volume(8)
        result = transform(batch)
        same = [bool(torch.equal(result[i], batch[i])) for i in range(8)]
        assert same == (~transform.active).tolist()
        assert 0 < sum(same) < 8


class TestDictionary:
    def test_equals_the_array_version(self):
        assert RandTiltSeriesD is RandTiltSeriesDict is RandTiltSeriesd
        options = {"step_deg": 10.0, "voxel_size": VOXEL}
        data = {"image": volume(), "other": "kept"}
        got = RandTiltSeriesd("image", **options).set_random_state(3)(data)
        expected = RandTiltSeries(**options).set_random_state(3)(volume())
        torch.testing.assert_close(got["image"], expected, rtol=0, atol=0)
        assert got["other"] == "kept"
        assert torch.equal(data["image"], volume())
        with pytest.raises(KeyError):
            RandTiltSeriesd("missing", **options)(data)
        with pytest.raises(KeyError):
            RandTiltSeriesd("image", "missing", **options)(data)
        assert RandTiltSeriesd("image", "missing", allow_missing_keys=True, **options)(data)["other"] == "kept"
        with pytest.raises(TypeError):
            RandTiltSeriesd("image", mistyped=1)

    def test_masks_are_only_cut_and_keys_share_the_draw(self):
        mask = (volume() > 0.5).to(torch.uint8)
        transform = RandTiltSeriesd(["a", "b"], "mask", step_deg=10.0, voxel_size=VOXEL, output_size=12)
        got = Compose([transform]).set_random_state(2)({"a": volume(), "b": volume(), "mask": mask})
        torch.testing.assert_close(got["a"], got["b"], rtol=0, atol=0)
        torch.testing.assert_close(got["mask"], mask[:, 2:14, 2:14, 2:14], rtol=0, atol=0)


def test_the_cut_keeps_its_place_in_space():
    image = meta(volume())
    for result in (make(output_size=(12, 10, 8))(image), make(prob=0.0, output_size=(12, 10, 8))(image)):
        torch.testing.assert_close(
            result.affine @ torch.eye(4)[3].double(), image.affine @ torch.tensor([2.0, 3, 4, 1]).double()
        )
        torch.testing.assert_close(result.affine[:3, :3], image.affine[:3, :3])
    torch.testing.assert_close(image.affine, meta(volume()).affine)


CLEAN = {"snr": float("inf"), "defocus_um": 0.0, "amplitude_contrast": 1.0, "mtf_scale": 0.0, "cs_mm": 0.0}


def correlation(a, b):
    return float(np.corrcoef(np.asarray(a).ravel(), np.asarray(b).ravel())[0, 1])


def smooth(n=32):
    """Blob with two unequal arms, off the middle."""
    grid = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) - n // 2] * 3, indexing="ij")
    return sum(
        weight * torch.exp(-sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) / 8)
        for centre, weight in (((0, 0, 0), 1.0), ((4, -3, 5), 2.0), ((-5, 4, 2), 0.7))
    )[None]


class TestPhysics:
    def test_contrast(self):
        dark, bright = (make(contrast=c, step_deg=3.0, **CLEAN)(smooth()) for c in ("dark", "bright"))
        torch.testing.assert_close(dark, -bright)
        assert correlation(bright, smooth()) > 0.85

    @pytest.mark.parametrize("ends", [(-60, 60), (-40, 65)])
    def test_noise_lies_under_the_wedge(self, ends):
        transform = make(snr=0.01, step_deg=3.0, min_tilt_deg=ends[0], max_tilt_deg=ends[1]).set_random_state(0)
        power = torch.fft.rfftn(transform(smooth())[0]).abs().square()
        inside = missing_wedge((32, 32, 32), *ends).expand_as(power)
        assert float((power * inside).sum() / power.sum()) > 0.9
        if ends[0] != -ends[1]:
            mirrored = missing_wedge((32, 32, 32), *ends, invert=True).expand_as(power)
            assert float((power * mirrored).sum() / power.sum()) < 0.85

    def series(self, monkeypatch, v, **options):
        """Projections as the transform images them, before weighting."""
        monkeypatch.setattr(module, "back_project", lambda projections, *_: projections)
        monkeypatch.setattr(
            module, "reconstruction_filter", lambda tilts, width, *_, **__: torch.ones(1, width // 2 + 1)
        )
        return self.image(make(**options), v)

    def image(self, transform, v):
        transform.set_random_state(4).randomize(v)
        return transform.simulate(v, VOXEL)

    @pytest.mark.parametrize("snr", [0.05, 1.0, 20.0])
    @pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
    def test_signal_to_noise_ratio(self, monkeypatch, snr, fraction):
        options = {
            "defocus_um": 3.0,
            "amplitude_contrast": 0.8,
            "noise_before_fraction": fraction,
            "dose_per_tilt": 3.0,
        }
        clean = self.series(monkeypatch, smooth(), **{**options, "snr": float("inf")})
        noise = self.series(monkeypatch, smooth(), **{**options, "snr": snr}) - clean
        signal = clean.var(dim=(-2, -1), correction=0).mean()
        assert float(signal / noise.var(dim=(-2, -1), correction=0).mean()) == pytest.approx(snr, rel=0.05)

    def test_where_the_noise_enters(self, monkeypatch):
        """Noise of the specimen vanishes at the zeros of the CTF, that of the detector does not."""
        options = {"snr": 1.0, "defocus_um": 6.0, "mtf_scale": 0.0}
        transfer = ctf(radial_frequency((1, 32, 32), VOXEL), 6.0)[0].square()
        zero, peak = transfer < 0.02, transfer > 0.9
        ratio = {}
        for fraction in (0.0, 1.0):
            stack = self.series(monkeypatch, torch.zeros(1, 32, 32, 32), noise_before_fraction=fraction, **options)[0]
            power = torch.fft.rfft2(stack).abs().square().mean(dim=0)
            ratio[fraction] = float(power[zero].mean() / power[peak].mean())
        assert ratio[0.0] == pytest.approx(1, abs=0.25)
        assert ratio[1.0] < 0.02

    def test_imaging_is_ctf_dose_and_mtf(self, monkeypatch):
        options = {**CLEAN, "defocus_um": 4.0, "amplitude_contrast": 0.07, "defocus_jitter_um": 0.3}
        plain = self.series(monkeypatch, smooth(), **CLEAN)
        transform = make(**options)
        got = self.image(transform, smooth())
        defocus = torch.as_tensor(transform.params["defocus_um"][0], dtype=torch.float32)
        assert float(defocus.max() - defocus.min()) > 0.2
        transfer = ctf(radial_frequency((1, 32, 32), VOXEL), defocus, cs_mm=0.0)[:, 0]
        expected = torch.fft.irfft2(torch.fft.rfft2(plain[0]) * transfer, s=(32, 32))
        torch.testing.assert_close(got[0], expected, atol=1e-4, rtol=1e-4)
        damaged = self.series(monkeypatch, smooth(), **{**options, "dose_per_tilt": 30.0})
        lost = 1 - damaged[0].square().sum(dim=(-2, -1)) / got[0].square().sum(dim=(-2, -1))
        assert lost.argmin() == len(defocus) // 2  # exposed first
        assert bool((lost > 0).all())
        blurred = self.series(monkeypatch, smooth(), **{**options, "mtf_scale": 2.0})
        assert float(blurred.square().sum()) < float(got.square().sum())

    def test_drawn_angles(self):
        transform = make(channel_wise=True, min_tilt_deg=(-60, -40), max_tilt_deg=(50, 70)).set_random_state(0)
        transform.randomize(torch.zeros(50, 4, 4, 4))
        tilts = transform.params["tilts_deg"]
        assert tilts.shape == (50, 14)  # 130 degrees by at most 10
        assert tilts[:, 0].min() >= -60
        assert -40 >= tilts[:, 0].max() > tilts[:, 0].min() + 10
        assert 50 <= tilts[:, -1].min() < 60 < tilts[:, -1].max() <= 70
        np.testing.assert_allclose(np.diff(tilts, 2), 0, atol=1e-9)
        transform = make(tilt_jitter_deg=1.0).set_random_state(0)
        transform.randomize(torch.zeros(1, 4, 4, 4))
        error = transform.params["tilts_deg"][0] - np.linspace(-60, 60, 13)
        assert 0.5 < np.abs(error).max() <= 1.0

    def test_neighbours_leave_traces(self):
        scene = torch.zeros(1, 40, 24, 40)
        alone = scene.clone()
        alone[0, 17:23, 9:15, 17:23] = 1.0
        scene[0, 30:36, 9:15, 30:36] = 1.0  # outside what is cut out
        scene += alone
        options = {"output_size": 20, "step_deg": 3.0, **CLEAN}
        lone, crowded = make(**options)(alone), make(**options)(scene)
        assert lone.shape == (1, 20, 20, 20)
        assert correlation(lone, crowded) > 0.9
        assert float((lone - crowded).abs().max()) > 0.05 * float(lone.abs().max())

    def test_an_empty_box_becomes_noise(self):
        result = make()(torch.zeros(1, 16, 16, 16))
        assert bool(result.isfinite().all())
        assert float(result.std()) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snr": 0.0}, "snr must be > 0"),
        ({"snr": (2, 1)}, "snr must have min <= max"),
        ({"noise_before_fraction": 1.5}, r"noise_before_fraction must lie in 0\.\.1"),
        ({"min_tilt_deg": 70.0}, "-90 <= min < max <= 90"),
        ({"min_tilt_deg": (-60, 30), "max_tilt_deg": (20, 60)}, "-90 <= min < max <= 90"),
        ({"max_tilt_deg": 95.0}, "-90 <= min < max <= 90"),
        ({"step_deg": 0.0}, "step > 0"),
        ({"tilt_jitter_deg": -1.0}, "tilt_jitter_deg must lie in"),
        ({"amplitude_contrast": 2.0}, "amplitude_contrast must lie in"),
        ({"dose_per_tilt": -1.0}, "dose_per_tilt must lie in"),
        ({"tilt_order": "random"}, "tilt order must be one of"),
        ({"filter": "hann"}, "filter must be one of"),
        ({"contrast": "grey"}, "contrast must be one of"),
        ({"output_size": (8, 8)}, "output_size must be one or three"),
        ({"output_size": 17}, "output_size must fit into the input"),
        ({"voxel_size": (10.0, 10.0, 12.0)}, "cubic voxels"),
        ({"voxel_size": None}, "needs the voxel size"),
        ({"prob": 1.5}, r"prob must lie in 0\.\.1"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)(volume())


def test_voxel_size_from_the_image():
    assert make(voxel_size=None)(meta(volume())).shape == (1, 16, 16, 16)
