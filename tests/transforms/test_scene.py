"""Gold beads and their streaks, fields of density and ice gradients: what each promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.physics import bead_streaks

VOXEL = 13.68


def volumes(count=1):
    v = torch.zeros(count, 1, 20, 20, 20)
    generator = torch.Generator().manual_seed(7)
    v[..., 7:13, 8:13, 8:12] = 1 + torch.rand(count, 1, 6, 5, 4, generator=generator)
    return v


def drawn(transform, count, seed=0):
    state = np.random.RandomState(seed)
    return [transform.draw(state) for _ in range(count)]


class TestGoldBead:
    def test_radius_place_and_density_are_those_drawn(self):
        batch, transform = volumes(200), T.RandGoldBead(voxel_size=VOXEL)
        draws = drawn(transform, 200)
        out = transform.apply(batch, draws)
        radius = np.array([d["radius_a"] for d in draws]) / VOXEL
        place = np.abs([d["position"] for d in draws]).max(axis=1)
        assert radius.min() * VOXEL >= 25
        assert radius.max() * VOXEL <= 75
        inside = (place * 20 + radius + 1 < 10) & (radius > 2)
        assert inside.sum() > 10
        for i in np.flatnonzero(inside):
            level = float(batch[i].max()) * draws[i]["amplitude"]
            assert float(out[i].max()) == pytest.approx(level, rel=1e-5)
            filled = (out[i] - batch[i]) / (level - batch[i])  # it displaces what was there
            assert float(filled.sum()) == pytest.approx(4 / 3 * math.pi * radius[i] ** 3, rel=0.03)
        assert 0.45 < place.max() <= 0.5

    @pytest.mark.parametrize("size", [20, 21])
    def test_the_middle_of_its_places_is_that_of_the_box(self, size):
        transform = T.RandGoldBead(5 * VOXEL, 5.0, voxel_size=VOXEL)
        draw = drawn(transform, 1)[0] | {"position": [0.0, 0.0, 0.0]}
        out = transform.apply(torch.zeros(1, 1, size, size, size), [draw])
        torch.testing.assert_close(out, out.flip(2, 3, 4))

    def test_empty_volume_and_voxel_size(self):
        transform = T.RandGoldBead(40.0, 5.0).set_random_state(0)
        with pytest.raises(ValueError, match="RandGoldBead needs the voxel size"):
            transform(volumes()[0])
        meta = MetaTensor(torch.zeros(1, 20, 20, 20), affine=torch.diag(torch.tensor([VOXEL, VOXEL, VOXEL, 1.0])))
        assert float(transform(meta).max()) == 5.0
        for bad in ({"radius_a": 0}, {"amplitude": (0, 2)}, {"voxel_size": -1}):
            with pytest.raises(ValueError, match=next(iter(bad))):
                T.RandGoldBead(**bad)


class TestStreaks:
    def test_they_are_those_of_the_bead_drawn(self):
        batch, transform = volumes(6), T.RandStreaks(distance_vox=(12.0, 40.0), voxel_size=VOXEL)
        draws = drawn(transform, 6)
        added = transform.apply(batch, draws) - batch
        assert len({float(a.std()) for a in added}) == 6
        for one, draw in zip(added, draws, strict=True):
            direction, count = math.radians(draw["direction_deg"]), round(180 / draw["step_deg"])
            distance = draw["distance_vox"] + 10 * math.sqrt(2)  # from the corner
            z, x = distance * math.cos(direction), distance * math.sin(direction)
            tilts = -90 + 180 / count * (draw["phase"] + np.arange(count))
            expected = bead_streaks((20,) * 3, VOXEL, draw["sigma_a"], (z, 20 * draw["height"], x), tilts)
            torch.testing.assert_close(one[0], draw["amplitude"] * expected, atol=1e-5, rtol=1e-4)

    def test_they_lie_across_the_tilt_axis_whichever_axis_that_is(self):
        volume, transform = torch.zeros(1, 12, 16, 20), T.RandStreaks()
        zyx = torch.tensor([[0.0, 0, 9, 0], [0, 10, 0, 0], [11, 0, 0, 0], [0, 0, 0, 1]])  # 11 Å along z, 9 along x
        plain = transform.set_random_state(0)(MetaTensor(volume, affine=zyx)).as_tensor()
        xyz = torch.diag(torch.tensor([9.0, 10, 11, 1]))
        turned = transform(MetaTensor(volume.permute(0, 3, 2, 1), affine=xyz), randomize=False).as_tensor()
        assert float(plain.std()) > 0
        torch.testing.assert_close(turned.permute(0, 3, 2, 1), plain)
        torch.testing.assert_close(T.RandStreaks(voxel_size=(11, 10, 9)).set_random_state(0)(volume), plain)

    def test_tilts_begin_anywhere_in_a_step(self):
        phases = np.array([d["phase"] for d in drawn(T.RandStreaks(), 400)])
        assert np.abs(np.histogram(phases, 4, (0, 1))[0] - 100).max() < 35

    def test_slopes_pass_through(self):
        image = volumes()[0].requires_grad_()
        T.RandStreaks(voxel_size=VOXEL).set_random_state(0)(image).sum().backward()
        assert torch.equal(image.grad, torch.ones_like(image))

    def test_ranges_and_voxel_size(self):
        draws = drawn(T.RandStreaks((10.0, 20.0), (1.0, 100.0), (30.0, 60.0), (2.0, 3.0)), 300)
        ranges = {"sigma_a": (10, 20), "amplitude": (1, 100), "distance_vox": (30, 60), "step_deg": (2, 3)}
        for name, (low, high) in ranges.items():
            values = np.array([d[name] for d in draws])
            assert low <= values.min() < low + 0.1 * (high - low)
            assert high - 0.15 * (high - low) < values.max() <= high
        assert np.median([d["amplitude"] for d in draws]) == pytest.approx(10, rel=0.3)  # log-uniform
        with pytest.raises(ValueError, match="RandStreaks needs the voxel size"):
            T.RandStreaks()(volumes()[0])
        for bad in ({"sigma_a": 0}, {"amplitude": -1}, {"distance_vox": 0}, {"step_deg": 0.1}, {"voxel_size": -1}):
            with pytest.raises(ValueError, match=next(iter(bad))):
                T.RandStreaks(**bad)


class TestDensityField:
    def test_it_runs_from_0_to_the_amplitude_drawn(self):
        batch, transform = volumes(12), T.RandDensityField((0.1, 0.5))
        draws = drawn(transform, 12)
        field = transform.apply(batch, draws) - batch
        expected = torch.tensor([d["amplitude"] for d in draws], dtype=torch.float32)
        torch.testing.assert_close(field.amin(dim=(1, 2, 3, 4)), torch.zeros(12), atol=1e-6, rtol=0)
        torch.testing.assert_close(field.amax(dim=(1, 2, 3, 4)), expected, atol=1e-6, rtol=0)
        assert float(expected.max() - expected.min()) > 0.2

    def test_it_is_smooth_and_every_time_another(self):
        transform = T.RandDensityField(1.0, points=3)
        fields = transform.apply(torch.zeros(4, 1, 20, 20, 20), drawn(transform, 4))
        assert all(float(fields.diff(dim=d).abs().max()) < 0.15 for d in (2, 3, 4))
        assert len({float(f.mean()) for f in fields}) == 4

    def test_refusals(self):
        with pytest.raises(ValueError, match="amplitude must lie in 0"):
            T.RandDensityField(-0.1)
        with pytest.raises(ValueError, match="points must be a whole number >= 2"):
            T.RandDensityField(points=1)

    def test_what_holds_nothing_stays_so_where_asked(self) -> None:
        batch = torch.zeros(2, 1, 16, 16, 16)
        batch[1, 0, 8, 8, 8] = -1.0
        for keep, expected in ((True, [False, True]), (False, [True, True])):
            transform = T.RandDensityField((0.1, 0.5), keep_empty=keep)
            state = np.random.RandomState(0)
            image = transform.apply(batch, [transform.draw(state) for _ in batch])
            assert (image != batch).flatten(1).any(1).tolist() == expected


class TestIceGradient:
    def test_its_std_is_as_asked(self):
        batch = 3 + 2 * torch.randn(6, 1, 14, 12, 13, generator=torch.Generator().manual_seed(0))
        transform = T.RandIceGradient((0.1, 0.9))
        draws = drawn(transform, 6)
        added = transform.apply(batch, draws) - batch
        amplitude = torch.tensor([d["amplitude"] for d in draws], dtype=torch.float32)
        axes = (1, 2, 3, 4)
        torch.testing.assert_close(
            added.std(dim=axes, correction=0), amplitude * batch.std(dim=axes, correction=0), atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(added.mean(dim=axes), torch.zeros(6), atol=1e-4, rtol=0)

    def test_without_the_quadratic_form_it_is_a_plane(self):
        image = torch.randn(1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
        added = T.RandIceGradient(0.5, quadratic=0.0).set_random_state(0)(image) - image
        for axis in (1, 2, 3):
            bend = added.diff(dim=axis, n=2)
            torch.testing.assert_close(bend, torch.zeros_like(bend), atol=1e-5, rtol=0)

    def test_a_constant_image_has_no_scale(self):
        flat = torch.zeros(1, 8, 8, 8)
        torch.testing.assert_close(T.RandIceGradient(0.5).set_random_state(0)(flat), flat)
        with pytest.raises(ValueError, match="amplitude must lie in 0"):
            T.RandIceGradient(-0.1)
