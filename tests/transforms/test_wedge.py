"""Missing wedge as a transform: geometry, ends drawn on their own, fans in Å, axes as the affine has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.physics import apply_transfer, dual_axis_wedge, missing_wedge, tilt_fan


def volume(seed=0, shape=(12, 12, 12)):
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def with_affine(v, voxel_size=10.0, *, axes="xyz", **meta):
    """Volume whose array axes run along the named directions, as NIfTI's xyz or MRC's zyx."""
    affine = torch.zeros(4, 4, dtype=torch.float64)
    for column, name in enumerate(axes):
        affine["xyz".index(name), column] = voxel_size
    affine[3, 3] = 1
    return MetaTensor(v.clone(), affine=affine, meta=meta)


def test_it_elongates_along_the_beam():
    v = torch.zeros(1, 33, 33, 33)
    v[0, 16, 16, 16] = 1
    out = T.MissingWedge((-60, 60))(v)[0]
    assert out[17, 16, 16] > 0.1 > 0 > out[16, 16, 17]
    assert out[16, 18, 16] == pytest.approx(0, abs=1e-3)  # along the tilt axis a point stays sharp
    torch.testing.assert_close(out, apply_transfer(v[0], missing_wedge((33, 33, 33), -60, 60)))


def test_a_full_range_changes_nothing():
    torch.testing.assert_close(T.MissingWedge((-90, 90))(volume()), volume(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"tilt_axis": "x"},
        {"tilt_axis": "z", "beam_axis": "x"},
        {"invert": True},
        {"soft_edge_deg": 8.0},
        {"cosine_power": 1.5},
        {"voxel_size": (10.0, 12.0, 14.0)},
    ],
    ids=str,
)
def test_options_are_those_of_the_physics(options):
    v = volume(shape=(12, 13, 14))
    expected = apply_transfer(v, missing_wedge(v.shape, -50, 70, **options))
    torch.testing.assert_close(T.MissingWedge((-50, 70), **options)(v), expected)


@pytest.mark.parametrize("beam", ["z", "x"])
def test_dual_axis(beam):
    v = volume(shape=(12, 13, 14))
    got = T.MissingWedge((-40, 60), dual_axis=True, beam_axis=beam)(v)
    torch.testing.assert_close(got, apply_transfer(v, dual_axis_wedge(v.shape, -40, 60, beam_axis=beam)))
    single = T.MissingWedge((-40, 60), beam_axis=beam)(v)
    assert float(got.square().sum()) > float(single.square().sum())


FAN = {"tilt_range_deg": (-60, 60), "step_deg": 10.0, "thickness_a": 160.0}


class TestFan:
    def test_it_samples_what_the_physics_says_at_the_true_voxel_size(self):
        v, tilts = volume(shape=(20, 20, 20)), np.arange(-60, 61, 10.0)
        expected = apply_transfer(v, tilt_fan(v.shape, tilts, thickness_a=160.0, voxel_size=10.0))
        torch.testing.assert_close(T.MissingWedge(**FAN, voxel_size=10.0)(v), expected)
        torch.testing.assert_close(T.MissingWedge(**FAN)(with_affine(v, axes="zyx")).as_tensor(), expected)
        wrong = apply_transfer(v, tilt_fan(v.shape, tilts, thickness_a=160.0, voxel_size=1.0))
        assert float(wrong.square().sum()) < 0.7 * float(expected.square().sum())

    def test_both_ends_are_tilts_whatever_the_step(self):
        v = volume(shape=(20, 20, 20))
        tilts = np.linspace(-60, 60, 19)  # 120 degrees in steps of at most 7
        expected = apply_transfer(v, tilt_fan(v.shape, tilts, thickness_a=160.0, voxel_size=10.0))
        found = T.MissingWedge(**{**FAN, "step_deg": 7.0}, voxel_size=10.0)(v)
        torch.testing.assert_close(found, expected)

    def test_it_refuses_to_guess_the_voxel_size(self):
        for image in (volume(), MetaTensor(volume())):
            with pytest.raises(ValueError, match="MissingWedge needs the voxel size: pass voxel_size in Å"):
                T.MissingWedge(**FAN)(image)

    def test_a_batch_shares_it(self):
        batch = torch.stack([volume(0), volume(1)])
        fan = T.MissingWedge(**FAN, voxel_size=10.0)
        draw = fan.draw(np.random.RandomState(0))
        result = fan.apply(batch, [draw, draw])
        for i in range(2):
            torch.testing.assert_close(result[i], fan(batch[i]), atol=1e-5, rtol=1e-5)


class TestAxes:
    wedge = staticmethod(lambda **options: T.MissingWedge((-50, 70), **options))

    def test_mrc_like_affines_are_the_default(self):
        expected = self.wedge()(volume())
        torch.testing.assert_close(self.wedge()(with_affine(volume(), axes="zyx")).as_tensor(), expected)

    @pytest.mark.parametrize("axes", ["xyz", "yxz", "xzy"])
    @pytest.mark.parametrize("fused", [False, True])
    def test_other_affines_turn_the_wedge_with_them(self, axes, fused):
        """Brought into z, y, x order, wedged and brought back it is the same."""
        order = [axes.index(name) + 1 for name in "zyx"]
        v = volume(shape=(12, 13, 14))
        sorted_volume = v.permute(0, *order)
        back = [0, *(1 + order.index(k) for k in (1, 2, 3))]
        expected = self.wedge()(sorted_volume.contiguous()).permute(back)
        transform = T.FourierCompose([self.wedge(), T.MTF(0.0)]) if fused else self.wedge()
        got = transform(with_affine(v, axes=axes)).as_tensor()
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
        assert not torch.allclose(got, self.wedge()(v), atol=1e-2)

    def test_a_rotated_fan_and_dual_axis_too(self):
        v = volume()
        for options in ({"dual_axis": True}, {"step_deg": 10.0, "thickness_a": 100.0, "voxel_size": 10.0}):
            wedge = T.MissingWedge((-60, 60), **options)
            expected = wedge(v.permute(0, 3, 2, 1).contiguous()).permute(0, 3, 2, 1)
            torch.testing.assert_close(wedge(with_affine(v)).as_tensor(), expected, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("poses", [1, 2])
    @pytest.mark.parametrize("meta", [{}, {"original_affine": torch.diag(torch.tensor([10.0, 10, 10, 1])).flip(1)}])
    def test_after_a_pose_the_axes_are_still_those_before(self, poses, meta):
        """A NIfTI-like volume is turned, and then imaged: the beam is z, the array's last axis; whatever the file's."""
        v = torch.zeros(1, 16, 16, 16)
        v[:, 5:11, 6:10, 4:12] = 1
        image = posed = with_affine(v, **meta)
        for _ in range(poses):
            posed = T.RandPose().set_random_state(0)(posed)
        assert image.applied_operations == []
        plain = posed.as_tensor()
        expected = self.wedge()(plain.permute(0, 3, 2, 1).contiguous()).permute(0, 3, 2, 1)
        torch.testing.assert_close(self.wedge()(posed).as_tensor(), expected, atol=1e-5, rtol=0)

    def test_what_another_transform_turned_has_the_axes_of_its_file(self):
        turned = with_affine(volume(), original_affine=torch.diag(torch.tensor([10.0, 10, 10, 1])))
        a = 0.5
        turned.affine = turned.affine @ torch.tensor(
            [[np.cos(a), -np.sin(a), 0, 0], [np.sin(a), np.cos(a), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        )
        expected = self.wedge()(volume().permute(0, 3, 2, 1).contiguous()).permute(0, 3, 2, 1)
        torch.testing.assert_close(self.wedge()(turned).as_tensor(), expected, atol=1e-5, rtol=0)

    def test_an_affine_of_unknown_voxels_carries_nothing(self):
        torch.testing.assert_close(self.wedge()(MetaTensor(volume())).as_tensor(), self.wedge()(volume()))


class TestRandom:
    @pytest.mark.parametrize(
        "options",
        [{"dual_axis": True}, {"step_deg": 10.0, "thickness_a": 100.0}, {"invert": True, "soft_edge_deg": 3.0}],
    )
    def test_a_drawn_wedge_is_the_fixed_one_of_its_range(self, options):
        transform = T.RandMissingWedge(min_tilt_deg=(-70, -40), max_tilt_deg=(40, 70), voxel_size=10.0, **options)
        batch = torch.stack([volume(0), volume(1)])
        draws = [transform.draw(np.random.RandomState(seed)) for seed in (0, 1)]
        assert draws[0]["min_tilt_deg"] != draws[1]["min_tilt_deg"]
        result = transform.apply(batch, draws)
        for image, draw, got in zip(batch, draws, result, strict=True):
            ends = (draw["min_tilt_deg"], draw["max_tilt_deg"])
            expected = T.MissingWedge(ends, voxel_size=10.0, **options)(image)
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)

    def test_single_tilts_lie_within_the_narrowest_range(self):
        options = {"min_tilt_deg": (-60, -10), "max_tilt_deg": (10, 60), "thickness_a": 100.0}
        T.RandMissingWedge(step_deg=20.0, **options)
        with pytest.raises(ValueError, match=r"step_deg must lie in 0.001..20, got 21"):
            T.RandMissingWedge(step_deg=21.0, **options)
        with pytest.raises(ValueError, match="without dual_axis, soft_edge_deg and cosine_power"):
            T.RandMissingWedge(step_deg=20.0, cosine_power=(0, 1), **options)

    def test_the_range_is_the_papers(self):
        transform, state = T.RandMissingWedge(), np.random.RandomState(0)
        drawn = [transform.draw(state) for _ in range(2000)]
        high = [d["max_tilt_deg"] for d in drawn]
        assert (min(high), max(high)) == pytest.approx((40, 90), abs=0.2)
        assert all(d["min_tilt_deg"] == -d["max_tilt_deg"] for d in drawn)

    def test_both_ends_are_drawn_on_their_own(self):
        transform, state = T.RandMissingWedge(min_tilt_deg=(-70, -40), max_tilt_deg=(45, 65)), np.random.RandomState(0)
        drawn = [transform.draw(state) for _ in range(1000)]
        low, high = (np.array([d[k] for d in drawn]) for k in ("min_tilt_deg", "max_tilt_deg"))
        assert (low.min(), low.max()) == pytest.approx((-70, -40), abs=0.3)
        assert (high.min(), high.max()) == pytest.approx((45, 65), abs=0.3)
        assert abs(np.corrcoef(low, high)[0, 1]) < 0.1

    @pytest.mark.parametrize("ends", [{}, {"min_tilt_deg": -60, "max_tilt_deg": 60}])
    def test_the_power_of_the_cosine(self, ends):
        transform, state = T.RandMissingWedge(**ends, cosine_power=(0.5, 2)), np.random.RandomState(0)
        power = [transform.draw(state)["cosine_power"] for _ in range(1000)]
        assert (min(power), max(power)) == pytest.approx((0.5, 2), abs=0.02)

    def test_each_item_of_a_batch_has_its_own(self):
        transform, state = T.RandMissingWedge((10, 50), cosine_power=(0, 2)), np.random.RandomState(0)
        batch = torch.stack([volume(i) for i in range(3)])
        draws = [transform.draw(state) for _ in batch]
        result = transform.apply(batch, draws)
        for i, d in enumerate(draws):
            wedge = missing_wedge(batch.shape, d["min_tilt_deg"], d["max_tilt_deg"], cosine_power=d["cosine_power"])
            torch.testing.assert_close(result[i], apply_transfer(batch[i], wedge), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandMissingWedge((0, 95)), r"missing_angle_deg must lie in 0\.\.90"),
        (lambda: T.RandMissingWedge((0, 90)), "missing_angle_deg must lie below 90"),
        (lambda: T.RandMissingWedge((-5, 50)), r"missing_angle_deg must lie in 0\.\.90"),
        (lambda: T.RandMissingWedge(min_tilt_deg=-60), "both ends"),
        (lambda: T.RandMissingWedge(min_tilt_deg=(-60, 20), max_tilt_deg=(10, 60)), "-90 <= min < max <= 90"),
        (lambda: T.MissingWedge((60, -60)), "-90 <= min < max <= 90"),
        (lambda: T.MissingWedge(60), "-90 <= min < max <= 90"),
        (lambda: T.MissingWedge((-60, 60), tilt_axis="z"), "two different axes"),
        (lambda: T.MissingWedge((-60, 60), step_deg=3), "both step_deg and thickness_a"),
        (lambda: T.MissingWedge((-60, 60), step_deg=3, thickness_a=300, dual_axis=True), "without dual_axis"),
        (lambda: T.MissingWedge((-60, 60), soft_edge_deg=-1), "soft_edge_deg must lie in 0"),
        (lambda: T.MissingWedge((-60, 60), cosine_power=-1), "cosine_power must lie in 0"),
        (lambda: T.RandMissingWedge(cosine_power=(-1, 2)), "cosine_power must lie in 0"),
        (lambda: T.MissingWedge((-60, 60), step_deg=3, thickness_a=300, cosine_power=1), "and cosine_power"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
