"""Other grids: the centre stays the centre, nothing aliases, masks stay masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_cryo.physics.resampling import covered_shape, crop_or_pad, low_pass, resample, resample_nearest


def blob(shape, voxel_size, centre_a=(0.0, 0.0, 0.0), sigma_a=40.0):
    axes = [
        (torch.arange(n, dtype=torch.float64) - n // 2) * voxel_size - c for n, c in zip(shape, centre_a, strict=True)
    ]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.exp(-(z**2 + y**2 + x**2) / (2 * sigma_a**2))


@pytest.mark.parametrize(("shape", "target"), [((5, 6, 7), (8, 8, 8)), ((9, 8, 7), (4, 5, 6)), ((5, 9, 4), (7, 4, 4))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int64])
def test_the_centre_voxel_goes_to_the_centre_voxel(shape, target, dtype):
    volume = torch.zeros(2, *shape, dtype=dtype)
    volume[:, shape[0] // 2, shape[1] // 2, shape[2] // 2] = 1
    result = crop_or_pad(volume, target)
    assert (result.shape, result.dtype) == ((2, *target), dtype)
    assert result[:, target[0] // 2, target[1] // 2, target[2] // 2].bool().all()
    assert result.sum() == 2


def test_another_voxel_can_be_the_centre_and_the_rest_filled():
    volume = torch.arange(27.0).reshape(3, 3, 3)
    result = crop_or_pad(volume, (3, 3, 3), (0, 1, 1), fill=-1)
    assert result[1, 1, 1] == volume[0, 1, 1]
    assert (result[0] == -1).all()


@pytest.mark.parametrize("n", [20, 21])
@pytest.mark.parametrize(("old", "new"), [(12.0, 13.68), (6.84, 13.68), (3.42, 13.68), (13.68, 10.0), (10.0, 10.0)])
def test_covered_shape_is_the_largest_that_stays_inside(n, old, new):
    m = covered_shape((n,) * 3, old, new)[0]
    low, high = -(n // 2 + 0.5) * old, (n - 1 - n // 2 + 0.5) * old
    eps = 1e-5
    assert -(m // 2) * new >= low - eps
    assert (m - 1 - m // 2) * new <= high + eps
    assert -((m + 1) // 2) * new < low + eps or (m - (m + 1) // 2) * new > high - eps
    assert covered_shape((n,) * 3, 7.0, 7.0) == (n,) * 3


def test_white_noise_keeps_only_what_an_ideal_low_pass_leaves():
    noise = torch.randn(1, 96, 96, 96, generator=torch.Generator().manual_seed(0))
    ideal = math.pi / 6 * (3.42 / 13.68) ** 3
    coarse = resample(noise, 3.42, 13.68)
    assert coarse.shape == (1, 24, 24, 24)
    assert 0.5 * ideal < coarse.var() < 1.05 * ideal


@pytest.mark.parametrize(
    ("n", "old", "new"), [(95, 6.84, 13.68), (48, 8.0, 13.68), (24, 13.68, 6.84), (33, 12.0, 13.68)]
)
def test_the_centre_stays_where_it_is(n, old, new):
    result = resample(blob((n,) * 3, old)[None], old, new)[0]
    m = result.shape[0]
    expected = blob((m,) * 3, new)
    np.testing.assert_allclose(result, expected, atol=0.01)
    assert np.unravel_index(int(result.argmax()), result.shape) == (m // 2,) * 3


def test_anisotropic_voxels_and_leading_axes():
    shape, spacing = (40, 32, 28), (8.0, 10.0, 12.0)
    axes = [(torch.arange(n, dtype=torch.float64) - n // 2) * v for n, v in zip(shape, spacing, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    volume = torch.exp(-((z - 20) ** 2 + y**2 + (x + 30) ** 2) / (2 * 45.0**2))
    result = resample(volume.expand(2, 3, *shape), spacing, 13.68, (21, 22, 23))
    assert result.shape == (2, 3, 21, 22, 23)
    np.testing.assert_allclose(result[1, 2], resample(volume, spacing, 13.68, (21, 22, 23)), atol=1e-12)
    expected = blob((21, 22, 23), 13.68, (20.0, 0.0, -30.0), 45.0)
    np.testing.assert_allclose(result[0, 0, 6:16, 6:16, 6:16], expected[6:16, 6:16, 6:16], atol=0.01)


def test_a_constant_stays_constant_up_to_the_faces_and_is_zero_beyond():
    result = resample(torch.full((24, 24, 24), 3.0), 10.0, 13.68, (40, 40, 40))
    covered = covered_shape((24,) * 3, 10.0, 13.68)[0]
    inner = crop_or_pad(result, (covered,) * 3)
    np.testing.assert_allclose(inner, 3.0, rtol=1e-4)
    assert int(result.ne(0).sum()) == covered**3


def test_equal_voxel_sizes_are_not_filtered():
    noise = torch.randn(20, 20, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample(noise, 13.68, 13.6801), noise)
    assert torch.equal(resample(noise, np.float32(13.68), np.array([13.68] * 3), (24,) * 3)[2:22, 2:22, 2:22], noise)


def test_labels_keep_their_values_and_come_back():
    labels = torch.zeros(1, 30, 30, 30, dtype=torch.int64)
    labels[:, 8:20, 10:24, 5:15] = 7
    labels[:, 20:24, 10:24, 5:15] = 3
    finer = resample_nearest(labels, 13.68, 6.84, (60, 60, 60))
    assert set(finer.unique().tolist()) == {0, 3, 7}
    assert int((finer == 7).sum()) == pytest.approx(8 * int((labels == 7).sum()), rel=0.1)
    assert torch.equal(resample_nearest(finer, 6.84, 13.68, (30, 30, 30)), labels)


def test_a_mask_at_the_border_does_not_grow_outside():
    mask = torch.zeros(1, 16, 16, 16, dtype=torch.bool)
    mask[:, :4, :4, 5:11] = True
    padded = resample_nearest(mask, 10.0, 10.0, (24, 24, 24))
    assert int(padded.sum()) == 96
    assert torch.equal(crop_or_pad(padded, (16, 16, 16)), mask)


def test_refusals():
    with pytest.raises(ValueError, match="outside must be one of zero, mirror, got 'edge'"):
        low_pass(torch.zeros(8, 8, 8), 10.0, 30.0, outside="edge")
    with pytest.raises(ValueError, match="cut_off_a must be at least two voxels of 10 Å, got 5"):
        low_pass(torch.zeros(8, 8, 8), 10.0, 5.0)
    with pytest.raises(ValueError, match="new_voxel_size must be > 0"):
        resample(torch.zeros(8, 8, 8), 10.0, 0.0)
