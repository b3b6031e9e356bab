"""RandTiltSeries: where the cut lies, how noise, optics and dose enter, and what it shares with the filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd

import monai_cryo.transforms as T  # noqa: N812
import monai_cryo.transforms.tilt_series as module
from monai_cryo.physics import ctf, missing_wedge, radial_frequency, wiener_gain

VOXEL = 13.68


def make(seed=0, **options):
    options = {"snr": (0.1, 1.0), "step_deg": 10.0, "voxel_size": VOXEL, **options}
    return T.RandTiltSeries(**options).set_random_state(seed)


def clean(defocus_um=0.0, amplitude_contrast=1.0, contrast="bright", mode="raw", **options):
    """Options that leave nothing but projections, the CTF asked for and back-projection."""
    optics = T.CTF(defocus_um, amplitude_contrast=amplitude_contrast, cs_mm=0.0, contrast=contrast, mode=mode)
    return {"snr": float("inf"), "ctf": optics, "mtf": T.MTF(0.0), **options}


def volume(channels=1, n=16):
    generator = torch.Generator().manual_seed(7)
    v = torch.zeros(channels, n, n, n)
    v[:, 4:12, 5:12, 4:11] = torch.rand(channels, 8, 7, 7, generator=generator)
    return v


def smooth(n=32):
    """Blob with two unequal arms, off the middle."""
    grid = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) - n // 2] * 3, indexing="ij")
    return sum(
        weight * torch.exp(-sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) / 8)
        for centre, weight in (((0, 0, 0), 1.0), ((4, -3, 5), 2.0), ((-5, 4, 2), 0.7))
    )[None]


def meta(tensor):
    affine = torch.tensor(
        [[0, 0, VOXEL, 5.0], [0, VOXEL, 0, 6.0], [VOXEL, 0, 0, 7.0], [0, 0, 0, 1]], dtype=torch.float64
    )
    return MetaTensor(tensor.clone(), affine=affine)


def correlation(a, b):
    return float(np.corrcoef(np.asarray(a).ravel(), np.asarray(b).ravel())[0, 1])


class TestCut:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_types_are_kept(self, dtype):
        plain = volume(2).to(dtype)
        results = [make(output_size=12)(x) for x in (plain, plain.numpy(), meta(plain))]
        assert [type(r) for r in results] == [torch.Tensor, np.ndarray, MetaTensor]
        for result in results:
            assert tuple(result.shape) == (2, 12, 12, 12)
            assert result.dtype == (plain.numpy().dtype if isinstance(result, np.ndarray) else dtype)
        assert make(output_size=(8, 9, 10))(torch.rand(1, 9, 12, 15)).shape == (1, 8, 9, 10)

    def test_items_left_out_are_cut_and_nothing_else(self):
        inner = volume()[:, 2:15, 2:15, 2:15]
        assert torch.equal(make(prob=0.0, output_size=13)(volume()), inner)
        transform, batch = make(output_size=13), torch.stack([volume()] * 2)
        result = transform.apply(batch, [None, transform.draw(transform.R)])
        assert torch.equal(result[0], inner)
        assert not torch.allclose(result[1], inner, atol=1e-2)

    @pytest.mark.parametrize("prob", [0.0, 1.0])
    def test_it_keeps_its_place_in_space(self, prob):
        image = meta(volume())
        result = make(prob=prob, output_size=(12, 10, 8))(image)
        torch.testing.assert_close(result.affine[:, 3], image.affine @ torch.tensor([2.0, 3, 4, 1]).double())
        torch.testing.assert_close(result.affine[:3, :3], image.affine[:3, :3])
        torch.testing.assert_close(image.affine, meta(volume()).affine)

    def test_masks_are_only_cut_and_keys_share_the_draw(self):
        mask = (volume() > 0.5).to(torch.uint8)
        options = {"mask_keys": "mask", "step_deg": 10.0, "voxel_size": VOXEL, "output_size": 12}
        transform = T.RandTiltSeriesd(["a", "b"], **options)
        data = {"a": volume(), "b": volume(), "mask": mask}
        got = Compose([transform]).set_random_state(2)(data)
        assert torch.equal(got["a"], got["b"])
        assert torch.equal(got["mask"], mask[:, 2:14, 2:14, 2:14])
        batch = transform.apply({k: torch.stack([v] * 3) for k, v in data.items()}, [transform.draw(transform.R)] * 3)
        assert torch.equal(batch["mask"][1], got["mask"])
        assert batch["a"].shape == (3, 1, 12, 12, 12)
        with pytest.raises(KeyError, match="mask"):
            transform({"a": volume(), "b": volume()})

    def test_what_was_cut_does_not_come_back(self):
        """Neither the image nor, in silence, the mask."""
        transform = T.RandTiltSeriesd("a", mask_keys="mask", step_deg=10.0, voxel_size=VOXEL, output_size=12)
        got = transform({"a": meta(volume()), "mask": meta(volume())})
        for key in ("a", "mask"):
            with pytest.raises(RuntimeError, match="applying transform") as error:
                Invertd(["a"], transform=Compose([transform]), orig_keys=[key])(got)
            assert "RandTiltSeries cannot be inverted" in str(error.getrepr())

    def test_neighbours_leave_traces(self):
        scene = torch.zeros(1, 40, 24, 40)
        alone = scene.clone()
        alone[0, 17:23, 9:15, 17:23] = 1.0
        scene[0, 30:36, 9:15, 30:36] = 1.0  # outside what is cut out
        scene += alone
        options = clean(output_size=20, step_deg=3.0)
        lone, crowded = make(**options)(alone), make(**options)(scene)
        assert lone.shape == (1, 20, 20, 20)
        assert correlation(lone, crowded) > 0.9
        assert float((lone - crowded).abs().max()) > 0.05 * float(lone.abs().max())


class TestDraws:
    def test_angles(self):
        transform, state = make(min_tilt_deg=(-60, -40), max_tilt_deg=(50, 70)), np.random.RandomState(0)
        tilts = np.array([transform.draw(state)["tilts_deg"] for _ in range(50)])
        assert tilts.shape == (50, 14)  # 130 degrees by at most 10
        assert tilts[:, 0].min() >= -60
        assert -40 >= tilts[:, 0].max() > tilts[:, 0].min() + 10
        assert 50 <= tilts[:, -1].min() < 60 < tilts[:, -1].max() <= 70
        np.testing.assert_allclose(np.diff(tilts, 2), 0, atol=1e-9)

    def test_errors_of_angle_and_defocus(self):
        drawn = make(tilt_jitter_deg=1.0, defocus_jitter_um=0.2).draw(np.random.RandomState(0))
        error = np.array(drawn["tilts_deg"]) - np.linspace(-60, 60, 13)
        assert 0.5 < np.abs(error).max() <= 1.0
        assert 0.1 < np.abs(drawn["defocus_jitter_um"]).max() <= 0.2
        assert len(set(drawn["defocus_jitter_um"])) == 13

    def test_microscope_and_detector_are_drawn_by_their_own_transforms(self):
        series = make(ctf=T.RandCTF((1, 3), phase_shift_deg=(0, 90), mode=["raw", "flip"]), mtf=T.RandMTF((0, 2)))
        drawn = [series.draw(np.random.RandomState(i)) for i in range(20)]
        assert all(1 <= d["ctf"]["defocus_um"] <= 3 for d in drawn)
        assert {d["ctf"]["mode"] for d in drawn} == {"raw", "flip"}
        assert max(d["mtf"]["scale"] for d in drawn) > 1
        left_out = make(ctf=T.RandCTF(prob=0.0), mtf=T.RandMTF(prob=0.0)).draw(np.random.RandomState(0))
        assert left_out["ctf"] is left_out["mtf"] is None

    def test_noise_of_each_channel_is_its_own(self):
        result = make()(volume(1).expand(2, -1, -1, -1))
        assert not torch.allclose(result[0], result[1])


class TestPhysics:
    def test_contrast(self):
        dark, bright = (make(**clean(contrast=c, step_deg=3.0))(smooth()) for c in ("dark", "bright"))
        torch.testing.assert_close(dark, -bright)
        assert correlation(bright, smooth()) > 0.85

    @pytest.mark.parametrize("ends", [(-60, 60), (-40, 65)])
    def test_noise_lies_under_the_wedge(self, ends):
        power = make(snr=0.01, step_deg=3.0, min_tilt_deg=ends[0], max_tilt_deg=ends[1])(smooth())[0]
        power = torch.fft.rfftn(power).abs().square()
        inside = missing_wedge((32, 32, 32), *ends).expand_as(power)
        assert float((power * inside).sum() / power.sum()) > 0.9
        if ends[0] != -ends[1]:
            mirrored = missing_wedge((32, 32, 32), *ends, invert=True).expand_as(power)
            assert float((power * mirrored).sum() / power.sum()) < 0.85

    @pytest.fixture
    def series(self, monkeypatch):
        """Projections as the transform images them, (C, T, H, W), before weighting."""
        monkeypatch.setattr(module, "back_project", lambda projections, *_: projections)
        monkeypatch.setattr(
            module, "reconstruction_filter", lambda tilts, width, *_, **__: torch.ones(1, width // 2 + 1)
        )

        def image(v, **options):
            transform = make(4, **options)
            transform.randomize()
            return transform.apply_to(v[None], [transform.parameters])[0], transform.parameters

        return image

    @pytest.mark.parametrize("snr", [0.05, 20.0])
    @pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
    def test_signal_to_noise_ratio(self, series, snr, fraction):
        options = {"ctf": T.CTF(3.0, amplitude_contrast=0.8), "noise_before_fraction": fraction, "dose_per_tilt": 3.0}
        signal, _ = series(smooth(), **options, snr=float("inf"))
        noise = series(smooth(), **options, snr=snr)[0] - signal
        variance = signal.var(dim=(-2, -1), correction=0).mean()
        assert float(variance / noise.var(dim=(-2, -1), correction=0).mean()) == pytest.approx(snr, rel=0.05)

    @pytest.mark.parametrize("scale", [1e-25, 1e-6, 1e6, 1e25])
    def test_snr_does_not_depend_on_the_scale_of_the_volume(self, scale):
        expected = make(snr=0.5)(smooth(16)).double()
        got = make(snr=0.5)(smooth(16) * scale).double() / scale
        torch.testing.assert_close(got, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)

    def test_where_the_noise_enters(self, series):
        """Noise of the specimen vanishes at the zeros of the CTF, that of the detector does not."""
        options = {"snr": 1.0, "ctf": T.CTF(6.0), "mtf": T.MTF(0.0)}
        transfer = ctf(radial_frequency((1, 32, 32), VOXEL), 6.0)[0].square()
        zero, peak = transfer < 0.02, transfer > 0.9
        ratio = {}
        for fraction in (0.0, 1.0):
            stack, _ = series(torch.zeros(1, 32, 32, 32), noise_before_fraction=fraction, **options)
            power = torch.fft.rfft2(stack[0]).abs().square().mean(dim=0)
            ratio[fraction] = float(power[zero].mean() / power[peak].mean())
        assert ratio[0.0] == pytest.approx(1, abs=0.25)
        assert ratio[1.0] < 0.02

    def test_imaging_is_ctf_dose_and_mtf(self, series):
        options = clean(4.0, 0.07, defocus_jitter_um=0.3)
        plain, _ = series(smooth(), **clean())
        got, drawn = series(smooth(), **options)
        defocus = 4.0 + torch.tensor(drawn["defocus_jitter_um"], dtype=torch.float32)
        assert float(defocus.max() - defocus.min()) > 0.2
        transfer = ctf(radial_frequency((1, 32, 32), VOXEL), defocus, cs_mm=0.0)[:, 0]
        expected = torch.fft.irfft2(torch.fft.rfft2(plain[0]) * transfer, s=(32, 32))
        torch.testing.assert_close(got[0], expected, atol=1e-4, rtol=1e-4)
        damaged, _ = series(smooth(), **options | {"dose_per_tilt": 30.0})
        lost = 1 - damaged[0].square().sum(dim=(-2, -1)) / got[0].square().sum(dim=(-2, -1))
        assert lost.argmin() == len(defocus) // 2  # exposed first
        assert bool((lost > 0).all())
        blurred, _ = series(smooth(), **options | {"mtf": T.MTF(2.0)})
        assert float(blurred.square().sum()) < float(got.square().sum())

    @pytest.mark.parametrize("mode", ["flip", "squared", "wiener"])
    def test_every_projection_is_processed_its_noise_too(self, series, mode):
        options = clean(6.0, 0.07) | {"snr": 0.5, "noise_before_fraction": 0.3}
        raw, _ = series(smooth(), **options)
        got, _ = series(smooth(), **options | {"ctf": clean(6.0, 0.07, mode=mode)["ctf"]})
        frequency = radial_frequency((1, 32, 32), VOXEL)[0]
        transfer = ctf(frequency, 6.0, cs_mm=0.0)
        gain = {
            "flip": torch.where(transfer < 0, -1.0, 1.0),
            "squared": transfer,
            "wiener": wiener_gain(transfer, frequency * 2 * VOXEL, VOXEL),
        }[mode]
        expected = torch.fft.irfft2(torch.fft.rfft2(raw) * gain, s=(32, 32))
        torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)

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
        ({"noise_before_fraction": (0.2, 0.8)}, "noise_before_fraction must be one number"),
        ({"min_tilt_deg": 70.0}, "-90 <= min < max <= 90"),
        ({"min_tilt_deg": (-60, 30), "max_tilt_deg": (20, 60)}, "-90 <= min < max <= 90"),
        ({"max_tilt_deg": 95.0}, "-90 <= min < max <= 90"),
        ({"step_deg": 0.0}, "step > 0"),
        ({"tilt_jitter_deg": -1.0}, "tilt_jitter_deg must lie in"),
        ({"ctf": T.MTF()}, r"ctf and mtf must be \(Rand\)CTF and \(Rand\)MTF"),
        ({"dose_per_tilt": -1.0}, "dose_per_tilt must lie in"),
        ({"tilt_order": "random"}, "tilt order must be one of"),
        ({"filter": "hann"}, "filter must be one of"),
        ({"output_size": (8, 8)}, "output_size must be one or three"),
        ({"output_size": 0}, "output_size must be a whole number >= 1"),
        ({"output_size": 17}, "output_size must fit into the input"),
        ({"voxel_size": (10.0, 10.0, 12.0)}, "cubic voxels"),
        ({"voxel_size": None}, "needs the voxel size"),
        ({"ctf": T.RandCTF(voxel_size=5.0)}, "RandTiltSeries found different voxel sizes"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)(volume())


def test_voxel_size_from_the_microscope():
    expected = make(snr=1.0)(volume())
    torch.testing.assert_close(make(snr=1.0, voxel_size=None, ctf=T.RandCTF(voxel_size=VOXEL))(volume()), expected)


def test_voxel_size_from_the_image():
    torch.testing.assert_close(make(voxel_size=None)(meta(volume())).as_tensor(), make()(volume()))


@pytest.mark.parametrize("axes", ["xyz", "yxz", "xzy"])
def test_tilt_axis_and_beam_are_directions_in_space(axes):
    """Brought into z, y, x order, simulated and brought back it is the same."""
    order = [axes.index(name) + 1 for name in "zyx"]
    back = [0, *(1 + order.index(k) for k in (1, 2, 3))]
    v = volume()
    affine = torch.zeros(4, 4)
    for k, name in enumerate(axes):
        affine["xyz".index(name), k] = VOXEL
    affine[3, 3] = 1
    size = (12, 11, 10)
    transform = make(snr=float("inf"), output_size=size)
    expected = make(snr=float("inf"), output_size=[size[k - 1] for k in order])(v.permute(0, *order)).permute(back)
    got = transform(MetaTensor(v.clone(), affine=affine)).as_tensor()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert got.shape == (1, *size)
    assert not torch.allclose(got, make(snr=float("inf"), output_size=size)(v), atol=1e-2)
