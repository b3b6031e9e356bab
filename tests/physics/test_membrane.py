from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_cryo.physics.membrane import bilayer

SHAPE, VOXEL = (18, 20, 25), (12.0, 10.0, 13.68)


def distances(normal, offset_a, radius_a, shape=SHAPE, voxel=VOXEL):
    """Signed distance straight from the definition, in float64."""
    n = np.asarray(normal, dtype=float)
    n /= np.linalg.norm(n)
    axes = [(np.arange(s) - s // 2) * v for s, v in zip(shape, voxel, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - offset_a * n
    if math.isinf(radius_a):
        return points @ n
    return np.sign(radius_a) * np.linalg.norm(points + radius_a * n, axis=-1) - radius_a


def profile(d, thickness, sigma):
    leaflets = np.exp(-((d - thickness / 2) ** 2) / 2 / sigma**2) + np.exp(-((d + thickness / 2) ** 2) / 2 / sigma**2)
    return leaflets / (1 + np.exp(-(thickness**2) / 2 / sigma**2))


@pytest.mark.parametrize("radius_a", [math.inf, 1e9, 3000.0, 150.0, -220.0])
@pytest.mark.parametrize("normal", [(1.0, 0, 0), (0.3, -0.5, 0.8), (0, 0, -2.0)])
@pytest.mark.parametrize(("offset_a", "thickness_a", "sigma_a"), [(0.0, 30.0, 7.0), (-35.0, 45.0, 9.0)])
def test_is_two_gaussians_in_the_distance_to_a_sphere(normal, offset_a, radius_a, thickness_a, sigma_a):
    density, mask = bilayer(
        SHAPE,
        VOXEL,
        normal=normal,
        offset_a=offset_a,
        thickness_a=thickness_a,
        radius_a=radius_a,
        leaflet_sigma_a=sigma_a,
    )
    expected = distances(normal, offset_a, radius_a)
    assert density.shape == SHAPE
    assert density.dtype == torch.float32
    assert mask.dtype == torch.bool
    np.testing.assert_allclose(density, profile(expected, thickness_a, sigma_a), atol=2e-5)
    clear = np.abs(np.abs(expected) - thickness_a / 2 - 2 * sigma_a) > 1e-3
    np.testing.assert_array_equal(mask.numpy()[clear], (np.abs(expected) <= thickness_a / 2 + 2 * sigma_a)[clear])


def test_float64_agrees_to_rounding():
    density, _ = bilayer(SHAPE, VOXEL, normal=torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64), radius_a=400.0)
    np.testing.assert_allclose(density, profile(distances((1, 2, 2), 0, 400.0), 37.0, 7.0), atol=1e-13)


def test_head_groups_have_density_one():
    density, mask = bilayer((81, 1, 1), 1.0, normal=(1.0, 0, 0), thickness_a=40.0, leaflet_sigma_a=5.0)
    line = density[:, 0, 0]
    assert line[[20, 60]].tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert line[40] < 0.01
    assert mask[:, 0, 0].nonzero()[[0, -1], 0].tolist() == [10, 70]


def test_every_leading_index_has_its_own_parameters():
    g = torch.Generator().manual_seed(3)
    normal = torch.randn(2, 3, 3, generator=g)
    offset, radius = torch.randn(3, generator=g) * 20, 150 / torch.rand(2, 1, generator=g)
    density, mask = bilayer((12,) * 3, 13.68, normal=normal, offset_a=offset, radius_a=radius, thickness_a=33.0)
    assert density.shape == mask.shape == (2, 3, 12, 12, 12)
    for i in range(2):
        for j in range(3):
            one, one_mask = bilayer(
                (12,) * 3, 13.68, normal=normal[i, j], offset_a=offset[j], radius_a=radius[i, 0], thickness_a=33.0
            )
            torch.testing.assert_close(density[i, j], one)
            assert (mask[i, j] != one_mask).sum() <= 1  # a voxel on the very edge may fall either way


def test_curvature_going_to_zero_is_smooth():
    flat, _ = bilayer((24,) * 3, 13.68, normal=(0.6, 0, 0.8))
    for radius_a in (1e6, 1e8, 1e12, 1e30):
        curved, _ = bilayer((24,) * 3, 13.68, normal=(0.6, 0, 0.8), radius_a=radius_a)
        assert (curved - flat).abs().max() < 3e-2 * 1e6 / radius_a + 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normal": (0.0, 0, 0)}, "normal must be finite and not zero"),
        ({"normal": (1.0, 0)}, "normal must have shape"),
        ({"thickness_a": 0.0}, "thickness_a must be > 0, got 0"),
        ({"leaflet_sigma_a": -1.0}, "leaflet_sigma_a must be > 0, got -1"),
        ({"radius_a": 0.0}, "radius_a must not be 0"),
        ({"radius_a": math.nan}, "radius_a must not be 0"),
        ({"offset_a": math.inf}, "offset_a must be finite"),
        ({"voxel_size": 0.0}, "voxel_size must be > 0"),
        ({"shape": (8, 8)}, "must have shape"),
    ],
)
def test_bad_input(options, message):
    arguments = {"shape": (8, 8, 8), "voxel_size": 10.0, "normal": (1.0, 0, 0)} | options
    with pytest.raises(ValueError, match=message):
        bilayer(**arguments)


@pytest.mark.parametrize(
    "voxel_size", [np.float32(10), np.float64(10), np.full(3, 10.0), np.array(10.0), torch.tensor(10.0), [10, 10, 10]]
)
def test_voxel_size_may_be_numpy_or_torch(voxel_size):
    density, mask = bilayer((9, 9, 9), voxel_size, normal=(1.0, 0, 0))
    expected, expected_mask = bilayer((9, 9, 9), 10.0, normal=(1.0, 0, 0))
    torch.testing.assert_close(density, expected)
    assert torch.equal(mask, expected_mask)
