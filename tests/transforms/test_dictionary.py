"""Dictionary versions: one signature for all, keys first and everything else by keyword, one draw for all keys."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, MapTransform

import monai_cryo.transforms as T  # noqa: N812

VOXEL = 13.68
OWN = {"RandPose": {"mode", "posed_key", "radius_key"}, "RandTiltSeries": {"mask_keys"}}
MASKED = {"RandSNR", "AddNoise", "FourierCompose", "RandNeighbours"}


def volume(channels=1):
    generator = torch.Generator().manual_seed(7)
    v = torch.zeros(channels, 16, 16, 16)
    v[:, 4:12, 5:12, 4:11] = torch.rand(channels, 8, 7, 7, generator=generator)
    return v


class TestEveryDictionaryVersion:
    def test_its_names(self, kind):
        versions = {getattr(T, kind.name + suffix) for suffix in ("d", "D", "Dict")}
        assert len(versions) == 1
        assert issubclass(next(iter(versions)), MapTransform)

    def test_its_signature(self, kind):
        array, dictionary = (inspect.signature(getattr(T, n)).parameters for n in (kind.name, f"{kind.name}d"))
        first, *rest = dictionary.values()
        assert first.name == "keys"
        assert all(p.kind is p.KEYWORD_ONLY for p in rest)
        mask = {"mask_key"} if kind.name in MASKED else set()
        assert {p.name for p in rest} == {*array, "allow_missing_keys"} | mask | OWN.get(kind.name, set())
        assert all(dictionary[name].default == p.default for name, p in array.items())

    def test_equals_the_array_version(self, kind):
        data = {"image": volume(), "other": "kept"}
        got = kind.make_dict(seed=3)(data)
        torch.testing.assert_close(got["image"], kind.make(3)(volume()), rtol=0, atol=0)
        assert got["other"] == "kept"
        assert torch.equal(data["image"], volume())

    def test_missing_keys_and_mistyped_arguments(self, kind):
        data = {"other": "kept"}
        with pytest.raises(KeyError, match="image"):
            kind.make_dict()(data)
        assert kind.make_dict(allow_missing_keys=True)(data) == data
        with pytest.raises(TypeError, match="mistyped"):
            kind.make_dict(mistyped=1)

    def test_what_was_drawn_last_can_be_replayed(self, kind):
        transform = kind.make_dict()
        first = transform({"image": volume()})["image"]
        torch.testing.assert_close(transform({"image": volume()}, randomize=False)["image"], first, rtol=0, atol=0)

    def test_keys_share_the_draw(self, kind):
        got = kind.make_dict(["a", "b"])({"a": volume(), "b": volume()})
        torch.testing.assert_close(got["a"], got["b"], rtol=0, atol=0)

    def test_its_configuration_makes_its_equal(self, kind):
        transform = kind.make_dict(["image"], seed=3, allow_missing_keys=True)
        if kind.name == "RandNeighbours":
            with pytest.raises(ValueError, match="RandNeighboursd's templates is no plain value"):
                transform.config()
            return
        config = transform.config()
        assert config["_target_"] == f"monai_cryo.transforms.{kind.name}d"
        again = ConfigParser({"t": config}).get_parsed_content("t")
        assert again.config() == config
        assert repr(again).startswith(f"{kind.name}d(keys=")
        if hasattr(again, "set_random_state"):
            again.set_random_state(3)
        data = {"image": volume()}
        torch.testing.assert_close(again(data)["image"], transform(data)["image"], rtol=0, atol=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: T.CTFd("image", 2.0),
        lambda: T.MissingWedged("image", (-40, 40)),
        lambda: T.RandSNRd("image", 0.1),
        lambda: T.RandPosed("image", "bilinear"),
        lambda: T.RandTiltSeriesd("image", "mask"),
        lambda: T.FourierComposed("image", [T.MTF()]),
        lambda: T.Standardized("image", "batch"),
    ],
)
def test_everything_but_the_keys_goes_by_keyword(make):
    with pytest.raises(TypeError, match="positional argument"):
        make()


def test_noise_of_one_key_does_not_repeat_in_the_next_call():
    transform = T.RandSNRd(["a", "b"], snr=1.0).set_random_state(0)
    first, second = (transform({"a": volume(), "b": volume()}) for _ in range(2))
    assert torch.equal(first["a"], first["b"])
    assert not torch.equal(first["a"], second["a"])


def test_the_mask_reaches_the_noise():
    data = {"image": volume(), "mask": (volume() > 0.5).float()}
    got = T.RandSNRd("image", snr=0.5, region="mask", mask_key="mask").set_random_state(1)(data)["image"]
    expected = T.RandSNR(0.5, region="mask").set_random_state(1)(data["image"], mask=data["mask"])
    assert torch.equal(got, expected)
    with pytest.raises(ValueError, match="needs the mask: pass mask=, or mask_key="):
        T.RandSNRd("image", region="mask")(data)


def test_the_mask_is_looked_up_for_a_key_that_is_there():
    """Where there is nothing to transform no mask is needed."""
    noise = T.RandSNRd("image", mask_key="mask", allow_missing_keys=True)
    assert noise({"other": 1}) == {"other": 1}
    assert noise.apply({"other": [1]}, [noise.draw(noise.R)]) == {"other": [1]}
    with pytest.raises(KeyError, match=r"RandSNRd: no 'mask' \(mask_key\) among image"):
        noise({"image": volume()})


def test_in_a_monai_compose():
    pipeline = Compose(
        [T.RandPosed(["image", "mask"], mode=["bilinear", "nearest"]), T.RandSNRd("image"), T.Standardized("image")]
    )
    data = {"image": volume(), "mask": (volume() > 0).float()}
    first, again = (pipeline.set_random_state(4)(data) for _ in range(2))
    torch.testing.assert_close(first["image"], again["image"], rtol=0, atol=0)
    assert set(first["mask"].unique().tolist()) == {0.0, 1.0}


def test_randomize_of_a_dictionary_version_draws_for_its_array_version():
    transform = T.RandMTFd("image", scale=(0.2, 0.9)).set_random_state(2)
    transform.randomize()
    expected = T.RandMTF((0.2, 0.9)).set_random_state(2)
    expected.randomize()
    assert transform.transform.parameters == expected.parameters


class TestArguments:
    @pytest.mark.parametrize("value", [(), (1, 2, 3), "ab", (2, 1), (0.5, float("nan")), None, True, [[0.1, 1]]])
    def test_bad_ranges(self, value):
        with pytest.raises(ValueError, match="snr must"):
            T.RandSNR(value)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
    def test_numpys_numbers(self, dtype):
        assert T.RandCTF(dtype(3), voxel_size=dtype(10)).config()["defocus_um"] == 3
        assert T.RandSNR((dtype(1), dtype(2))).snr == (1, 2)
        assert T.RandSNR(np.array([1, 2], dtype=dtype)).snr == (1, 2)
        assert T.MTF(dtype(1)).scale == (1, 1)
        T.CTF(dtype(3), voxel_size=np.full(3, 10, dtype=dtype))(volume())

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: T.AddNoise((0.01, 10)), r"snr must be one number, got \(0.01, 10\)"),
            (lambda: T.AddNoise(1.0, power_law=(0, 2)), "power_law must be one number"),
            (lambda: T.AddNoise(1.0, lowpass=(0.5, 2)), "lowpass must be one number"),
            (lambda: T.AddNoise(1.0, stage=["before", "after"]), "stage must be one of"),
            (lambda: T.MTF((0, 1)), r"scale must be one number, got \(0, 1\)"),
            (lambda: T.CTF((1, 2)), "defocus_um must be one number"),
            (lambda: T.CTF(1.0, cs_mm=[1.5, 3]), "cs_mm must be one number"),
            (lambda: T.CTF(1.0, mode=["raw", "flip"]), "mode must be one of"),
            (lambda: T.RandTiltSeries(noise_before_fraction=(0.2, 0.8)), "noise_before_fraction must be one number"),
            (lambda: T.RandNeighbours([torch.ones(3, 3, 3)], overlap=(0, 0.1)), "overlap must be one number"),
        ],
    )
    def test_no_range_where_a_number_is_meant(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    @pytest.mark.parametrize(
        "make",
        [
            lambda n: T.RandDensityField(points=n),
            lambda n: T.RandRadialGain(nodes=n),
            lambda n: T.NormalizeSpectrum(smooth_shells=n),
            lambda n: T.RandNeighbours([torch.ones(3, 3, 3)], count=n),
            lambda n: T.RandTiltSeries(output_size=n),
        ],
    )
    def test_whole_numbers(self, make):
        for good in (5, 5.0, np.int64(5), np.array(5)):
            make(good)
        for bad in (4.9, "5", None if "count" in repr(make(5)) else True, -5, float("inf")):
            with pytest.raises(ValueError, match=r"must (be|lie)"):
                make(bad)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: T.RandDensityField(points=(4, 8)), r"points must be one number, got \(4, 8\)"),
            (lambda: T.RandCTF(mode=None), "mode must be one or several of raw, flip"),
            (lambda: T.RandCTF(mode=3), "mode must be one or several of raw, flip"),
            (lambda: T.RandSNR(stage=[]), "stage must be one or several of"),
            (lambda: T.NormalizeSpectrum(tilt_range_deg=(60,)), "tilt_range_deg must be"),
            (lambda: T.NormalizeSpectrum(tilt_range_deg=60), "tilt_range_deg must be"),
            (lambda: T.MissingWedge((-60, "a")), "tilt_range_deg must be"),
            (lambda: T.MissingWedge(None), "tilt_range_deg must be"),
            (lambda: T.RandTiltSeries(output_size=(8, 8)), "one or three numbers of voxels"),
            (lambda: T.RandTiltSeries(output_size=(8, 8, 8.5)), "output_size must be a whole number"),
        ],
    )
    def test_what_is_no_value_at_all(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_weights_of_templates_in_any_number_type(self):
        particle = torch.ones(3, 3, 3)
        groups = [([particle], np.float32(1)), ([particle], np.int64(2)), ([particle, particle], 3)]
        assert T.RandNeighbours(groups).weights == pytest.approx([1 / 6, 2 / 6, 1 / 4, 1 / 4])
