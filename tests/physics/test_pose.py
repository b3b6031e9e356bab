"""Rotations are uniform and proper; resampling moves things where geometry says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import affine_transform

from monai_cryo.physics import bounding_radius, move, rotation_from_uniform


def rotations(n, seed=0):
    return rotation_from_uniform(torch.rand(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def test_proper_rotations():
    r = rotations(100)
    torch.testing.assert_close(r @ r.mT, torch.eye(3, dtype=torch.float64).expand(100, 3, 3))
    torch.testing.assert_close(torch.linalg.det(r), torch.ones(100, dtype=torch.float64))


def test_uniform_on_so3():
    """The image of z is uniform on the sphere, the rotation angle has density (1 - cos a) / pi."""
    r = rotations(20000)
    z_axis, trace = r[:, :, 2].numpy(), r.diagonal(dim1=1, dim2=2).sum(1).numpy()
    assert stats.kstest(z_axis[:, 2], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    azimuth = np.arctan2(z_axis[:, 1], z_axis[:, 0])
    assert stats.chisquare(np.histogram(azimuth, 24, (-math.pi, math.pi))[0]).pvalue > 1e-3
    angle = np.arccos(np.clip((trace - 1) / 2, -1, 1))
    assert stats.kstest(angle, lambda a: (a - np.sin(a)) / math.pi).pvalue > 1e-3


def test_three_uniform_euler_angles_would_fail_that_test():
    u = np.random.RandomState(0).uniform(size=20000)
    assert stats.kstest(np.cos(np.pi * u), stats.uniform(-1, 2).cdf).pvalue < 1e-6


@pytest.mark.parametrize("shape", [(9, 9, 9), (10, 10, 10), (10, 12, 14)])
def test_identity_and_whole_shifts_are_exact(shape):
    volume = torch.randn(1, 1, *shape)
    eye = torch.eye(3)[None]
    torch.testing.assert_close(move(volume, eye, torch.zeros(1, 3)), volume, atol=1e-5, rtol=0)
    moved = move(volume, eye, torch.tensor([[1.0, -2.0, 3.0]]))
    torch.testing.assert_close(moved[..., 1:, :-2, 3:], volume[..., :-1, 2:, :-3], atol=1e-5, rtol=0)


def test_a_point_goes_where_the_matrix_says():
    """A point at (x, y, z) = (3, 0, 0) from the centre, turned 90 degrees about z, lies at (0, 3, 0)."""
    volume = torch.zeros(1, 1, 16, 16, 16)
    volume[0, 0, 8, 8, 11] = 1
    turn = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    assert move(volume, turn, torch.zeros(1, 3)).squeeze().round(decimals=4).nonzero().tolist() == [[8, 11, 8]]


@pytest.mark.parametrize("seed", range(3))
def test_scipy_agrees(seed):
    volume = torch.zeros(14, 14, 14)
    volume[4:11, 4:11, 4:11] = torch.rand(7, 7, 7, generator=torch.Generator().manual_seed(seed))
    r = rotations(1, seed)[0].float()
    ours = move(volume[None, None], r[None], torch.tensor([[0.5, -1.0, 0.25]]))[0, 0]
    zyx = r.flip(0, 1).numpy()  # the same rotation on (z, y, x)
    centre = np.array([7, 7, 7])
    offset = centre - zyx.T @ (centre + np.array([0.5, -1.0, 0.25]))
    theirs = affine_transform(volume.numpy(), zyx.T, offset, order=1)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_tight_box_gives_the_same_and_cuts_at_the_edge():
    volume = torch.zeros(4, 2, 20, 20, 20)
    volume[:, :, 7:14, 7:14, 7:14] = torch.rand(4, 2, 7, 7, 7)
    r, shift = rotations(4).float(), torch.tensor([[0.3, -0.6, 1.5], [8.2, 0, 0], [-9.7, 4, 9], [0, 0, 30.0]])
    radius = bounding_radius(volume)
    assert radius == math.ceil(math.sqrt(27))
    torch.testing.assert_close(move(volume, r, shift, radius_vox=radius), move(volume, r, shift), atol=1e-5, rtol=0)
    assert not move(volume, r, shift, radius_vox=radius)[3].any()


def test_another_output_shape_keeps_the_centre():
    volume = torch.zeros(1, 1, 9, 9, 9)
    volume[..., 4, 4, 4] = 1
    out = move(volume, torch.eye(3)[None], torch.zeros(1, 3), shape=(12, 14, 16))
    assert out.squeeze().round(decimals=4).nonzero().tolist() == [[6, 7, 8]]
    assert bounding_radius(torch.zeros(4, 4, 4)) == 0


@pytest.mark.parametrize("radius", [3, 6, 9])
def test_only_the_ball_around_a_particle_is_resampled(radius):
    generator = torch.Generator().manual_seed(radius)
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) - n // 2 for n in (20, 22, 24)), indexing="ij"))
    volume = torch.rand(6, 2, 20, 22, 24, generator=generator) * (grid.square().sum(dim=0) <= radius**2)
    rotation = rotation_from_uniform(torch.rand(6, 3, generator=generator))
    shift = torch.rand(6, 3, generator=generator) * 12 - 6  # also beyond the box's faces
    ours = move(volume, rotation, shift, radius_vox=radius)
    torch.testing.assert_close(ours, move(volume, rotation, shift), atol=1e-5, rtol=0)


def test_nearest_keeps_labels():
    volume = torch.zeros(2, 1, 14, 14, 14)
    volume[:, :, 4:7, 4:11, 4:11], volume[:, :, 7:11, 4:11, 4:11] = 1, 3
    out = move(volume, rotations(2).float(), torch.full((2, 3), 0.4), mode="nearest")
    assert out.unique().tolist() == [0, 1, 3]
    eye = torch.eye(3).expand(2, 3, 3)
    torch.testing.assert_close(move(volume, eye, torch.zeros(2, 3), mode="nearest"), volume, atol=0, rtol=0)
