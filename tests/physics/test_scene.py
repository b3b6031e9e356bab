"""Positions fill the shell evenly, neighbours hardly overlap, spheres, backgrounds and fields are as documented."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from monai_cryo.physics import missing_wedge
from monai_cryo.physics.scene import background, bead_streaks, pack_, positions_from_uniform, smooth_field, sphere


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


def packed(masks, candidates, overlap, box=(20, 20, 20), occupied=None):
    """Pack particles of density 1; what was added, what is taken and which candidates were."""
    scene = torch.zeros(box)
    occupied = torch.zeros(box, dtype=torch.bool) if occupied is None else occupied
    chosen = [pack_(scene, occupied, m.float(), m, p, overlap) for m, p in zip(masks, candidates, strict=True)]
    return scene, occupied, chosen


def test_neighbours_overlap_no_more_than_allowed():
    """Recomputed voxel by voxel: of every particle at most the given share meets what was there before it."""
    masks = torch.stack([ball(2, 9)[0], ball(3, 9)[0], ball(4, 9)[0], blob() > 0] * 2)
    for overlap in (0.0, 0.1):
        candidates = positions_from_uniform(uniform(8, 16, 3, seed=3), 0.0, 12.0).round().long()
        _, occupied, chosen = packed(masks, candidates, overlap)
        assert sum(k >= 0 for k in chosen) >= 5
        before = torch.zeros(60, 60, 60, dtype=torch.bool)  # the box, with a margin for what sticks out
        inner = torch.zeros_like(before)
        inner[20:40, 20:40, 20:40] = True
        for mask, places, k in zip(masks, candidates.tolist(), chosen, strict=True):
            if k < 0:
                continue
            alone = torch.zeros_like(before)
            z, y, x = (30 + o - 4 for o in places[k])
            alone[z : z + 9, y : y + 9, x : x + 9] = mask
            met = int((alone & before & inner).sum())
            assert met <= overlap * int(mask.sum())
            before |= alone & inner
        assert torch.equal(before[20:40, 20:40, 20:40], occupied)


def test_the_first_free_candidate_is_taken():
    occupied = ball(5)[0].clone()
    candidates = torch.tensor([[[0, 0, 0], [0, 2, 0], [0, 0, 8], [0, 8, 0]]])
    _, _, chosen = packed(ball(2, 5)[:1], candidates, 0.0, occupied=occupied)
    assert chosen == [2]


def test_no_room_and_out_of_reach():
    full = torch.ones(20, 20, 20, dtype=torch.bool)
    scene, _, chosen = packed(ball(2, 5)[:1], torch.zeros(1, 3, 3).long(), 0.5, occupied=full)
    assert chosen == [-1]
    assert not scene.any()
    for away in (12, 13, 50, -13, -50):  # the corners of a box of 5 touch at 12, its ball of radius 2 does not
        scene, _, chosen = packed(ball(1, 5)[:1], torch.tensor([[[0, 0, away]]]), 1.0)
        assert chosen == [-1]
        assert not scene.any()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [-1, 1])
def test_cut_at_the_edge(axis, side):
    place = torch.zeros(1, 3).long()
    place[0, axis] = 8 * side  # on the first (-) or last (+) plane of an odd box
    scene, occupied = torch.zeros(17, 17, 17), torch.zeros(17, 17, 17, dtype=torch.bool)
    assert pack_(scene, occupied, blob(), blob() > 0, place, 0.0) == 0
    line = scene.movedim(axis, 0)
    kept = (blob() if side < 0 else blob().flip(axis)).movedim(axis, 0)[4:7]
    assert torch.equal((line if side < 0 else line.flip(0))[:3, 4:13, 4:13], kept)
    assert float(scene.sum()) == pytest.approx(float(kept.sum()), rel=1e-5)
    assert torch.equal(occupied, scene > 0)


def test_densities_add_up():
    scene, occupied = torch.ones(16, 16, 16), torch.zeros(16, 16, 16, dtype=torch.bool)
    two = (blob(), 2 * blob(1))
    assert [pack_(scene, occupied, each, each > 0, torch.zeros(1, 3).long(), 1.0) for each in two] == [0, 0]
    torch.testing.assert_close(scene[4:13, 4:13, 4:13], 1 + sum(two))


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


def test_smooth_fields_reach_0_and_1_and_bend_only_at_the_coarse_points():
    coarse = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    field = smooth_field(coarse, (1, 13, 16, 19))
    assert field.shape == (3, 13, 16, 19)
    torch.testing.assert_close(field.amin(dim=(1, 2, 3)), torch.zeros(3))
    torch.testing.assert_close(field.amax(dim=(1, 2, 3)), torch.ones(3))
    # 3 intervals of 4 voxels along z: second differences vanish inside them
    bend = field.diff(dim=1, n=2).abs().amax(dim=(0, 2, 3))
    inside = torch.tensor([k % 4 != 3 for k in range(11)])
    assert float(bend[inside].max()) < 1e-5
    assert float(bend[~inside].max()) > 1e-2
    assert not smooth_field(torch.ones(1, 2, 2, 2), (8, 8, 8)).any()


def test_all_tilts_together_give_the_bead_and_nothing_else():
    at, sigma = np.array([1.0, 2.0, -3.0]), 30.0
    found = bead_streaks((24, 20, 22), 10.0, sigma, at, np.arange(-90, 90, 1.0)).numpy()
    z, y, x = np.ogrid[-12:12, -10:10, -11:11]
    squares = ((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2) * 10.0**2
    np.testing.assert_allclose(found, np.exp(-squares / (2 * sigma**2)), atol=1e-6)


@pytest.mark.parametrize("tilt", [-35.0, 20.0])
def test_a_streak_lies_on_the_plane_that_its_tilt_samples(tilt):
    window = torch.hann_window(48, periodic=False)
    streak = bead_streaks((48, 48, 48), 10.0, 15.0, (0.0, 0.0, 0.0), [tilt])
    power = torch.fft.rfftn(streak * window[:, None, None] * window[:, None] * window).abs().square()
    kept = {at: power * missing_wedge((48,) * 3, at - 15, at + 15) for at in (tilt, -tilt)}
    assert float(kept[tilt].sum() / power.sum()) > 0.9
    assert float(kept[-tilt].sum() / power.sum()) < 0.01


def test_few_tilts_leave_streaks_far_from_the_bead_and_many_do_not():
    far = (0.0, 0.0, 120.0)
    few, many = (bead_streaks((40,) * 3, 13.68, 25.0, far, np.arange(-90, 90, step)).std() for step in (4.0, 0.5))
    assert float(few) > 1e-3
    assert float(many) < 0.01 * float(few)
