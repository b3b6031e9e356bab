"""Missing wedges against geometry, acryo and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_cryo.physics import (
    apply_transfer,
    back_project,
    dual_axis_wedge,
    frequency_grid,
    missing_wedge,
    project,
    tilt_fan,
)


def full(mask, shape):
    return mask.expand(*mask.shape[:-3], shape[0], shape[1], shape[2] // 2 + 1).numpy()


def brute_force(shape, voxel_size, low, high, tilt_axis="y", beam_axis="z"):
    """Take the angle of every frequency's plane in float64."""
    grid = dict(zip("zyx", frequency_grid(shape, voxel_size, dtype=torch.float64), strict=True))
    side_axis = ({"z", "y", "x"} - {tilt_axis, beam_axis}).pop()
    beam, side = np.broadcast_arrays(grid[beam_axis].numpy(), grid[side_axis].numpy())
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = np.degrees(np.arctan(beam / side))
    inside = (angle >= low - 1e-4) & (angle <= high + 1e-4) | np.isnan(angle)
    out = np.broadcast_to(inside, (shape[0], shape[1], shape[2] // 2 + 1))
    if high >= 90 or low <= -90:
        out = out | ((side == 0) & (beam != 0))
    return out


def off_nyquist(shape):
    keep = np.ones((shape[0], shape[1], shape[2] // 2 + 1), dtype=bool)
    for axis, n in enumerate(shape):
        if n % 2 == 0:
            keep[(slice(None),) * axis + (n // 2,)] = False
    return keep


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(4, 12)] * 3),
    st.tuples(*[st.floats(2.0, 20.0)] * 3),
    st.floats(-89, 0),
    st.floats(1, 89),
    st.permutations("zyx"),
)
def test_geometry_on_any_box(shape, voxel_size, low, high, axes):
    got = full(missing_wedge(shape, low, high, voxel_size=voxel_size, tilt_axis=axes[0], beam_axis=axes[1]), shape)
    expected = brute_force(shape, voxel_size, low, high, axes[0], axes[1])
    keep = off_nyquist(shape)
    assert (got[keep] == expected[keep]).mean() > 0.999


@pytest.mark.parametrize("shape", [(40, 40, 40), (41, 41, 41), (24, 32, 40)])
@pytest.mark.parametrize("tilts", [(-60, 60), (-50, 70), (-40, 55)])
def test_acryo(shape, tilts):
    tilt = pytest.importorskip("acryo.tilt")
    theirs = tilt.single_axis(tilts, axis="y").create_mask(shape=shape)[..., : shape[2] // 2 + 1]
    ours = full(missing_wedge(shape, *tilts), shape)
    keep = off_nyquist(shape)
    assert (ours[keep] == theirs[keep]).mean() >= 0.999


def test_which_way_it_points():
    mask = missing_wedge((40, 40, 40), -60, 60)
    assert mask[10, 0, 0] == 0  # along the beam: missing
    assert mask[0, 0, 10] == 1  # across it: sampled
    assert mask[0, 0, 0] == 1  # mean: kept
    skew = missing_wedge((40, 40, 40), -50, 70)
    beyond = 60.0  # degrees: sampled on the positive side alone
    kx, kz = 5, round(5 * math.tan(math.radians(beyond)))
    assert skew[kz, 0, kx] == 1
    assert skew[-kz, 0, kx] == 0
    assert missing_wedge((40, 40, 40), -50, 70, invert=True)[-kz, 0, kx] == 1


def test_fraction_of_a_cube():
    inside = missing_wedge((40, 40, 40), -60, 60).expand(40, 40, 21)
    both = torch.cat([inside, inside[..., 1:20].flip(-1)], dim=-1)
    assert float(both.mean()) == pytest.approx(1 - math.tan(math.radians(30)) / 2, abs=0.02)


@pytest.mark.parametrize("shape", [(8, 8, 8), (7, 8, 9), (40, 40, 40)])
def test_full_range_is_the_identity(shape):
    assert bool((missing_wedge(shape, -90, 90) == 1).all())
    volume = torch.randn(shape)
    torch.testing.assert_close(apply_transfer(volume, missing_wedge(shape, -90, 90)), volume)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(4, 10)] * 3), st.floats(-85, -5), st.floats(5, 85), st.booleans())
def test_the_half_grid_stands_for_a_real_volume(shape, low, high, dual):
    wedge = dual_axis_wedge if dual else missing_wedge
    mask = full(wedge(shape, low, high), shape)
    # put the half grid onto the full one by Hermitian symmetry: it must agree with itself where columns are shared
    for column in [0] + ([shape[2] // 2] if shape[2] % 2 == 0 else []):
        plane = np.array(mask[..., column])
        mirrored = np.roll(plane[::-1, ::-1], (1, 1), axis=(0, 1))
        np.testing.assert_array_equal(plane, mirrored)


def test_batch_equals_single():
    low, high = torch.tensor([-60.0, -50.0]), torch.tensor([60.0, 70.0])
    batch = missing_wedge((8, 9, 10), low, high)
    assert batch.shape == (2, 8, 1, 6)
    torch.testing.assert_close(batch[1], missing_wedge((8, 9, 10), -50, 70))


def test_dual_axis_is_the_union():
    dual = dual_axis_wedge((20, 20, 20), -60, 60)
    a, b = missing_wedge((20, 20, 20), -60, 60, tilt_axis="y"), missing_wedge((20, 20, 20), -60, 60, tilt_axis="x")
    assert bool((dual == ((a + b) > 0)).all())
    assert dual.mean() > a.expand_as(dual).mean()


def test_soft_edge():
    sharp = missing_wedge((40, 40, 40), -60, 60)
    soft = missing_wedge((40, 40, 40), -60, 60, soft_edge_deg=10)
    assert bool(((soft > 0) & (soft < 1)).any())
    torch.testing.assert_close(soft.round(), sharp, atol=0.51, rtol=0)
    assert float((soft.round() != sharp).float().mean()) < 0.01


@pytest.mark.parametrize("half_angle", [1e-3, 1.0])
def test_a_soft_edge_of_next_to_no_wedge_leaves_next_to_nothing_out(half_angle):
    almost = missing_wedge((40, 40, 40), half_angle - 90, 90 - half_angle, soft_edge_deg=10)
    assert float((1 - almost).max()) <= half_angle * np.pi / 10 + 1e-3  # twice the ramp's steepest slope


def test_a_soft_edge_goes_on_behind_the_pole():
    # the plane at 88 degrees is the one at -92: 2 degrees outside a range that begins at -90
    mask = missing_wedge((1, 400, 2001), -90, 60, soft_edge_deg=20, tilt_axis="z", beam_axis="y")[0]
    angle = torch.rad2deg(torch.atan2(torch.tensor(100.0 / 400), torch.tensor(18.0 / 2001)))  # beam 100, side 18
    outside = 90 - float(angle)
    low, high = sorted((float(mask[100, 18]), float(mask[-100, 18])))
    assert low == pytest.approx(0.5 - 0.5 * np.cos(np.pi * (0.5 - outside / 20)), abs=1e-3)
    assert high == pytest.approx(0.5 - 0.5 * np.cos(np.pi * (0.5 + outside / 20)), abs=1e-3)


def test_a_dense_fan_fills_the_wedge_and_a_sparse_one_does_not():
    shape, voxel_size = (40, 40, 40), 10.0
    wedge = missing_wedge(shape, -60, 60)
    dense = tilt_fan(shape, torch.arange(-60.0, 60.5, 1.0), thickness_a=400.0, voxel_size=voxel_size)
    sparse = tilt_fan(shape, torch.arange(-60.0, 61.0, 10.0), thickness_a=1600.0, voxel_size=voxel_size)
    assert float((dense - wedge).abs().mean()) < 0.05
    assert bool((dense >= wedge).all())
    assert float(sparse.mean()) < 0.5 * float(dense.mean())
    one = tilt_fan(shape, [0.0], thickness_a=400.0, voxel_size=voxel_size)
    assert one[0].all()
    assert not one[3:37].any()


def test_the_width_of_a_slab_is_a_length():
    """At 10 Å a slab of 1 / 160 Å is 1.25 of the box's frequencies thick either way; at 1 Å an eighth of one."""
    shape, tilts = (20, 20, 20), torch.arange(-60.0, 61.0, 10.0)
    share = {v: float(tilt_fan(shape, tilts, thickness_a=160.0, voxel_size=v).mean()) for v in (1.0, 10.0)}
    kz, kx = (np.fft.fftfreq(20, 10.0)[:, None], np.fft.rfftfreq(20, 10.0)[None])
    radians = np.deg2rad(tilts.numpy())[:, None, None]
    slabs = (np.abs(kz * np.cos(radians) - kx * np.sin(radians)) <= 0.5 / 160).any(axis=0)
    keep = (np.arange(20) != 10)[:, None] & (np.arange(11) != 10)
    fan = tilt_fan(shape, tilts, thickness_a=160.0, voxel_size=10.0)[:, 0].numpy()
    np.testing.assert_array_equal(fan[keep], slabs[keep])
    assert share[1.0] < 0.6 * share[10.0]


class TestCosinePower:
    shape = (24, 10, 30)

    def test_each_plane_has_the_cosine_of_its_tilt(self):
        sharp, weighted = (missing_wedge(self.shape, -50, 70, voxel_size=(8, 9, 10), cosine_power=p) for p in (0, 1.5))
        kz, _, kx = frequency_grid(self.shape, (8, 9, 10))
        kz, kx = np.broadcast_arrays(kz.numpy(), kx.numpy())
        keep = off_nyquist(self.shape)[:, :1] & (kx != 0)
        cosine = np.cos(np.arctan(kz[keep] / kx[keep]))
        np.testing.assert_allclose(weighted.numpy()[keep], sharp.numpy()[keep] * cosine**1.5, atol=1e-6)
        assert weighted[0, 0, 0] == 1  # the mean

    @pytest.mark.parametrize("power", [1.0, 2.0])
    def test_it_is_what_weighted_projections_give(self, power):
        """Of projections, each weighted by a power of its cosine, and back-projected."""
        n, tilts = 32, torch.linspace(-60, 60, 121, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        z, y, x = torch.meshgrid(*[torch.arange(n) - n // 2] * 3, indexing="ij")
        ball = torch.exp(-((z / 6.0) ** 2 + (y / 6.0) ** 2 + (x / 6.0) ** 2) * 2)
        volume = ball * torch.rand(n, n, n, generator=generator)
        ramp = torch.fft.rfftfreq(n)

        def reconstruct(weight):
            images = project(volume, tilts) * weight[:, None, None]
            return back_project(torch.fft.irfft(torch.fft.rfft(images) * ramp, n=n), tilts, volume.shape)

        cosine = torch.cos(torch.deg2rad(tilts)).float()
        alike, weighted = torch.fft.rfftn(
            torch.stack([reconstruct(cosine**0), reconstruct(cosine**power)]), dim=(1, 2, 3)
        )
        expected = alike * missing_wedge(volume.shape, -60, 60, cosine_power=power)
        kz, ky, kx = torch.broadcast_tensors(*frequency_grid(volume.shape, 1.0))
        radius = torch.hypot(kz, kx)
        inside = (missing_wedge(volume.shape, -55, 55).expand_as(alike) > 0) & (radius > 0.1) & (radius < 0.3)
        angle = torch.rad2deg(torch.atan2(kz, kx).abs())
        for low in range(0, 50, 10):
            points = inside & (angle >= low) & (angle < low + 10) & (ky.abs() < 0.2)
            got, wanted = (t[points].abs().square().sum().sqrt() for t in (weighted, expected))
            # the object's width smears planes over some degrees
            assert float(got) == pytest.approx(float(wanted), rel=0.05)

    def test_each_item_has_its_own(self):
        power = torch.tensor([0.0, 1.0])
        both = missing_wedge(self.shape, -60, 60, cosine_power=power)
        for i in range(2):
            torch.testing.assert_close(both[i], missing_wedge(self.shape, -60, 60, cosine_power=float(power[i])))

    def test_two_series_keep_the_heavier_tilt(self):
        dual = dual_axis_wedge((20, 20, 20), -60, 60, cosine_power=1)
        series = (missing_wedge((20, 20, 20), -60, 60, tilt_axis=axis, cosine_power=1) for axis in "yx")
        torch.testing.assert_close(dual, torch.maximum(*series))

    @pytest.mark.parametrize("power", [-0.1, float("nan")])
    def test_refusals(self, power):
        with pytest.raises(ValueError, match="cosine_power must be >= 0"):
            missing_wedge((8, 8, 8), -60, 60, cosine_power=power)


@pytest.mark.parametrize(("low", "high"), [(60, -60), (-100, 60), (-60, 91), (10, 10), (float("nan"), 60)])
def test_impossible_ranges(low, high):
    with pytest.raises(ValueError, match="-90 <= min < max <= 90"):
        missing_wedge((8, 8, 8), low, high)


def test_impossible_axes_and_fans():
    with pytest.raises(ValueError, match="two different axes"):
        missing_wedge((8, 8, 8), -60, 60, tilt_axis="z")
    with pytest.raises(ValueError, match="at least one angle"):
        tilt_fan((8, 8, 8), [], thickness_a=100)
    with pytest.raises(ValueError, match="thickness_a"):
        tilt_fan((8, 8, 8), [0.0], thickness_a=0)
