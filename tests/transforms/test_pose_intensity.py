"""Pose, intensity and standardisation."""

from __future__ import annotations

import pytest
import torch

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.physics import bounding_radius


def particle(channels=1):
    v = torch.zeros(channels, 20, 20, 20)
    v[:, 6:14, 7:13, 8:12] = 1 + torch.rand(channels, 8, 6, 4)
    return v


def test_image_and_mask_move_together_and_the_mask_stays_binary():
    image = particle(5)
    mask = (image > 0).to(torch.uint8)
    pose = T.RandPose(shift_vox=(-3, 3), channel_wise=True).set_random_state(0)
    posed, moved = pose(image, mask)
    assert moved.dtype == torch.uint8
    assert set(moved.unique().tolist()) == {0, 1}
    for i in range(5):
        inside = posed[i][moved[i] > 0]
        assert float(inside.min()) > 0.3
        assert int(moved[i].sum()) == pytest.approx(int(mask[i].sum()), rel=0.1)
    assert float(posed.sum()) == pytest.approx(float(image.sum()), rel=0.03)


def test_given_radii_equal_measured_ones_and_zero_leaves_alone():
    image = particle(3)
    pose = T.RandPose(channel_wise=True).set_random_state(1)
    measured = pose.pose([image], [False])[0]
    radius = bounding_radius(image)
    given = pose.pose([image], [False], radius_vox=[radius, 0, radius + 2], randomize=False)[0]
    torch.testing.assert_close(given[0], measured[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(given[1], image[1], rtol=0, atol=0)
    torch.testing.assert_close(given[2], measured[2], atol=1e-5, rtol=0)


def test_dictionary_pose_keeps_the_radius_key():
    d = T.RandPosed(["image", "mask"], mode=["bilinear", "nearest"], channel_wise=True, radius_key="radius_vox")
    image = particle(2)
    out = d.set_random_state(0)({"image": image, "mask": image > 0, "radius_vox": torch.tensor([0, 8])})
    assert torch.equal(out["image"][0], image[0])
    assert not torch.equal(out["image"][1], image[1])
    assert out["mask"].dtype == torch.bool
    with pytest.raises(ValueError, match="arrays of one shape"):
        d({"image": image, "mask": image[:, 1:] > 0, "radius_vox": torch.tensor([0, 8])})


def test_intensity_is_the_documented_formula():
    v = torch.randn(4, 8, 8, 8) * 3 + 2
    t = T.RandIntensity(contrast=(0.5, 1.5), brightness=(-1, 1), channel_wise=True).set_random_state(0)
    out = t(v)
    for i in range(4):
        mean, std = v[i].mean(), v[i].std(correction=0)
        expected = mean + t.params["brightness"][i] * std + t.params["contrast"][i] * (v[i] - mean)
        torch.testing.assert_close(out[i], expected.float(), atol=1e-4, rtol=1e-4)


def test_standardize_each_or_all():
    v = torch.randn(3, 8, 8, 8) * torch.tensor([1.0, 5, 9]).view(3, 1, 1, 1) + torch.tensor([3.0, -4, 0]).view(
        3, 1, 1, 1
    )
    each, together = T.Standardize()(v), T.Standardize(channel_wise=False)(v)
    torch.testing.assert_close(each.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(each.std(dim=(1, 2, 3), correction=0), torch.ones(3))
    torch.testing.assert_close(together, (v - v.mean()) / v.std(correction=0))


@pytest.mark.parametrize("value", [0.0, 5.0, 1e6, 1e-20])
def test_a_constant_volume_becomes_zero(value):
    out = T.Standardize()(torch.full((1, 8, 8, 8), value))
    assert torch.equal(out, torch.zeros_like(out))
