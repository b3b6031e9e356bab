"""Tilt series against closed forms, the central slice, scipy's rotation and the wedge filter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from monai_cryo.physics import apply_transfer, missing_wedge, tilt_fan
from monai_cryo.physics import tilt_series as ts
from monai_cryo.physics.resampling import crop_or_pad

SERIES = ts.tilt_angles(-60, 60, 3)


def gaussians(shape, centres_zyx, sigma=1.8, weights=None):
    """Sum of Gaussians of integral 1 each, centres counted from N // 2, float64."""
    grid = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) - n // 2 for n in shape), indexing="ij")
    total = torch.zeros(shape, dtype=torch.float64)
    for centre, weight in zip(centres_zyx, weights or [1.0] * len(centres_zyx), strict=True):
        squared = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        total += weight * torch.exp(-squared / (2 * sigma**2)) / (2 * math.pi * sigma**2) ** 1.5
    return total


#: asymmetric in every way, well inside 32 x 28 x 36
OBJECT = gaussians((32, 28, 36), [(0, 0, 0), (5, -3, 6), (-6, 4, 2), (2, 5, -7)], weights=[1.0, 2.0, 0.7, 1.5])


def correlation(a, b):
    return float(np.corrcoef(np.asarray(a).ravel(), np.asarray(b).ravel())[0, 1])


class TestProject:
    def test_untilted_is_the_sum_along_the_beam(self):
        volume = torch.randn(2, 9, 8, 7)
        torch.testing.assert_close(ts.project(volume, [0.0])[:, 0], volume.sum(dim=1), atol=1e-5, rtol=1e-5)

    def test_right_angles(self):
        volume = torch.randn(9, 8, 9, dtype=torch.float64)
        plus, minus = ts.project(volume, [90.0, -90.0])
        torch.testing.assert_close(plus, volume.sum(dim=2).mT)  # u = z
        torch.testing.assert_close(minus, volume.sum(dim=2).flip(0).mT)  # u = -z

    @pytest.mark.parametrize("tilt", [-75.0, -60.0, -33.3, 0.0, 12.0, 45.0, 60.0])
    def test_central_slice(self, tilt):
        """The transform of a projection is the plane kz = kx tan(t) of the volume's: to 0.2 % of its largest value."""
        d, h, w = OBJECT.shape
        got = torch.fft.fft2(torch.fft.ifftshift(ts.project(OBJECT, [tilt])[0]))
        k, ky = torch.fft.fftfreq(w, dtype=torch.float64), torch.fft.fftfreq(h, dtype=torch.float64)
        radians = math.radians(tilt)

        def wave(n, frequency):
            return torch.exp(-2j * math.pi * torch.outer(frequency, torch.arange(n, dtype=torch.float64) - n // 2))

        waves = wave(d, k * math.sin(radians)), wave(h, ky), wave(w, k * math.cos(radians))
        plane = torch.einsum("kz,jy,kx,zyx->jk", *waves, OBJECT.to(torch.complex128))
        assert float((got - plane).abs().max()) < 2e-3 * float(plane.abs().max())
        assert correlation(got.abs(), plane.abs()) > 0.9999

    @settings(max_examples=25, deadline=None)
    @given(st.floats(-90, 90), st.tuples(*[st.floats(-5, 5)] * 3))
    def test_off_centre_gaussian_in_closed_form(self, tilt, centre):
        sigma, shape = 1.8, (30, 32, 31)
        radians = math.radians(tilt)
        u = torch.arange(31, dtype=torch.float64) - 15 - (centre[2] * math.cos(radians) + centre[0] * math.sin(radians))
        y = torch.arange(32, dtype=torch.float64) - 16 - centre[1]
        expected = torch.exp(-(y[:, None] ** 2 + u**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
        got = ts.project(gaussians(shape, [centre], sigma), [tilt])[0]
        torch.testing.assert_close(got, expected, atol=3e-3 * float(expected.max()), rtol=0)

    @pytest.mark.parametrize("tilt", [-60.0, -20.0, 35.0, 60.0])
    def test_scipy_rotation(self, tilt):
        volume = gaussians((33, 20, 33), [(0, 0, 0), (5, -3, 6), (-6, 4, 2)], weights=[1.0, 2.0, 0.7]).numpy()
        # output (z', x') = rotation by t of (z, x), with x' = x cos t + z sin t
        rotated = ndimage.rotate(volume, tilt, axes=(2, 0), reshape=False, order=3)
        expected = rotated.sum(axis=0)
        got = ts.project(torch.as_tensor(volume), [tilt])[0]
        assert correlation(got, expected) > 0.9999
        assert correlation(got, ndimage.rotate(volume, -tilt, axes=(2, 0), reshape=False, order=3).sum(axis=0)) < 0.95

    def test_mass_is_kept(self):
        sums = ts.project(OBJECT, SERIES).sum(dim=(-2, -1))
        torch.testing.assert_close(sums, OBJECT.sum().expand(41), rtol=1e-6, atol=0)

    def test_detector_size(self):
        whole = ts.project(OBJECT, SERIES)
        assert whole.shape == (41, 28, 36)
        torch.testing.assert_close(ts.project(OBJECT, SERIES, output_shape=(20, 24)), whole[:, 4:24, 6:30])
        torch.testing.assert_close(ts.project(OBJECT, SERIES, output_shape=(30, 50))[:, 1:29, 7:43], whole)

    def test_what_misses_the_detector_is_lost(self):
        volume = torch.zeros(64, 4, 64)
        volume[-1, :, -1] = 1.0  # at tilt 45: 44 voxels from the centre
        assert float(ts.project(volume, [45.0]).abs().max()) == 0

    def test_gradient(self):
        volume = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
        with torch.inference_mode():
            ts.project(volume, [-50.0, 10.0])  # what this caches must not break the next
        assert torch.autograd.gradcheck(lambda v: ts.project(v, [-50.0, 10.0]), volume)


shapes = st.tuples(*[st.integers(1, 12)] * 3)
angles = st.lists(st.floats(-90, 90), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(shapes, angles, st.integers(1, 12), st.integers(1, 12))
def test_back_projection_is_the_adjoint(shape, tilts, height, width):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    y = torch.randn(len(tilts), height, width, dtype=torch.float64, generator=generator)
    forward = (ts.project(x, tilts, output_shape=(height, width)) * y).sum()
    torch.testing.assert_close(forward, (x * ts.back_project(y, tilts, shape)).sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 2000, 10**9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_equals_single_whatever_the_chunk(monkeypatch, chunk, dtype):
    monkeypatch.setattr(ts, "_CHUNK", chunk)
    volumes = torch.randn(2, 3, 8, 9, 10, dtype=dtype)
    tilts = torch.rand(2, 3, 5) * 120 - 60
    projections = ts.project(volumes, tilts)
    back = ts.weighted_back_projection(projections, tilts, (8, 9, 10))
    assert projections.dtype == back.dtype == dtype
    assert projections.shape == (2, 3, 5, 9, 10)
    assert back.shape == volumes.shape
    one = ts.project(volumes[1, 2], tilts[1, 2])
    torch.testing.assert_close(projections[1, 2], one, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        back[1, 2], ts.weighted_back_projection(one, tilts[1, 2], (8, 9, 10)), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(ts.project(volumes, tilts[0, 0])[0, 0], projections[0, 0], atol=1e-4, rtol=1e-4)


class TestReconstruction:
    @settings(max_examples=25, deadline=None)
    @given(st.tuples(*[st.integers(16, 25)] * 3), st.data(), st.sampled_from(["exact", "ramp"]))
    def test_a_point_comes_back_at_its_place(self, shape, data, kind):
        point = tuple(data.draw(st.integers(5, n - 6)) for n in shape)
        volume = torch.zeros(shape)
        volume[point] = 1.0
        back = ts.weighted_back_projection(ts.project(volume, SERIES), SERIES, shape, filter=kind)
        assert np.unravel_index(int(back.argmax()), shape) == point

    @pytest.mark.parametrize("ends", [(-60, 60), (-40, 65)])
    def test_the_spectrum_of_a_point_is_the_wedge(self, ends):
        shape, tilts = (48, 16, 48), ts.tilt_angles(*ends, 3)
        volume = torch.zeros(shape)
        volume[24, 8, 24] = 1.0
        back = ts.weighted_back_projection(ts.project(volume, tilts), tilts, shape)
        power = torch.fft.rfftn(back).abs().square()
        inside = missing_wedge(shape, *ends).expand_as(power)
        assert float((power * inside).sum() / power.sum()) > 0.95
        assert float((power * (1 - inside)).sum() / (1 - inside).sum() / (power.mean())) < 0.1
        fan = tilt_fan(shape, tilts, thickness_a=24.0, voxel_size=1.0).expand_as(power)
        assert float((power * fan).sum() / power.sum()) > 0.95
        if ends[0] != -ends[1]:
            mirrored = missing_wedge(shape, *ends, invert=True).expand_as(power)
            assert float((power * mirrored).sum()) < 0.9 * float((power * inside).sum())

    @pytest.mark.parametrize("kind", ["exact", "ramp"])
    def test_the_wedge_filter_by_another_route(self, kind):
        shape = (40, 40, 40)
        volume = gaussians(shape, [(0, 0, 0), (5, -3, 6), (-6, 4, 2), (2, 5, -7)], weights=[1.0, 2.0, 0.7, 1.5])
        back = ts.weighted_back_projection(ts.project(volume, SERIES), SERIES, shape, filter=kind)
        filtered = apply_transfer(volume, missing_wedge(shape, -60, 60).to(volume.dtype))
        assert correlation(back, filtered) > 0.95
        assert float((back * filtered).sum() / filtered.square().sum()) == pytest.approx(1, abs=0.1)

    def test_cut_from_a_larger_scene(self):
        scene = crop_or_pad(OBJECT, (48, 48, 48))
        projections = ts.project(scene, SERIES)
        whole = ts.weighted_back_projection(projections, SERIES, (48, 48, 48))
        part = ts.weighted_back_projection(projections, SERIES, (20, 21, 22), thickness_vox=48)
        torch.testing.assert_close(part, crop_or_pad(whole, (20, 21, 22)))

    def test_full_range_returns_the_volume(self):
        """From 180 degrees of tilts all comes back but the mean, which no box about the object can settle."""
        tilts = torch.arange(-90.0, 90.0, 2.0)
        back = ts.weighted_back_projection(ts.project(OBJECT, tilts), tilts, OBJECT.shape)
        assert correlation(back, OBJECT) > 0.99


class TestFilter:
    def test_even_steps_make_the_exact_filter_a_ramp(self):
        tilts = ts.tilt_angles(-90, 87, 3)
        k = torch.fft.rfftfreq(64, dtype=torch.float64)
        exact, ramp = (ts.reconstruction_filter(tilts, 64, 64.0, filter=f) for f in ("exact", "ramp"))
        assert exact.shape == ramp.shape == (60, 33)
        middle = (k > 0.02) & (k < 0.15)  # slabs overlap there, several at once and not all
        torch.testing.assert_close(exact[:, middle], ramp[:, middle], rtol=0.05, atol=0)
        torch.testing.assert_close(ramp[7, middle], math.radians(3) * k[middle])
        torch.testing.assert_close(exact[:, 0], torch.full((60,), 1 / (60 * 64), dtype=torch.float64))
        torch.testing.assert_close(ramp[:, 0], exact[:, 0])

    def test_crowded_tilts_count_less(self):
        weight = ts.reconstruction_filter([-30.0, -29.5, 30.0], 32, 20.0)
        assert bool((weight[0, 4:8] < 0.8 * weight[2, 4:8]).all())

    def test_alone(self):
        for kind in ("exact", "ramp"):
            weight = ts.reconstruction_filter([10.0], 8, 4.0, filter=kind)
            torch.testing.assert_close(weight, torch.full((1, 5), 0.25, dtype=torch.float64))


def test_angles():
    assert ts.tilt_angles(-60, 60, 3).tolist() == list(range(-60, 61, 3))
    assert ts.tilt_angles(-50, 51, 2.0).tolist()[:: len(ts.tilt_angles(-50, 51, 2.0)) - 1] == [-50, 51]
    assert float(ts.tilt_angles(0, 10, 3).diff().max()) == 2.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ts.tilt_angles(60, -60, 3), "needs min < max"),
        (lambda: ts.tilt_angles(-60, 60, 0), "a step > 0"),
        (lambda: ts.project(torch.zeros(4, 4), [0.0]), r"shape \(..., D, H, W\)"),
        (lambda: ts.project(torch.zeros(4, 4, 4), []), "at least one angle"),
        (lambda: ts.project(torch.zeros(4, 4, 4), [float("nan")]), "all finite"),
        (lambda: ts.back_project(torch.zeros(2, 4, 4), [0.0], (4, 4, 4)), "as many tilts"),
        (lambda: ts.reconstruction_filter([0.0], 4, 4, filter="hann"), "filter must be one of exact, ramp"),
        (lambda: ts.reconstruction_filter([0.0], 4, 0.0), "thickness_vox"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
