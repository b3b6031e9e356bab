"""What a MONAI user expects of every transform: types, dtypes, devices, prob, seeds, replay, dictionary versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.data.seeding import ItemRandomState, item_state

VOXEL = 13.68
RANDOM = {
    "RandSNR": lambda **k: T.RandSNR((0.1, 1.0), power_law=(0.0, 2.0), **k),
    "RandMissingWedge": lambda **k: T.RandMissingWedge((10, 50), **k),
    "RandCTF": lambda **k: T.RandCTF(voxel_size=VOXEL, **k),
    "RandMTF": lambda **k: T.RandMTF((0.5, 1.0), **k),
    "RandPose": lambda **k: T.RandPose(**k),
    "RandIntensity": lambda **k: T.RandIntensity(**k),
}
FIXED = {
    "AddNoise": lambda: T.AddNoise(0.5),
    "MissingWedge": lambda: T.MissingWedge((-50, 70)),
    "CTF": lambda: T.CTF(2.0, voxel_size=VOXEL),
    "MTF": lambda: T.MTF(),
    "Standardize": lambda: T.Standardize(),
}


def volume(channels=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    v = torch.zeros(channels, 16, 16, 16)
    v[:, 4:12, 5:12, 4:11] = torch.rand(channels, 8, 7, 7, generator=generator)
    return v.to(dtype)


def seeded(transform, seed=0):
    if hasattr(transform, "set_random_state"):
        transform.set_random_state(seed)
    return transform


@pytest.mark.parametrize("make", [*RANDOM.values(), *FIXED.values()], ids=[*RANDOM, *FIXED])
class TestEveryTransform:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_types_and_dtypes_are_kept(self, make, dtype):
        plain = volume(2, dtype)
        meta = MetaTensor(plain.clone(), affine=torch.diag(torch.tensor([VOXEL, VOXEL, VOXEL, 1.0])))
        results = [seeded(make())(x) for x in (plain, plain.numpy(), meta)]
        assert type(results[0]) is torch.Tensor
        assert isinstance(results[1], np.ndarray)
        assert isinstance(results[2], MetaTensor)
        torch.testing.assert_close(results[2].affine, meta.affine)
        for result in results:
            assert tuple(result.shape) == tuple(plain.shape)
            np.testing.assert_allclose(
                np.asarray(result), results[1], atol=1e-5, rtol=1e-3 if dtype == torch.float16 else 1e-5
            )
        assert results[0].dtype == results[2].dtype == dtype
        assert results[1].dtype == plain.numpy().dtype

    def test_the_input_is_left_alone(self, make):
        v = volume()
        before = v.clone()
        seeded(make())(v)
        torch.testing.assert_close(v, before, rtol=0, atol=0)

    def test_it_does_something(self, make):
        assert not torch.allclose(seeded(make())(volume()), volume(), atol=1e-3)

    def test_integers_become_float(self, make):
        assert seeded(make())((volume() * 100).to(torch.int16)).dtype == torch.float32

    @pytest.mark.parametrize("shape", [(16, 16, 16), (1, 1, 16, 16, 16)])
    def test_wrong_dimensionality_is_refused(self, make, shape):
        with pytest.raises(ValueError, match=r"channel-first volume \(C, D, H, W\), got shape"):
            seeded(make())(torch.zeros(shape))

    def test_non_cubic_and_odd_boxes(self, make):
        assert seeded(make())(torch.rand(1, 9, 12, 15)).shape == (1, 9, 12, 15)


@pytest.mark.parametrize("make", RANDOM.values(), ids=RANDOM)
class TestEveryRandomTransform:
    def test_prob_zero_is_the_identity(self, make):
        torch.testing.assert_close(seeded(make(prob=0.0))(volume()), volume())

    def test_same_seed_same_result_other_seed_other(self, make):
        first, again, other = (seeded(make(), s)(volume()) for s in (5, 5, 6))
        torch.testing.assert_close(first, again, rtol=0, atol=0)
        assert not torch.allclose(first, other)

    def test_global_generators_do_not_matter(self, make):
        results = []
        for noise in (1, 2):
            np.random.seed(noise)
            torch.manual_seed(noise)
            results.append(seeded(make())(volume()))
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)

    def test_drawn_values_can_be_read_and_replayed(self, make):
        transform = seeded(make())
        first = transform(volume())
        assert transform.params
        torch.testing.assert_close(transform(volume(), randomize=False), first, rtol=0, atol=0)
        assert not torch.allclose(transform(volume()), first)

    def test_channels_as_a_batch_equal_single_runs(self, make):
        """The batch, drawn from the items' own streams, gives each item what it gets alone."""
        batch = volume(4)
        transform = make(channel_wise=True)
        transform.set_random_state(state=ItemRandomState([item_state(3, i) for i in range(4)]))
        together = transform(batch)
        assert all(len(v) == 4 for v in transform.params.values())
        for i in range(4):
            alone = make(channel_wise=True).set_random_state(state=item_state(3, i))(batch[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)

    def test_channel_wise_draws_differ_and_otherwise_agree(self, make):
        transform = seeded(make(channel_wise=True))
        transform(volume(3))
        assert any(len(np.unique(np.asarray(v), axis=0)) == 3 for v in transform.params.values())
        transform = seeded(make())
        transform(volume(3))
        assert all(len(v) == 1 for v in transform.params.values())

    def test_partial_probability(self, make):
        transform = seeded(make(prob=0.5, channel_wise=True), 1)
        batch = volume(8)
        result = transform(batch)
        same = [bool(torch.allclose(result[i], batch[i], atol=1e-6)) for i in range(8)]
        assert same == (~transform.active).tolist()
        assert 0 < sum(same) < 8

    def test_bad_probability(self, make):
        with pytest.raises(ValueError, match=r"prob must lie in 0\.\.1"):
            make(prob=1.5)


DICTIONARY = {
    "RandSNR": {"snr": (0.1, 1.0)},
    "RandMissingWedge": {},
    "RandCTF": {"voxel_size": VOXEL},
    "RandMTF": {},
    "RandPose": {},
    "RandIntensity": {},
    "AddNoise": {"snr": 0.3},
    "MissingWedge": {},
    "CTF": {"voxel_size": VOXEL},
    "MTF": {},
    "Standardize": {},
}


@pytest.mark.parametrize(("name", "options"), DICTIONARY.items(), ids=DICTIONARY)
def test_dictionary_version_equals_array_version(name, options):
    dictionary, array = getattr(T, name + "d"), getattr(T, name)
    assert getattr(T, name + "D") is getattr(T, name + "Dict") is dictionary
    data = {"image": volume(), "other": "kept"}
    got = seeded(dictionary(keys="image", **options), 3)(data)
    torch.testing.assert_close(got["image"], seeded(array(**options), 3)(volume()), rtol=0, atol=0)
    assert got["other"] == "kept"
    assert torch.equal(data["image"], volume())
    with pytest.raises(KeyError):
        dictionary(keys="missing", **options)(data)
    assert dictionary(keys="missing", allow_missing_keys=True, **options)(data)["other"] == "kept"
    with pytest.raises(TypeError):
        dictionary(keys="image", mistyped=1, **options)


def test_two_keys_share_the_draw():
    transform = seeded(T.RandMissingWedged(keys=["a", "b"]))
    got = transform({"a": volume(), "b": volume()})
    torch.testing.assert_close(got["a"], got["b"], rtol=0, atol=0)


def test_in_a_monai_compose():
    pipeline = Compose(
        [T.RandPosed(["image", "mask"], mode=["bilinear", "nearest"]), T.RandSNRd("image"), T.Standardized("image")]
    )
    data = {"image": volume(), "mask": (volume() > 0).float()}
    first = pipeline.set_random_state(4)(data)
    again = pipeline.set_random_state(4)(data)
    torch.testing.assert_close(first["image"], again["image"], rtol=0, atol=0)
    assert set(first["mask"].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("value", [(1,), (1, 2, 3), "ab", (2, 1), (0.5, float("nan"))])
def test_bad_ranges(value):
    with pytest.raises(ValueError, match="snr must"):
        T.RandSNR(value)
