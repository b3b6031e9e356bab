"""Positions fill the shell evenly, neighbours keep their distance and their mass, spheres and backgrounds are exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from monai_cryo.physics.pose import bounding_radius, move, rotation_from_uniform
from monai_cryo.physics.scene import background, choose_positions, place_, positions_from_uniform, sphere


def uniform(*size, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).uniform(size=size), dtype=torch.float32)


def blob(seed=0):
    v = torch.zeros(9, 9, 9)
    v[2:7, 2:7, 2:7] = 0.5 + uniform(5, 5, 5, seed=seed)
    return v


def ball(radius, n=20, batch=1):
    x = torch.arange(n) - n // 2
    return (x[:, None, None] ** 2 + x[:, None] ** 2 + x**2 <= radius**2).expand(batch, n, n, n)


def test_positions_are_uniform_in_the_shell():
    p = positions_from_uniform(uniform(20000, 3), 4.0, 9.0).double().numpy()
    r = np.linalg.norm(p, axis=1)
    assert r.min() >= 4 - 1e-5
    assert r.max() <= 9 + 1e-5
    assert stats.kstest(r**3, stats.uniform(4**3, 9**3 - 4**3).cdf).pvalue > 1e-3
    for axis in range(3):
        assert stats.kstest(p[:, axis] / r, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(p.T)[np.triu_indices(3, 1)]).max() < 0.03


def test_chosen_positions_are_uniform_in_what_is_allowed():
    """Around a ball the allowed region is a shell again; on the voxel grid its inner edge is blurred by a voxel."""
    candidates = positions_from_uniform(uniform(3000, 1, 16, 3), 0.0, 14.0)
    chosen = choose_positions(candidates, torch.full((3000, 1), 4), ball(5, batch=3000), gap_vox=1.0)[:, 0]
    r = chosen.norm(dim=1).double().numpy()
    assert r.min() > 5 + 4 + 1 - math.sqrt(3)
    assert np.isfinite(r).all()
    beyond = r[r > 10.0]
    assert len(beyond) > 2000
    assert stats.kstest(beyond**3, stats.uniform(1000, 14**3 - 1000).cdf).pvalue > 1e-3


def test_neighbours_keep_clear_of_the_particle_and_of_each_other():
    occupied = torch.zeros(60, 20, 20, 20, dtype=torch.bool)
    occupied[:20, 8:11, 2:18, 5:12] = True
    occupied[20:40, :, :, 9:11] = True  # a wall through the box
    radius = torch.tensor([[2, 5, 3, 4]]).expand(60, 4)
    chosen = choose_positions(positions_from_uniform(uniform(60, 4, 16, 3), 0.0, 15.0), radius, occupied, gap_vox=1.5)
    assert float(chosen[:, 0].isfinite().double().mean()) > 0.95
    for b in range(60):
        points = occupied[b].nonzero() - 10
        for j in range(4):
            assert not bool(((points - chosen[b, j]).norm(dim=1) < radius[b, j] + 1.5 - 1e-4).any())
            for i in range(j):
                apart = float((chosen[b, i] - chosen[b, j]).norm())
                assert not apart < radius[b, i] + radius[b, j] + 1.5 - 1e-4
    # with nothing there, positions near the centre are as good as any
    empty = choose_positions(uniform(1, 1, 16, 3), torch.tensor([[4]]), torch.zeros(1, 9, 9, 9, dtype=torch.bool), 2.0)
    torch.testing.assert_close(empty, uniform(1, 1, 16, 3)[:, :, 0])


def test_no_room_and_out_of_reach_are_nan():
    candidates = positions_from_uniform(uniform(2, 1, 16, 3), 0.0, 6.0)
    full = torch.ones(2, 9, 9, 9, dtype=torch.bool)
    assert choose_positions(candidates, torch.tensor([[3], [3]]), full).isnan().all()
    far = torch.tensor([[[[0.0, 0, -7.5], [0, 0, 7.5], [0, 0, 6.5]]]])
    flat = torch.zeros(1, 40, 40, 9, dtype=torch.bool)
    assert choose_positions(far, torch.tensor([[3]]), flat).tolist() == [[[0, 0, 6.5]]]


def test_placed_inside_equals_moved_and_keeps_the_mass():
    particles = torch.stack([blob(0), blob(1)])
    rotation = rotation_from_uniform(uniform(2, 3))
    shift = torch.tensor([[1.3, -2.0, 0.6], [-3.4, 4.0, 2.2]])
    radius = bounding_radius(particles)
    scene = place_(torch.zeros(1, 24, 26, 28), particles, rotation, shift, [0, 0], radius)
    expected = move(particles[:, None], rotation, shift, shape=(24, 26, 28)).sum(dim=0)
    torch.testing.assert_close(scene, expected, atol=1e-5, rtol=0)
    assert float(scene.sum()) == pytest.approx(float(particles.sum()), rel=0.02)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [-1, 1])
def test_cut_at_the_edge_and_nothing_outside(axis, side):
    eye, particle = torch.eye(3)[None], blob()[None]
    position = torch.zeros(1, 3)
    position[0, axis] = 8.0 * side  # on the first (-) or last (+) plane of an odd box
    half = place_(torch.zeros(1, 17, 17, 17), particle, eye, position, [0], 4)
    line = half[0].movedim(axis, 0)
    kept = (blob() if side < 0 else blob().flip(axis)).movedim(axis, 0)[4:7]
    torch.testing.assert_close(
        (line if side < 0 else line.flip(0))[:3, 6:11, 6:11], kept[:, 2:7, 2:7], atol=1e-5, rtol=0
    )
    assert float(half.sum()) == pytest.approx(float(kept.sum()), rel=1e-4)
    for away in (13.0, 50.0):
        position[0, axis] = away * side
        assert not place_(torch.zeros(1, 17, 17, 17), particle, eye, position, [0], 4).any()


def test_each_particle_goes_to_its_owner():
    scene = torch.ones(3, 16, 16, 16)
    same = place_(scene, torch.stack([blob(), 2 * blob()]), torch.eye(3).expand(2, 3, 3), torch.zeros(2, 3), [2, 0], 4)
    assert same is scene
    mass = scene.sum(dim=(1, 2, 3)) - 16**3
    torch.testing.assert_close(mass / blob().sum(), torch.tensor([2.0, 0.0, 1.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("radius_a", [25.0, 40.0, 75.0])
@pytest.mark.parametrize("voxel_size", [13.68, (10.0, 14.0, 12.0)])
def test_sphere_has_its_volume_radius_and_centre(radius_a, voxel_size):
    spacing = torch.tensor([voxel_size] * 3 if isinstance(voxel_size, float) else voxel_size)
    centres = 4 * uniform(50, 3) - 2
    v = sphere((24, 22, 20), voxel_size, torch.full((50,), radius_a), centres)
    assert float(v.min()) == 0
    assert float(v.max()) == 1
    volume = v.sum(dim=(1, 2, 3)) * spacing.prod()
    assert float(volume.mean()) == pytest.approx(4 / 3 * math.pi * radius_a**3, rel=0.01)
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) - n // 2 for n in (24, 22, 20)), indexing="ij"), dim=-1).float()
    found = torch.einsum("bzyx,zyxi->bi", v, grid) / v.sum(dim=(1, 2, 3))[:, None]
    torch.testing.assert_close(found, centres, atol=0.1, rtol=0)
    squares = torch.einsum("bzyx,zyx->b", v, ((grid - grid.new_zeros(3)) * spacing).square().sum(-1))
    spread = squares / v.sum(dim=(1, 2, 3)) - (centres * spacing).square().sum(dim=1)
    expected = 3 / 5 * radius_a**2 + float(spacing.square().mean()) / 4  # a solid ball's, widened by the ramp and grid
    assert float(spread.mean()) == pytest.approx(expected, rel=0.12)


def test_background_is_the_documented_polynomial():
    g, q = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)), uniform(3, 3, 3)
    b = background((9, 12, 15), g, q)
    lines = [(np.arange(n) - n // 2) * 2 / n for n in (9, 12, 15)]
    t = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)
    for i in range(3):
        raw = t @ g[i].numpy() + np.einsum("zyxi,ij,zyxj->zyx", t, q[i].numpy(), t)
        np.testing.assert_allclose(b[i], (raw - raw.mean()) / raw.std(), atol=1e-4)
    assert not background((8, 8, 8), torch.zeros(1, 3), torch.zeros(1, 3, 3)).any()
