"""The container for Fourier space: the same numbers as the sequence, and filters of one's own behave in it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.physics.fourier import irfft, rfft

VOXEL = 13.68


def particle(channels=1, n=20):
    v = torch.zeros(channels, n, n, n)
    z, y, x = torch.meshgrid(*[torch.arange(n) - n // 2] * 3, indexing="ij")
    inside = (z / 6) ** 2 + (y / 5) ** 2 + (x / 4) ** 2 < 1
    v[:, inside] = 1 + 0.3 * torch.sin(2.0 * z[inside])
    return v


def close(one, other):
    scale = float(other.abs().max())
    torch.testing.assert_close(one / scale, other / scale, atol=1e-5, rtol=0)


FILTERS = {
    "snr": lambda: T.RandSNR((0.1, 1.0)),
    "coloured": lambda: T.RandSNR((0.1, 1.0), power_law=(0, 2)),
    "wedge": lambda: T.RandMissingWedge((10, 50), voxel_size=VOXEL),
    "ctf": lambda: T.RandCTF((0, 12), voxel_size=VOXEL),
    "mtf": lambda: T.RandMTF(),
    "half": lambda: T.RandCTF((0, 12), prob=0.5, voxel_size=VOXEL),
}
CHAINS = [c for r in (1, 2, 4) for c in itertools.combinations(("snr", "wedge", "ctf", "mtf"), r)]


@pytest.mark.parametrize("names", [*CHAINS, ("coloured", "ctf", "mtf", "wedge"), ("snr", "half", "wedge")])
def test_fused_equals_the_sequence(names):
    members = [FILTERS[n]() for n in names]
    box, state = T.FourierCompose(members, voxel_size=VOXEL), np.random.RandomState(11)
    batch = torch.stack([particle(), 2 * particle(), particle()])
    draws = [box.draw(state) for _ in batch]
    step = batch
    for name, member in zip(box.names, members, strict=True):
        step = member.apply(step, [d[name] for d in draws], voxel_size=(VOXEL,) * 3)
    close(box.apply(batch, draws), step)


def test_detector_noise_after_the_optics_equals_that_sequence():
    v = particle(2)
    optics, noise, wedge = T.CTF(4.0, voxel_size=VOXEL), T.RandSNR((0.2, 0.4), stage="after"), T.MissingWedge()
    box = T.FourierCompose([noise, wedge, optics]).set_random_state(2)
    fused = box(v)
    drawn = box.parameters["RandSNR"]
    close(fused, wedge(noise.apply(optics(v)[None], [drawn])[0]))


def test_where_the_noise_stands_in_the_list_does_not_matter():
    members = [T.MTF(), T.MissingWedge(), T.CTF(3.0)]
    results = []
    for at in (0, 3):
        chain = [*members[:at], T.RandSNR(0.5, stage="after"), *members[at:]]
        results.append(T.FourierCompose(chain, voxel_size=VOXEL).set_random_state(0)(particle()))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)


class Soft(T.FourierFilter):
    """A filter of one's own: radial."""

    def transfer(self, grid, parameters):
        return torch.exp(-2 * grid.fraction.square())[None]


class Move(T.FourierFilter):
    """Not radial: moves the volume one voxel along z and damps along x."""

    def transfer(self, grid, parameters):
        d, _, w = grid.shape
        z = torch.fft.fftfreq(d).view(1, -1, 1, 1)
        x = torch.fft.rfftfreq(w).view(1, 1, 1, -1)
        return torch.exp(-2j * torch.pi * z) * torch.exp(-4 * x.square())


class SoftEverything(Soft):
    filters_detector_noise = True


class MoveEverything(Move):
    filters_detector_noise = True


OWN = pytest.mark.parametrize("own", [Soft, Move, SoftEverything, MoveEverything])


def white_draw(stage):
    return {"snr": 0.5, "stage": stage, "power_law": 0.0, "lowpass": None, "seed": 3}


@OWN
@pytest.mark.parametrize("colour", [{}, {"power_law": 1.0}])
def test_a_filter_of_ones_own_and_noise_before_it(own, colour):
    batch, noise, mine = particle()[None], T.RandSNR(), own()
    drawn = white_draw("before") | colour
    fused = T.FourierCompose([noise, mine]).apply(batch, [{"RandSNR": drawn, own.__name__: {}}])
    close(fused, mine.apply(noise.apply(batch, [drawn]), [{}]))


@OWN
@pytest.mark.parametrize("colour", [{}, {"power_law": 1.0}])
def test_a_filter_of_ones_own_and_the_detectors_noise(own, colour):
    batch, noise, mine = particle()[None], T.RandSNR(), own()
    drawn = white_draw("after") | colour
    fused = T.FourierCompose([noise, mine]).apply(batch, [{"RandSNR": drawn, own.__name__: {}}])
    if own.filters_detector_noise:
        expected = mine.apply(noise.apply(batch, [drawn]), [{}])
    else:
        expected = noise.apply(mine.apply(batch, [{}]), [drawn])
    close(fused, expected)


@OWN
def test_a_filter_of_ones_own_and_split_noise(own):
    """The two halves add up in power: before the optics it is filtered, after them it is not."""
    batch, mine = particle()[None], own()
    fused = T.FourierCompose([T.RandSNR(), mine]).apply(batch, [{"RandSNR": white_draw("split"), own.__name__: {}}])
    filtered = mine.apply(batch, [{}])
    transfer = rfft(mine.apply(torch.nn.functional.pad(torch.ones(1, 1, 1, 1, 1), [10, 9] * 3), [{}])).abs()
    grain = T.RandSNR().apply(batch, [white_draw("before")]) - batch
    grain = rfft(grain / (batch.var(correction=0) / 0.5).sqrt())
    if own.filters_detector_noise:  # all noise passes it
        expected = filtered + mine.apply(irfft(grain, (20, 20, 20)) * (batch.var(correction=0) / 0.5).sqrt(), [{}])
    else:
        before, after = batch.var(correction=0), filtered.var(correction=0)  # over 2 x 0.5
        expected = filtered + irfft(grain * (before * transfer.square() + after).sqrt(), (20, 20, 20))
    close(fused, expected)


@OWN
def test_a_filter_of_ones_own_beside_the_ctf(own):
    batch, mine, optics = particle()[None], own(), T.CTF(3.0, voxel_size=VOXEL)
    drawn = optics.draw(np.random.RandomState(0))
    fused = T.FourierCompose([optics, mine]).apply(batch, [{"CTF": drawn, own.__name__: {}}])
    close(fused, mine.apply(optics.apply(batch, [drawn]), [{}]))


def test_a_draw_shapes_a_filter_of_ones_own():
    class RandSoft(T.RandDrawable, T.FourierFilter):
        def __init__(self, prob=1.0):
            T.RandDrawable.__init__(self, prob)
            T.FourierFilter.__init__(self)

        def draw_values(self, state):
            return {"width": float(state.uniform(0.2, 0.9))}

        def transfer(self, grid, parameters):
            width = torch.tensor([p["width"] for p in parameters])[:, None]
            return torch.exp(-(grid.fraction / width).square())

    box = T.FourierCompose([RandSoft(prob=0.5), T.MTF()])
    state, batch = np.random.RandomState(0), torch.stack([particle()] * 6)
    draws = [box.draw(state) for _ in batch]
    on = [d["RandSoft"] is not None for d in draws]
    assert 0 < sum(on) < 6
    result, plain = box.apply(batch, draws), T.MTF()(particle())
    for i in range(6):
        assert torch.allclose(result[i], plain, atol=1e-5) == (not on[i])


def test_nothing_drawn_for_any_member_is_no_draw():
    box = T.FourierCompose([T.RandSNR(prob=0.0), T.RandCTF(prob=0.0)], voxel_size=VOXEL)
    v = particle()
    assert box.draw(np.random.RandomState(0)) is None
    assert box(v) is v


def test_partial_draws_leave_the_other_items_bit_for_bit():
    box = T.FourierCompose([T.RandSNR(prob=0.5), T.RandMissingWedge(prob=0.5)])
    state, batch = np.random.RandomState(0), torch.stack([particle()] * 12)
    draws = [box.draw(state) for _ in batch]
    result = box.apply(batch, draws)
    untouched = [i for i, d in enumerate(draws) if d is None]
    assert 0 < len(untouched) < 12
    for i in untouched:
        assert torch.equal(result[i], batch[i])


def test_two_of_one_class_have_names_of_their_own():
    box = T.FourierCompose([T.MTF(0.5), T.MTF(1.0), T.MTF(2.0)])
    assert list(box.draw(np.random.RandomState(0))) == ["MTF", "MTF_1", "MTF_2"]
    with pytest.raises(ValueError, match="a draw for MTF, MTF_1, MTF_2 was expected, got one for MTF"):
        box.apply(particle()[None], [{"MTF": {"scale": 1.0}}])


def test_voxel_size_from_the_image_and_without_one():
    v = particle()
    image = MetaTensor(v, affine=torch.diag(torch.tensor([VOXEL] * 3 + [1.0])))
    torch.testing.assert_close(T.CTF(3.0)(image).as_tensor(), T.CTF(3.0, voxel_size=VOXEL)(v))
    turned = torch.eye(4, dtype=torch.float64)
    turned[:3, :3] *= 0.99999997  # what a rotation leaves of 1 Å, which stands for unknown
    for unknown in (v, MetaTensor(v), MetaTensor(v, affine=turned)):
        for transform in (T.CTF(3.0), T.FourierCompose([T.CTF(3.0)]), T.MissingWedge(step_deg=3.0, thickness_a=300.0)):
            with pytest.raises(ValueError, match="needs the voxel size: pass voxel_size in Å"):
                transform(unknown)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.FourierCompose([T.RandPose()]), "takes Fourier filters and RandSNR, got RandPose"),
        (lambda: T.FourierCompose([T.RandSNR(), T.RandSNR()]), "at most one noise"),
        (lambda: T.FourierCompose([T.CTF(voxel_size=10.0)], voxel_size=12.0), "different voxel sizes"),
        (lambda: T.MTF(-1.0), r"scale must lie in 0\.\.inf"),
        (lambda: T.MTF(curve=[[0, 1]]), "an MTF curve must be"),
        (lambda: T.MTF(float("inf")), "scale must be finite, got inf"),
        (lambda: T.CTF(3.0, b_factor_a2=float("inf")), "b_factor_a2 must be finite, got inf"),
        (lambda: T.RandSNR((1, float("inf"))), "snr can be infinite only as a fixed value"),
        (lambda: T.RandMTF((-1, 1)), r"scale must lie in 0\.\.inf"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_measured_curves_and_zero_width():
    v = particle(2)
    torch.testing.assert_close(T.MTF(0.0)(v), v)
    half = T.MTF(curve=[[0, 0.5], [2, 0.5]])
    torch.testing.assert_close(half(v), v / 2)
    assert half.parameters == {}


def test_a_box_is_periodic_and_its_middle_is_safe():
    """What leaves by one face comes in by the opposite one; a larger box, cut, has none of it."""
    image_it = T.FourierCompose([T.CTF(4.0), T.MissingWedge((-60, 60))], voxel_size=VOXEL)

    def imaged(n, middle, radius):
        offset = (n - 40) // 2
        z, y, x = ((torch.arange(n) - offset - c) ** 2 for c in middle)
        ball = (z[:, None, None] + y[:, None] + x <= radius**2).float()
        return image_it(ball[None])[0, offset : offset + 40, offset : offset + 40, offset : offset + 40]

    alone, cut = (imaged(n, (20, 20, 20), 9) for n in (40, 120))
    inner = (slice(10, 30),) * 3
    assert float((alone - cut)[inner].std()) < 0.06 * float(cut[inner].std())
    alone, cut = (imaged(n, (2, 20, 20), 5) for n in (40, 120))  # at a face
    assert float(alone[32:].square().mean().sqrt()) > 0.3 * float(alone.std())
    assert float(cut[32:].square().mean().sqrt()) < 0.05 * float(cut.std())
