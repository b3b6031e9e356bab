"""Neighbours, gold beads and ice gradients: a MONAI transform's manners, and what each promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_cryo.data.seeding import ItemRandomState, item_state
from monai_cryo.physics import bounding_radius
from monai_cryo.transforms import RandPosed, scene

VOXEL = 13.68


def particle(n=5):
    return 1 + torch.rand(n, n, n, generator=torch.Generator().manual_seed(n))


TEMPLATES = [particle(3), particle(5), particle(5)[1:] * 0.5]
OPTIONS = {
    "RandNeighbours": {"templates": TEMPLATES, "count": (2, 4), "amplitude": (0.5, 1.5)},
    "RandGoldBead": {"voxel_size": VOXEL},
    "RandIceGradient": {"amplitude": (0.2, 0.5)},
}
ALL = pytest.mark.parametrize("name", OPTIONS)


def make(name, seed=0, **more):
    return getattr(scene, name)(**OPTIONS[name], **more).set_random_state(seed)


def volume(channels=1, dtype=torch.float32):
    v = torch.zeros(channels, 20, 20, 20)
    v[:, 7:13, 8:13, 8:12] = 1 + torch.rand(channels, 6, 5, 4, generator=torch.Generator().manual_seed(7))
    return v.to(dtype)


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_types_and_dtypes_are_kept(name, dtype):
    plain = volume(2, dtype)
    meta = MetaTensor(plain.clone(), affine=torch.diag(torch.tensor([VOXEL, VOXEL, VOXEL, 1.0])))
    results = [make(name)(x) for x in (plain, plain.numpy(), meta)]
    assert [type(r) for r in results] == [torch.Tensor, np.ndarray, MetaTensor]
    torch.testing.assert_close(results[2].affine, meta.affine)
    assert results[0].dtype == results[2].dtype == dtype
    assert results[1].dtype == plain.numpy().dtype
    for result in results:
        np.testing.assert_allclose(np.asarray(result), results[1], atol=1e-5)
    torch.testing.assert_close(plain, volume(2, dtype), rtol=0, atol=0)
    assert not torch.allclose(results[0], plain, atol=1e-3)


@ALL
def test_integers_shapes_and_prob(name):
    assert make(name)((volume() * 100).to(torch.int16)).dtype == torch.float32
    assert make(name)(torch.zeros(1, 9, 12, 15)).shape == (1, 9, 12, 15)
    torch.testing.assert_close(make(name, prob=0.0)(volume()), volume(), rtol=0, atol=0)
    for shape in [(16, 16, 16), (1, 1, 16, 16, 16)]:
        with pytest.raises(ValueError, match=r"channel-first volume \(C, D, H, W\), got shape"):
            make(name)(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"prob must lie in 0\.\.1"):
        make(name, prob=1.5)


@ALL
def test_seeds_and_replay(name):
    np.random.seed(1)
    torch.manual_seed(1)
    transform = make(name, 5)
    first = transform(volume())
    torch.manual_seed(2)
    np.random.seed(2)
    torch.testing.assert_close(make(name, 5)(volume()), first, rtol=0, atol=0)
    assert not torch.allclose(make(name, 6)(volume()), first)
    torch.testing.assert_close(transform(volume(), randomize=False), first, rtol=0, atol=0)
    assert not torch.allclose(transform(volume()), first)


@ALL
def test_channels_as_a_batch_equal_single_runs(name):
    batch = volume(4)
    batch[2] = 0
    transform = make(name, channel_wise=True)
    transform.set_random_state(state=ItemRandomState([item_state(3, i) for i in range(4)]))
    together = transform(batch)
    assert all(len(v) == 4 for v in transform.params.values())
    for i in range(4):
        alone = make(name, channel_wise=True).set_random_state(state=item_state(3, i))(batch[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)


@ALL
def test_one_draw_for_all_channels_unless_channel_wise(name):
    transform = make(name)
    changed = transform(volume(3)) - volume(3)
    assert all(len(v) == 1 for v in transform.params.values())
    if name == "RandNeighbours":
        torch.testing.assert_close(changed[0], changed[2], atol=1e-6, rtol=0)
    transform = make(name, 1, prob=0.5, channel_wise=True)
    result, batch = transform(volume(8)), volume(8)
    same = [bool(torch.allclose(result[i], batch[i], atol=1e-6)) for i in range(8)]
    assert same == (~transform.active).tolist()
    assert 0 < sum(same) < 8


@ALL
def test_dictionary_version_equals_array_version(name):
    dictionary = getattr(scene, name + "d")
    assert getattr(scene, name + "D") is getattr(scene, name + "Dict") is dictionary
    data = {"image": volume(), "other": "kept"}
    got = dictionary(keys="image", **OPTIONS[name]).set_random_state(3)(data)
    torch.testing.assert_close(got["image"], make(name, 3)(volume()), rtol=0, atol=0)
    assert got["other"] == "kept"
    assert torch.equal(data["image"], volume())
    with pytest.raises(KeyError):
        dictionary(keys="missing", **OPTIONS[name])(data)
    assert dictionary(keys="missing", allow_missing_keys=True, **OPTIONS[name])(data)["other"] == "kept"
    with pytest.raises(TypeError):
        dictionary(keys="image", mistyped=1, **OPTIONS[name])


class TestNeighbours:
    def test_they_never_touch_the_central_particle(self):
        """Over many draws nothing is added to the central voxels, and something elsewhere."""
        image = volume(200)
        transform = make("RandNeighbours", channel_wise=True, gap_vox=math.sqrt(3))  # how far interpolation reaches
        added = transform(image) - image
        assert not added[image > 0].any()
        assert float((added.sum(dim=(1, 2, 3)) > 0).float().mean()) > 0.95
        p = transform.params
        points = (image[0].nonzero() - 10).numpy()
        for positions, templates in zip(p["position_vox"], p["template"], strict=True):
            away = np.linalg.norm(positions[:, None] - points, axis=-1).min(axis=1)
            assert not (away < transform.radius_vox[templates] + math.sqrt(3) - 1e-4).any()

    def test_the_mask_says_where_the_central_particle_is_and_stays(self):
        image, mask = volume(50), (volume(50) > 0).to(torch.uint8)
        mask[:, 2:18] |= mask[:, 10:11]  # longer than the density
        pipeline = Compose(
            [
                RandPosed(["image", "mask"], mode=["bilinear", "nearest"], channel_wise=True),
                scene.RandNeighboursd(
                    "image", mask_key="mask", channel_wise=True, gap_vox=2.0, **OPTIONS["RandNeighbours"]
                ),
            ]
        )
        posed = pipeline.transforms[0].set_random_state(4)({"image": image, "mask": mask})
        crowd = pipeline.transforms[1].set_random_state(4)(posed)
        assert torch.equal(crowd["mask"], posed["mask"])
        assert not (crowd["image"] - posed["image"])[posed["mask"] > 0].any()
        with pytest.raises(ValueError, match=r"mask shape \(1, 20, 20, 20\) must equal image shape \(50, 20, 20, 20\)"):
            make("RandNeighbours")(image, mask[:1])

    def test_count_is_drawn_evenly_and_mass_adds_up(self):
        transform = scene.RandNeighbours(TEMPLATES[1:2], (0, 3), amplitude=2.0, channel_wise=True).set_random_state(0)
        empty = torch.zeros(400, 30, 30, 30)
        added = transform(empty)
        count, position = transform.params["count"], transform.params["position_vox"]
        assert np.bincount(count, minlength=4).min() > 70
        there = np.isfinite(position[..., 0])
        assert there.sum() >= 0.98 * count.sum()
        assert not (there.sum(axis=1) > count).any()
        inside = (~there | (np.abs(np.nan_to_num(position)).max(axis=-1) < 10)).all(axis=1)
        got = added.sum(dim=(1, 2, 3)).numpy()[inside]
        expected = 2.0 * float(TEMPLATES[1].sum()) * there.sum(axis=1)[inside]
        assert (expected > 0).sum() > 20
        np.testing.assert_allclose(got, expected, rtol=0.06)

    def test_with_nothing_in_the_middle_they_come_anywhere(self):
        transform = scene.RandNeighbours(TEMPLATES[:1], 1, channel_wise=True).set_random_state(0)
        transform(torch.zeros(2000, 9, 9, 9), mask=torch.zeros(2000, 9, 9, 9))
        r = np.linalg.norm(transform.params["position_vox"][:, 0], axis=1)
        farthest = 4 + bounding_radius(TEMPLATES[0])
        assert r.max() < farthest
        assert (r < farthest / 2).mean() == pytest.approx(1 / 8, abs=0.03)

    def test_no_room_leaves_the_image_alone(self):
        crowded = torch.ones(1, 12, 12, 12)
        transform = make("RandNeighbours")
        torch.testing.assert_close(transform(crowded), crowded, rtol=0, atol=0)
        assert np.isnan(transform.params["position_vox"]).all()
        off = scene.RandNeighbours(TEMPLATES, 0)
        torch.testing.assert_close(off(volume()), volume(), rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ({"templates": []}, "templates must hold at least one density"),
            ({"templates": [torch.zeros(3, 3, 3)]}, r"templates\[0\] must be a finite \(d, h, w\) that is not zero"),
            ({"templates": [particle(), particle()[0]]}, r"templates\[1\] must be .* got \(5, 5\)"),
            ({"count": (1, 2.5)}, "count must be whole numbers"),
            ({"count": -1}, r"count must lie in 0\.\.inf"),
            ({"gap_vox": -1.0}, "gap_vox must be >= 0"),
            ({"amplitude": (0, 1)}, "amplitude must be > 0"),
        ],
    )
    def test_bad_arguments(self, bad, message):
        with pytest.raises(ValueError, match=message):
            scene.RandNeighbours(**{"templates": TEMPLATES} | bad)


class TestGoldBead:
    def test_radius_place_and_density_are_those_drawn(self):
        image = volume(300)
        transform = make("RandGoldBead", channel_wise=True)
        out, p = transform(image), transform.params
        radius = p["radius_a"] / VOXEL
        assert radius.min() * VOXEL >= 25
        assert radius.max() * VOXEL <= 75
        inside = (np.abs(p["position"] * 20).max(axis=1) + radius + 1 < 10) & (radius > 2)
        assert inside.sum() > 10
        for i in np.flatnonzero(inside):
            level = float(image[i].max()) * p["amplitude"][i]
            assert float(out[i].max()) == pytest.approx(level, rel=1e-5)
            filled = (out[i] - image[i]) / (level - image[i])  # it displaces what was there
            assert float(filled.sum()) == pytest.approx(4 / 3 * math.pi * radius[i] ** 3, rel=0.03)
        whole = np.abs(p["position"]).max()
        assert 0.45 < whole <= 0.5

    def test_empty_volume_and_voxel_size(self):
        transform = scene.RandGoldBead(40.0, 5.0).set_random_state(0)
        with pytest.raises(ValueError, match="RandGoldBead needs the voxel size"):
            transform(volume())
        meta = MetaTensor(torch.zeros(1, 20, 20, 20), affine=torch.diag(torch.tensor([VOXEL, VOXEL, VOXEL, 1.0])))
        assert float(transform(meta).max()) == 5.0
        for bad in ({"radius_a": 0}, {"amplitude": (0, 2)}, {"voxel_size": -1}):
            with pytest.raises(ValueError, match=next(iter(bad))):
                scene.RandGoldBead(**bad)


class TestIceGradient:
    def test_its_std_is_as_asked(self):
        image = 3 + 2 * torch.randn(6, 24, 20, 22, generator=torch.Generator().manual_seed(0))
        transform = scene.RandIceGradient((0.1, 0.9), channel_wise=True).set_random_state(0)
        added = transform(image) - image
        expected = torch.as_tensor(transform.params["amplitude"]).float() * image.std(dim=(1, 2, 3), correction=0)
        torch.testing.assert_close(added.std(dim=(1, 2, 3), correction=0), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(added.mean(dim=(1, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)

    def test_without_the_quadratic_form_it_is_a_plane(self):
        image = torch.randn(1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
        added = scene.RandIceGradient(0.5, quadratic=0.0).set_random_state(0)(image) - image
        for axis in (1, 2, 3):
            torch.testing.assert_close(
                added.diff(dim=axis, n=2), torch.zeros_like(added.diff(dim=axis, n=2)), atol=1e-5, rtol=0
            )

    def test_a_constant_image_has_no_scale(self):
        torch.testing.assert_close(make("RandIceGradient")(torch.zeros(1, 8, 8, 8)), torch.zeros(1, 8, 8, 8))
        with pytest.raises(ValueError, match="amplitude must lie in 0"):
            scene.RandIceGradient(-0.1)
