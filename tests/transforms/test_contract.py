"""What a MONAI user expects of every transform: types, dtypes, prob, seeds, replay, records, pickles."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import pickle

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, OneOf, SomeOf

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo._refusals import is_refusal
from monai_cryo.transforms.base import RandDrawable

VOXEL = 13.68


def volume(channels=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    v = torch.zeros(channels, 16, 16, 16)
    v[:, 4:12, 5:12, 4:11] = torch.rand(channels, 8, 7, 7, generator=generator)
    return v.to(dtype)


def meta(tensor):
    return MetaTensor(tensor.clone(), affine=torch.diag(torch.tensor([VOXEL, VOXEL, VOXEL, 1.0])).flip(0).roll(-1, 0))


def no_transform(*_args, **_kwargs):
    raise AssertionError("a Fourier transform was run")


class TestEveryTransform:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_types_and_dtypes_are_kept(self, kind, dtype):
        plain = volume(2, dtype)
        results = [kind.make()(x) for x in (plain, plain.numpy(), meta(plain))]
        assert type(results[0]) is torch.Tensor
        assert isinstance(results[1], np.ndarray)
        assert isinstance(results[2], MetaTensor)
        assert results[0].dtype == results[2].dtype == dtype
        assert results[1].dtype == plain.numpy().dtype
        for result in results:
            assert tuple(result.shape) == tuple(plain.shape)
            np.testing.assert_allclose(
                np.asarray(result), results[1], atol=1e-5, rtol=1e-3 if dtype == torch.float16 else 1e-5
            )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_tiny_huge_and_constant_volumes_stay_finite(self, kind, dtype):
        for v in (volume() * 1e-30, volume() * 1e30, torch.zeros(1, 16, 16, 16), torch.full((1, 16, 16, 16), 1e30)):
            assert bool(kind.make()(v.to(dtype)).isfinite().all())

    def test_corners_of_all_ranges_stay_finite(self, random_kind):
        """All ranges pinned to their lower ends, all to their upper ones, and each alone to either."""
        known = inspect.signature(getattr(T, random_kind.name)).parameters
        values = {name: p.default for name, p in known.items()} | random_kind.options
        ranges = {
            name: value
            for name, value in values.items()
            if isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, int | float) for v in value)
        }
        assert ranges
        corners = [{name: value[end] for name, value in ranges.items()} for end in (0, 1)]
        corners += [{name: value[end]} for name, value in ranges.items() for end in (0, 1)]
        for corner in corners:
            result = random_kind.make(**{name: (value, value) for name, value in corner.items()})(volume())
            assert bool(torch.as_tensor(result).isfinite().all()), corner

    def test_halves_at_their_limit_stay_finite(self, kind):
        for v in (volume() * 65000, volume() * 6e-8, torch.full((1, 16, 16, 16), -65504.0)):
            for half in (v.half(), v.half().numpy()):
                assert np.isfinite(np.asarray(kind.make()(half))).all()

    def test_it_does_something_and_leaves_the_input_alone(self, kind):
        v = volume()
        assert not torch.allclose(kind.make()(v), v, atol=1e-3)
        assert torch.equal(v, volume())

    def test_integers_become_float(self, kind):
        assert kind.make()((volume() * 100).to(torch.int16)).dtype == torch.float32

    def test_complex_values_are_refused(self, kind):
        with pytest.raises(ValueError, match=f"^{kind.name} expects real values, got torch.complex64"):
            kind.make()(volume().to(torch.complex64))

    def test_any_memory_layout_and_byte_order(self, kind):
        array = volume().numpy()
        expected = kind.make()(array)
        fixed = array.copy()
        fixed.flags.writeable = False  # as of a file mapped for reading
        for odd in (array[:, ::-1].copy()[:, ::-1], array.astype(">f4"), np.asfortranarray(array), fixed):
            result = kind.make()(odd)
            assert result.dtype == np.float32
            np.testing.assert_array_equal(result, expected)

    def test_non_cubic_and_odd_boxes(self, kind):
        result = kind.make()(torch.rand(1, 9, 12, 15))
        assert result.shape == (1, 9, 12, 15)
        assert bool(result.isfinite().all())

    @pytest.mark.parametrize("shape", [(16, 16, 16), (1, 1, 16, 16, 16)])
    def test_wrong_dimensionality_is_refused(self, kind, shape):
        with pytest.raises(ValueError, match=r"channel-first volume \(C, D, H, W\), got shape"):
            kind.make()(torch.zeros(shape))

    def test_values_that_are_not_finite_are_refused_with_their_number(self, kind):
        v = volume()
        v[0, 1, 2, 3], v[0, 5, 5, 5] = float("nan"), float("inf")
        with pytest.raises(ValueError, match=f"^{kind.name} expects finite values, found NaN or infinity in 2 of 4096"):
            kind.make()(v)

    def test_its_record_travels_in_the_metatensor(self, kind):
        transform, image = kind.make(), meta(volume())
        result = transform(image)
        assert len(result.applied_operations) == 1
        record = result.applied_operations[0]
        assert record["class"] == kind.name
        assert record["extra_info"]["parameters"] == transform.parameters
        assert json.loads(json.dumps(transform.parameters)) == transform.parameters
        assert image.applied_operations == []

    def test_pickled_or_copied_it_does_the_same(self, kind):
        transform = kind.make(3)
        expected = kind.make(3)(volume())
        for twin in (pickle.loads(pickle.dumps(transform)), copy.deepcopy(transform)):
            assert repr(twin) == repr(transform)
            torch.testing.assert_close(twin(volume()), expected, rtol=0, atol=0)

    def test_arguments_of_the_wrong_kind_are_refused_in_one_line(self, kind):
        """Or taken for what they are: no defect shows itself to who mistypes a value."""
        nothing = [None, "a", [], (1,), (1, "a"), {}, {"a": 1}, -1e9, float("nan"), object(), [[1, 2], [3]], np.ones(4)]
        defects = []
        for name in inspect.signature(getattr(T, kind.name)).parameters:
            for value in () if name in ("invert", "dual_axis") else nothing:
                try:
                    kind.make(**{name: value})
                except Exception as error:
                    defects += [] if is_refusal(error) else [f"{name}={value!r}: {error!r}"]
        assert defects == []

    def test_repr_shows_its_parameters(self, kind):
        shown = repr(kind.make())
        assert shown.startswith(f"{kind.name}(")
        assert all(f"{name}=" in shown for name in inspect.signature(getattr(T, kind.name)).parameters)

    def test_its_configuration_makes_its_equal(self, kind):
        transform = kind.make(3)
        if kind.name == "RandNeighbours":
            with pytest.raises(ValueError, match=r"RandNeighbours's templates is no plain value .*: Tensor"):
                transform.config()
            return
        config = json.loads(json.dumps(transform.config()))
        assert config["_target_"] == f"monai_cryo.transforms.{kind.name}"
        again = ConfigParser({"t": config}).get_parsed_content("t")
        assert type(again) is type(transform)
        assert again.config() == config
        if hasattr(again, "set_random_state"):
            again.set_random_state(3)
        torch.testing.assert_close(again(volume()), transform(volume()), rtol=0, atol=0)


class TestEveryTransformThatDraws:
    def test_same_seed_same_result_whatever_the_global_generators(self, drawing_kind):
        results = []
        for seed, noise in ((5, 1), (5, 2), (6, 2)):
            np.random.seed(noise)
            torch.manual_seed(noise)
            results.append(drawing_kind.make(seed)(volume()))
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
        assert not torch.allclose(results[0], results[2])

    def test_what_was_drawn_last_can_be_replayed(self, drawing_kind):
        transform = drawing_kind.make()
        first = transform(volume())
        torch.testing.assert_close(transform(volume(), randomize=False), first, rtol=0, atol=0)
        assert not torch.allclose(transform(volume()), first)

    def test_replay_before_any_draw_is_one_clear_error(self, drawing_kind):
        with pytest.raises(ValueError, match=rf"^{drawing_kind.name}: nothing was drawn yet"):
            drawing_kind.make()(volume(), randomize=False)

    def test_all_channels_share_the_draw(self, drawing_kind):
        transform = drawing_kind.make()
        result = transform(volume(2))
        drawn = transform.parameters
        alone = drawing_kind.make()
        alone.randomize()
        assert alone.parameters == drawn
        assert result.shape == (2, 16, 16, 16)


class TestProb:
    def test_zero_returns_the_very_input_without_any_transform(self, random_kind, monkeypatch):
        transform = random_kind.make(prob=0.0)
        for name in ("rfftn", "irfftn", "rfft2", "irfft2"):
            monkeypatch.setattr(torch.fft, name, no_transform)
        for image in (volume(), volume().numpy(), volume(dtype=torch.float16)):
            assert transform(image) is image
            assert transform.parameters is None
        batch = torch.stack([volume(), volume()])
        assert transform.apply(batch, [transform.draw(transform.R) for _ in batch]) is batch

    def test_zero_leaves_the_history_of_the_input_alone(self, random_kind):
        image = meta(volume())
        result = random_kind.make(prob=0.0)(image)
        assert image.applied_operations == []
        assert len(result.applied_operations) == 1
        assert result.data_ptr() == image.data_ptr()
        torch.testing.assert_close(result.affine, image.affine, rtol=0, atol=0)

    def test_it_is_drawn_for_every_item(self, random_kind):
        transform = random_kind.make(prob=0.3)
        state = np.random.RandomState(0)
        share = np.mean([transform.draw(state) is not None for _ in range(300)])
        assert share == pytest.approx(0.3, abs=0.08)

    @pytest.mark.parametrize("prob", [1.5, -0.1])
    def test_impossible(self, random_kind, prob):
        with pytest.raises(ValueError, match=r"prob must lie in 0\.\.1"):
            random_kind.make(prob=prob)


class TestInMonai:
    def test_compose_seeds_its_members(self):
        pipeline = Compose([T.RandPose(), T.RandSNR(1.0), T.Standardize()])
        first, again = (pipeline.set_random_state(4)(volume()) for _ in range(2))
        other = pipeline.set_random_state(5)(volume())
        torch.testing.assert_close(first, again, rtol=0, atol=0)
        assert not torch.allclose(first, other)

    def test_one_of_chooses_every_branch(self):
        choice = OneOf([T.RandIntensity((2.0, 3.0), 0.0), T.RandIntensity(1.0, (5.0, 6.0))]).set_random_state(0)
        means = [float(choice(volume()).mean()) for _ in range(20)]
        shifted = sum(m > volume().mean() + volume().std() for m in means)
        assert 3 < shifted < 17
        assert len(set(means)) > 3  # each call draws anew
        choice.set_random_state(0)
        assert [float(choice(volume()).mean()) for _ in range(20)] == means

    def test_some_of_runs_as_many_as_asked(self):
        some = SomeOf([T.RandSNR(1.0), T.RandIntensity(), T.RandPose()], num_transforms=2).set_random_state(1)
        image = meta(volume())
        records = [[op["class"] for op in some(image).applied_operations if op["class"] != "SomeOf"] for _ in range(20)]
        assert len({tuple(r) for r in records}) >= 3
        assert all(len(r) == 2 for r in records)

    def test_records_follow_one_another(self):
        result = Compose([T.RandPose(), T.MTF(), T.RandIntensity()]).set_random_state(0)(meta(volume()))
        assert [op["class"] for op in result.applied_operations] == ["RandPose", "MTF", "RandIntensity"]


def test_the_kinds_tested_are_all_there_are(kinds):
    bases = {"Drawable", "RandDrawable", "FourierStep", "FourierFilter"}
    there = {n for n in T.__all__ if inspect.isclass(o := getattr(T, n)) and issubclass(o, T.Drawable)}
    assert {k.name for k in kinds} == there - bases


def test_fixed_transforms_draw_the_same_from_any_state(kinds):
    for kind in kinds:
        if issubclass(getattr(T, kind.name), RandDrawable):
            continue
        transform = kind.make()
        assert transform.draw(np.random.RandomState(0)) == transform.draw(np.random.RandomState(1))


def test_a_configuration_names_classes_of_ones_own_where_they_are(tmp_path, monkeypatch):
    package = tmp_path / "own_package" / "deep"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "filters.py").write_text("from monai_cryo.transforms import MTF\n\n\nclass Own(MTF):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = importlib.import_module("own_package.deep.filters").Own(0.5).config()
    assert config["_target_"] == "own_package.deep.filters.Own"
    assert ConfigParser({"t": config}).get_parsed_content("t").config() == config


def test_a_configuration_holds_arrays_as_lists():
    table = np.array([[0.0, 1.0], [1.0, 0.5]], dtype=np.float32)
    config = T.MTF(curve=table).config()
    assert config["curve"] == table.tolist()
    assert ConfigParser({"t": config}).get_parsed_content("t").config() == config
    assert T.RandSNR(np.array([1, 2])).config()["snr"] == [1, 2]


#: ranges that end where results would no longer be finite, or would take no end
LIMITS = [
    ("RandRadialGain", {"nodes": 1}, "walk", 15.0),
    ("RandRadialGain", {"nodes": 25}, "walk", 3.0),
    ("RandIceGradient", {}, "amplitude", 1000.0),
    ("RandIceGradient", {"amplitude": 1000.0}, "quadratic", 1000.0),
    ("RandTiltSeries", {"voxel_size": VOXEL, "step_deg": 10.0}, "dose_per_tilt", 1000.0),
    ("RandPose", {}, "zoom", 10.0),
]


@pytest.mark.parametrize(("name", "options", "which", "limit"), LIMITS)
def test_results_are_finite_at_the_limits_of_ranges(name, options, which, limit):
    kind, beyond = getattr(T, name), float(np.nextafter(limit, np.inf))
    for value in (beyond, (0.5, beyond), 1e38):
        with pytest.raises(ValueError, match=rf"^{which} must lie in 0\.\.{limit:g}, got ") as error:
            kind(**options, **{which: value})
        assert is_refusal(error.value)
    transform = kind(**options, **{which: limit})
    for seed in range(20):
        assert bool(transform.set_random_state(seed)(volume()).isfinite().all())
