"""Random poses: image and mask together, labels that stay labels, zoom, an affine that follows, the way back."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.data.utils import list_data_collate
from monai.transforms import Compose, Spacing

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.physics import bounding_radius
from monai_cryo.physics.pose import move
from monai_cryo.transforms.geometry import array_voxel_size


def particle(channels=1, n=20):
    generator = torch.Generator().manual_seed(0)
    v = torch.zeros(channels, n, n, n)
    v[:, 6:14, 7:13, 8:12] = 1 + torch.rand(channels, 8, 6, 4, generator=generator)
    return v


def smooth(n=24):
    grid = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) - n // 2] * 3, indexing="ij")
    return sum(
        torch.exp(-sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) / 8)
        for centre in ((0, 0, 0), (4, -3, 2), (-3, 2, 4))
    )[None]


def meta(v, size=10.0):
    affine = torch.diag(torch.tensor([size, size, size, 1.0], dtype=torch.float64)).flip(0).roll(-1, 0)
    affine[:3, 3] = torch.tensor([5.0, -7.0, 11.0])
    return MetaTensor(v.clone(), affine=affine)


def together(**options):
    return T.RandPosed(["image", "mask"], mode=["bilinear", "nearest"], **options)


def iou(a, b):
    return float(((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum())


def test_image_and_mask_move_together_and_the_mask_stays_binary():
    state, pose = np.random.RandomState(0), together(shift_vox=(-3, 3))
    image = torch.stack([particle()] * 5)
    for mask in ((image > 0), (image > 0).to(torch.uint8), (image > 0).float()):
        out = pose.apply({"image": image, "mask": mask}, [pose.draw(state) for _ in range(5)])
        moved, posed = out["mask"], out["image"]
        assert moved.dtype == mask.dtype
        assert set(moved.unique().tolist()) == {0, 1}
        for i in range(5):
            assert float(posed[i][moved[i] > 0].min()) > 0.3
            assert int(moved[i].sum()) == pytest.approx(int(mask[i].sum()), rel=0.1)
        assert float(posed.sum()) == pytest.approx(float(image.sum()), rel=0.03)


@pytest.mark.parametrize("as_batch", [False, True])
def test_labels_stay_labels(as_batch):
    labels = torch.zeros(1, 20, 20, 20, dtype=torch.uint8)
    labels[:, 6:10, 7:13, 8:12], labels[:, 10:14, 7:13, 8:12] = 1, 3
    pose = together().set_random_state(1)
    if as_batch:
        out = pose.apply({"image": particle()[None], "mask": labels[None]}, [pose.draw(pose.R)])["mask"][0]
    else:
        out = pose({"image": particle(), "mask": labels})["mask"]
    assert out.dtype == torch.uint8
    assert out.unique().tolist() == [0, 1, 3]
    for value in (1, 3):
        assert int((out == value).sum()) == pytest.approx(int((labels == value).sum()), rel=0.15)
    assert not torch.equal(out, labels)


def test_a_single_centre_voxel_moves():
    """Its radius is 0, which means no more than that; only a draw of None leaves an item alone."""
    point = torch.zeros(1, 9, 9, 9)
    point[0, 4, 4, 4] = 1
    draw = {"rotation": np.eye(3).tolist(), "shift_vox": [2.0, -1.0, 3.0], "zoom": 1.0}
    for radius in (None, [0]):
        moved = T.RandPose().apply(point[None], [draw], radius_vox=radius)[0, 0]
        assert moved.round(decimals=5).nonzero().tolist() == [[6, 3, 7]]
    assert T.RandPose(2.0).set_random_state(0)(point)[0, 6, 6, 6] == pytest.approx(1)


def test_given_radii_equal_measured_ones():
    batch = torch.stack([particle()] * 3)
    pose, state = T.RandPose(), np.random.RandomState(1)
    draws = [pose.draw(state) for _ in range(3)]
    radius = bounding_radius(batch)
    measured = pose.apply(batch, draws)
    torch.testing.assert_close(
        pose.apply(batch, draws, radius_vox=[radius, radius + 2, 12]), measured, atol=1e-5, rtol=0
    )
    whole = move(batch, *pose._matrices(draws, batch))
    torch.testing.assert_close(measured, whole, atol=1e-5, rtol=0)


def test_keys_beside_the_arrays():
    pose, image = together(posed_key="posed", radius_key="radius_vox"), torch.stack([particle()] * 2)
    data = {"image": image, "mask": image > 0, "posed": [True, False], "radius_vox": [0, 8]}
    out = pose.apply(data, [pose.draw(np.random.RandomState(0))] * 2)
    assert torch.equal(out["image"][0], image[0])
    assert torch.equal(out["mask"][0], data["mask"][0])
    assert not torch.equal(out["image"][1], image[1])
    item = {"image": image[0], "mask": image[0] > 0, "posed": True, "radius_vox": 0}
    assert torch.equal(pose(item)["image"], image[0])
    assert not torch.equal(pose(item | {"posed": False, "radius_vox": 8})["image"], image[0])
    with pytest.raises(ValueError, match="arrays of one shape"):
        pose.apply(data | {"mask": data["mask"][..., 1:]}, [pose.draw(np.random.RandomState(0))] * 2)


@pytest.mark.parametrize("zoom", [0.8, 1.25])
def test_zoom_scales_the_volume_by_its_cube(zoom):
    image = smooth(32)
    pose = T.RandPose(shift_vox=0.0, zoom=zoom).set_random_state(0)
    posed, mask = pose(image, (image > 0.3).float())
    assert float(posed.sum() / image.sum()) == pytest.approx(zoom**3, rel=0.03)
    assert float(mask.sum() / (image > 0.3).sum()) == pytest.approx(zoom**3, rel=0.06)
    assert float(posed.max()) == pytest.approx(float(image.max()), rel=0.05)


def test_nothing_is_lost_of_a_zoomed_voxel():
    """Its interpolation reaches as far as it is zoomed."""
    image = torch.zeros(1, 24, 24, 24)
    image[0, 12, 13, 12] = 1
    pose, state = T.RandPose(shift_vox=(-0.5, 0.5), zoom=2.5), np.random.RandomState(0)
    for draw in [pose.draw(state) for _ in range(40)]:
        whole = pose.apply(image[None], [draw], radius_vox=[24])
        torch.testing.assert_close(pose.apply(image[None], [draw]), whole, atol=1e-5, rtol=0)


def test_voxels_that_are_no_cubes_are_refused():
    tall = MetaTensor(particle(), affine=torch.diag(torch.tensor([20.0, 10.0, 10.0, 1.0])))
    for pose in (T.RandPose(), lambda image: T.RandPosed("image", mode="bilinear")({"image": image})):
        with pytest.raises(ValueError, match=r"RandPose needs cubic voxels, got voxel_size \(20.0, 10.0, 10.0\) Å"):
            pose(tall)


def test_each_item_has_the_radius_given_for_it():
    """Also where an item without a draw stands before it."""
    batch = torch.stack([particle()] * 2)
    pose = T.RandPose(0.0)
    draw = pose.draw(np.random.RandomState(1))
    moved = pose.apply(batch, [None, draw], radius_vox=[1, 14])
    torch.testing.assert_close(moved[1], pose.apply(batch[1:], [draw])[0], atol=1e-5, rtol=0)
    assert torch.equal(moved[0], batch[0])


def test_draws_and_radii_are_one_an_item():
    batch, pose = torch.stack([particle()] * 2), T.RandPose()
    draw = pose.draw(pose.R)
    for count in (1, 3):
        with pytest.raises(ValueError, match=rf"expects a batch .* and {count}"):
            pose.apply_together([batch, batch], [draw] * count, ["bilinear"] * 2)
        with pytest.raises(ValueError, match=f"expects 2 radii, one an item, got {count}"):
            pose.apply(batch, [draw] * 2, radius_vox=[9] * count)


def test_a_particle_zoomed_far_beyond_its_box_takes_no_time():
    """The ball that it fills, of 350 voxels' radius, is not made."""
    image = torch.ones(1, 40, 40, 40)
    pose, begun = T.RandPose(shift_vox=0.0, zoom=10.0).set_random_state(0), time.monotonic()
    torch.testing.assert_close(pose(image), image)
    assert time.monotonic() - begun < 5


def test_zoom_is_drawn():
    pose, state = T.RandPose(zoom=(0.9, 1.1)), np.random.RandomState(0)
    drawn = [pose.draw(state)["zoom"] for _ in range(300)]
    assert (min(drawn), max(drawn)) == pytest.approx((0.9, 1.1), abs=0.01)


class TestAffine:
    @pytest.mark.parametrize("zoom", [1.0, 1.2])
    def test_it_tells_where_every_voxel_was(self, zoom):
        """A point's index before and after have the same place in space."""
        image = meta(torch.zeros(1, 17, 18, 19))
        image[0, 10, 7, 12] = 1
        pose = T.RandPose(zoom=zoom).set_random_state(3)
        posed = pose(image)
        weight = posed.as_tensor()[0].double()
        index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in weight.shape), indexing="ij"), dim=-1).double()
        centre = (index * weight[..., None]).sum(dim=(0, 1, 2)) / weight.sum()
        place = posed.affine @ torch.cat([centre, torch.ones(1)]).double()
        expected = image.affine @ torch.tensor([10, 7, 12, 1]).double()
        torch.testing.assert_close(place, expected, atol=4.0, rtol=0)  # 0.4 voxels, by the interpolation
        assert not torch.allclose(image.affine @ torch.cat([centre, torch.ones(1)]).double(), expected, atol=8.0)

    def test_inverse_brings_array_and_affine_back(self):
        image = meta(smooth())
        pose = T.RandPose(shift_vox=(-2, 2), zoom=(0.9, 1.1)).set_random_state(5)
        back = pose.inverse(pose(image))
        torch.testing.assert_close(back.affine, image.affine, atol=1e-9, rtol=0)
        assert iou(back.as_tensor() > 0.3, image.as_tensor() > 0.3) > 0.95
        assert back.applied_operations == []

    def test_inverse_of_a_pipeline(self):
        data = {"image": meta(smooth()), "mask": meta((smooth() > 0.1).to(torch.uint8))}
        pipeline = Compose(
            [
                together(shift_vox=(-2, 2)),
                T.RandMissingWedged("image", missing_angle_deg=20.0),
                T.RandIntensityd("image", prob=0.5),
                T.Standardized("image"),
            ]
        ).set_random_state(2)
        done = pipeline(data)
        assert iou(done["mask"].as_tensor(), data["mask"].as_tensor()) < 0.8
        back = pipeline.inverse(done)
        assert iou(back["mask"].as_tensor(), data["mask"].as_tensor()) > 0.95
        assert back["mask"].dtype == torch.uint8
        for key in data:
            torch.testing.assert_close(back[key].affine, data[key].affine, atol=1e-9, rtol=0)
            assert back[key].applied_operations == []

    def test_items_left_alone_come_back_as_they_are(self):
        image = meta(smooth())
        pose = T.RandPose(prob=0.0)
        back = pose.inverse(pose(image))
        assert torch.equal(back.as_tensor(), image.as_tensor())

    def test_what_is_posed_already_has_a_record_and_comes_back(self):
        pipeline = Compose([together(posed_key="posed"), T.Standardized("image")]).set_random_state(0)
        item = {"image": meta(smooth()), "mask": meta((smooth() > 0.1).float()), "posed": True}
        done = pipeline(item)
        assert [op["class"] for op in done["image"].applied_operations] == ["RandPose", "Standardize"]
        assert item["mask"].applied_operations == []
        back = pipeline.inverse(done)
        assert torch.equal(back["mask"].as_tensor(), item["mask"].as_tensor())
        assert all(back[key].applied_operations == [] for key in ("image", "mask"))

    def test_a_plain_array_cannot_come_back(self):
        pose = T.RandPose().set_random_state(0)
        with pytest.raises(ValueError, match="RandPose can be inverted on a MetaTensor alone"):
            pose.inverse(pose(smooth()))

    def test_cut_scenes_are_not_inverted_in_silence(self):
        image = meta(smooth())
        series = T.RandTiltSeries(step_deg=20.0, output_size=12).set_random_state(0)
        with pytest.raises(ValueError, match="RandTiltSeries cannot be inverted"):
            series.inverse(series(image))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandPosed(["a"], mode="cubic"), "mode must be one of bilinear, nearest, got 'cubic'"),
        (lambda: T.RandPose(zoom=(0, 1)), "zoom must be > 0"),
        (lambda: T.RandPose((2, -2)), "shift_vox must have min <= max"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class TestGrid:
    """What is imaged after a pose is imaged on the grid, which the pose has left alone."""

    def test_a_zoomed_particle_stays_on_its_grid(self):
        posed = T.RandPose(zoom=1.2).set_random_state(0)(meta(particle()))
        imaged = T.CTF(2.0)(posed)
        torch.testing.assert_close(imaged.as_tensor(), T.CTF(2.0, voxel_size=10.0)(posed.as_tensor()))

    @pytest.mark.parametrize("zoom", [1.0, 1.5])
    def test_what_resamples_it_later_counts(self, zoom):
        pose = T.RandPose(zoom=zoom).set_random_state(0)
        posed = T.RandPose().set_random_state(1)(pose(meta(particle())))
        assert array_voxel_size(posed) == (10.0, 10.0, 10.0)
        fine = Spacing(pixdim=(5.0 / zoom,) * 3)(posed)  # the affine's own voxels are smaller than the grid's
        assert array_voxel_size(fine) == pytest.approx((5.0,) * 3, rel=1e-3)

    def test_nothing_is_left_of_a_pose_that_was_undone(self):
        pose = T.RandPose(zoom=1.5).set_random_state(0)
        image = meta(particle())
        back = pose.inverse(pose(image))
        assert set(back.meta) == set(image.meta)
        assert array_voxel_size(Spacing(pixdim=(5.0,) * 3)(back)) == pytest.approx((5.0,) * 3, rel=1e-3)

    def test_in_a_batch_with_items_that_have_none(self):
        posed = T.RandPose(zoom=1.5).set_random_state(0)(meta(particle()))
        items = decollate_batch(list_data_collate([{"image": posed}, {"image": meta(particle())}]))
        assert [array_voxel_size(item["image"]) for item in items] == [(10.0, 10.0, 10.0)] * 2
