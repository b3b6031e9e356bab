"""Neighbours: packed by their voxels, as many, as far and as dense as asked; membranes beside, and one-sided crowds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import monai_cryo.transforms as T  # noqa: N812


def ball(radius, n=None):
    n = n or 2 * int(radius) + 1
    x = torch.arange(n) - n // 2
    return (x[:, None, None] ** 2 + x[:, None] ** 2 + x**2 <= radius**2).float()


def central(n=24):
    """A box with a particle in its middle."""
    v = torch.zeros(1, n, n, n)
    v[0, 9:15, 9:15, 9:15] = 1
    return v


def crowds(transform, box, count, mask=None):
    """Draw for as many equal items, and apply: draws, and what was added to each, (count, D, H, W)."""
    state = np.random.RandomState(0)
    draws = [transform.draw(state) for _ in range(count)]
    batch = torch.stack([box] * count)
    masks = {} if mask is None else {"mask": torch.stack([mask] * count)}
    return draws, (transform.apply(batch, draws, **masks) - batch)[:, 0]


@pytest.mark.parametrize("overlap", [0.0, 0.03, 0.2])
def test_at_most_the_share_asked_for_lies_on_the_particle(overlap):
    size = int(ball(4).sum())
    transform = T.RandNeighbours([ball(4)], 1, distance_vox=(0.0, 10.0), overlap=overlap)
    _, added = crowds(transform, central(), 60)
    met = ((added >= 0.5) & (central() > 0)).sum(dim=(1, 2, 3))
    assert int(met.max()) <= overlap * size
    assert overlap == 0 or int(met.max()) > 0.3 * overlap * size
    assert float((added.sum(dim=(1, 2, 3)) > 0).float().mean()) > 0.9


def test_they_keep_clear_of_each_other():
    """Two masks on one voxel would make at least 1 + 0.5 of solid balls of 1; their soft edges may meet."""
    highest = {}
    for overlap in (0.0, 1.0):
        transform = T.RandNeighbours([ball(4)], 8, distance_vox=(0.0, 12.0), overlap=overlap)
        _, added = crowds(transform, torch.zeros(1, 24, 24, 24), 20)
        highest[overlap] = float(added.max())
    assert highest[0.0] < 1.5
    assert highest[1.0] > 1.9


def test_a_mask_of_ones_own_is_what_must_not_overlap():
    """A template's mask counts, not its density: particles with tight masks come closer."""
    tight = SimpleNamespace(density=ball(4), mask=ball(1, 9) > 0)
    _, added = crowds(T.RandNeighbours([tight], 8, distance_vox=(0.0, 12.0), overlap=0.0), central(), 20)
    assert float(added.max()) > 1.9


def test_distances_lie_within_those_asked_for():
    transform = T.RandNeighbours([ball(2)], 1, distance_vox=(6.0, 8.0), overlap=1.0)
    _, added = crowds(transform, central(), 100)
    x = torch.arange(24, dtype=torch.float32) - 12
    grid = torch.stack(torch.meshgrid(x, x, x, indexing="ij"))
    centre = torch.einsum("bzyx,izyx->bi", added, grid) / added.sum(dim=(1, 2, 3))[:, None]
    r = centre.norm(dim=1)
    assert float(r.min()) >= 6 - 0.87  # rounded to whole voxels
    assert float(r.max()) <= 8 + 0.87
    assert float(r.max() - r.min()) > 1.5


def test_with_nothing_in_the_middle_they_come_anywhere():
    point = torch.ones(1, 1, 1)
    for distance in (None, (3.0, 4.5)):
        transform = T.RandNeighbours([point], 1, distance_vox=distance)
        _, added = crowds(transform, torch.zeros(1, 9, 9, 9), 600, mask=torch.zeros(1, 9, 9, 9))
        place = added.flatten(1).argmax(dim=1)
        r = torch.stack([place // 81 - 4, place // 9 % 9 - 4, place % 9 - 4]).float().norm(dim=0)
        if distance is None:
            assert float(r.max()) > 6  # a corner, 6.9 away
        else:  # the share of a ball within 2.6 voxels, of one of 4.5
            assert float((r <= 2.6).float().mean()) == pytest.approx((2.6 / 4.5) ** 3, abs=0.06)
        assert float(r.min()) < 2


def test_with_nothing_in_the_middle_they_keep_the_clearance():
    empty = torch.zeros(1, 24, 24, 24)
    transform = T.RandNeighbours([ball(0, 3)], 6, distance_vox=(3.0, 11.0), clearance_vox=7)
    _, added = crowds(transform, empty, 60)
    x = torch.arange(24, dtype=torch.float32) - 12
    r = (x[:, None, None] ** 2 + x[:, None] ** 2 + x**2).sqrt()
    nearest = torch.where(added > 0.5, r, torch.inf).amin(dim=(1, 2, 3))
    assert 7 - 0.87 <= float(nearest.min()) < 8  # rounded to whole voxels
    _, beside = crowds(transform, torch.nn.functional.pad(torch.ones(1, 1, 1, 1), [12, 11] * 3), 60)
    assert float(torch.where(beside > 0.5, r, torch.inf).min()) < 5  # around a particle its own distance holds

    only = T.RandNeighbours([ball(2)], 0, membrane_prob=1.0, clearance_vox=7, voxel_size=13.68)
    _, sheets = crowds(only, torch.zeros(1, 40, 40, 40), 40)
    assert float((sheets.amax(dim=(1, 2, 3)) > 0).float().mean()) > 0.9
    assert not bool(sheets[:, 19:22, 19:22, 19:22].gt(0.3).any())
    near = T.RandNeighbours([ball(2)], 0, membrane_prob=1.0, voxel_size=13.68)
    assert bool(crowds(near, torch.zeros(1, 40, 40, 40), 40)[1][:, 19:22, 19:22, 19:22].gt(0.3).any())


def test_a_box_without_a_particle_is_left_empty_as_often_as_asked():
    """One with a particle never is, and nothing else that is drawn changes."""
    often, never = (T.RandNeighbours([ball(2)], 3, empty_prob=p, prob=1.0) for p in (0.4, 0.0))
    _, added = crowds(often, torch.zeros(1, 24, 24, 24), 300)
    empty = float((added == 0).flatten(1).all(1).float().mean())
    assert empty == pytest.approx(0.4, abs=0.09)  # three standard deviations
    (draws, crowded), (before, _) = crowds(often, central(), 30), crowds(never, central(), 1)
    assert bool((crowded.flatten(1).amax(1) > 0.5).all())
    assert {**before[0], "empty": draws[0]["empty"]} == draws[0]
    with pytest.raises(ValueError, match="empty_prob"):
        T.RandNeighbours([ball(2)], empty_prob=1.5)


def test_count_is_drawn_evenly_and_mass_adds_up():
    transform = T.RandNeighbours([ball(2)], (0, 3), amplitude=(1.0, 3.0), distance_vox=(4.0, 11.0))
    draws, added = crowds(transform, torch.zeros(1, 30, 30, 30), 300)
    counts = np.array([len(d["template"]) for d in draws])
    assert np.bincount(counts, minlength=4).min() > 50
    expected = [float(ball(2).sum()) * sum(d["amplitude"]) for d in draws]
    np.testing.assert_allclose(added.sum(dim=(1, 2, 3)), expected, rtol=0.06, atol=1e-4)
    amplitudes = [a for d in draws for a in d["amplitude"]]
    assert (min(amplitudes), max(amplitudes)) == pytest.approx((1, 3), abs=0.05)


def test_groups_of_templates_have_weights():
    groups = [([ball(1), ball(2)], 1.0), ([ball(3)], 3), ([], 5.0)]
    transform = T.RandNeighbours(groups, 4)
    state = np.random.RandomState(0)
    counts = np.bincount([t for _ in range(500) for t in transform.draw(state)["template"]], minlength=3) / 2000
    np.testing.assert_allclose(counts, [1 / 8, 1 / 8, 3 / 4], atol=0.04)
    even, state = T.RandNeighbours([ball(1), ball(2), ball(3)], 4), np.random.RandomState(0)
    counts = np.bincount([t for _ in range(500) for t in even.draw(state)["template"]])
    np.testing.assert_allclose(counts / 2000, 1 / 3, atol=0.04)


def test_orientations_are_drawn_for_each():
    rod = torch.zeros(9, 9, 9)
    rod[4, 4] = 1
    draws, added = crowds(T.RandNeighbours([rod], 1, distance_vox=(0.0, 3.0)), torch.zeros(1, 24, 24, 24), 30)
    turns = np.array([d["rotation"][0] for d in draws])
    np.testing.assert_allclose(turns @ turns.swapaxes(1, 2), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9)
    extent = torch.stack([added.amax(dim=d).gt(0.3).flatten(1).sum(dim=1) for d in (1, 2, 3)])
    assert extent.float().std(dim=1).min() > 1


def test_the_mask_says_where_the_particle_is_and_stays():
    mask = torch.zeros(1, 24, 24, 24)
    mask[:, :, 8:16, 8:16] = 1  # longer than the density
    transform = T.RandNeighboursd("image", templates=[ball(3)], count=6, overlap=0.0, mask_key="mask")
    draws = [transform.draw(np.random.RandomState(i)) for i in range(20)]
    data = {"image": torch.stack([central()] * 20), "mask": torch.stack([mask] * 20)}
    out = transform.apply(data, draws)
    assert torch.equal(out["mask"], data["mask"])
    added = out["image"] - data["image"]
    assert not bool(((added >= 0.5) & (data["mask"] > 0)).any())
    assert bool((added >= 0.5).any())
    with pytest.raises(ValueError, match=r"mask shape \(1, 24, 24, 20\) must equal image shape \(1, 24, 24, 24\)"):
        T.RandNeighbours([ball(3)])(central(), mask[..., :20])


def test_all_channels_get_the_same_neighbours():
    image = torch.cat([central(), 2 * central()])
    added = T.RandNeighbours([ball(3)], 4).set_random_state(0)(image) - image
    torch.testing.assert_close(added[0], added[1], atol=1e-6, rtol=0)
    assert float(added.max()) > 0.5


def test_no_room_leaves_the_image_alone():
    crowded = torch.ones(1, 12, 12, 12)
    full = T.RandNeighbours([ball(3)], 4, overlap=0.0).set_random_state(0)
    torch.testing.assert_close(full(crowded), crowded, rtol=0, atol=0)
    torch.testing.assert_close(T.RandNeighbours([ball(3)], 0)(central()), central(), rtol=0, atol=0)


class TestMembraneBeside:
    options = staticmethod(lambda **more: {"membrane_prob": 1.0, "voxel_size": 10.0, "count": 0} | more)

    def test_it_clears_the_particle_and_has_the_amplitude_drawn(self):
        draws, added = crowds(T.RandNeighbours([ball(2)], **self.options()), central(), 30)
        there = added.amax(dim=(1, 2, 3)) > 0
        assert float(there.float().mean()) > 0.8
        for drawn, layer in zip(draws, added, strict=True):
            if not bool(layer.any()):
                continue
            inside = layer > 0.15 * layer.max()
            assert int((inside & (central()[0] > 0)).sum()) <= 0.03 * int(inside.sum())
            assert float(layer[inside].mean()) == pytest.approx(drawn["membrane"]["amplitude"], rel=0.35)
            # a sheet: it is thin along its normal and reaches across the box
            assert int(inside.sum()) > 100

    def test_neighbours_clear_it_too(self):
        draws, layer = crowds(T.RandNeighbours([ball(4)], **self.options()), central(), 15)
        both = T.RandNeighbours([ball(4)], **self.options(count=6, overlap=0.0, amplitude=10.0))
        full = both.apply(
            torch.stack([central()] * 15),
            [both.draw(np.random.RandomState(i)) | {"membrane": d["membrane"]} for i, d in enumerate(draws)],
        )
        particles = full[:, 0] - central() - layer
        thick = layer > 0.8 * layer.amax(dim=(1, 2, 3), keepdim=True)
        assert not bool(((particles > 5) & thick & (layer > 0)).any())
        assert bool((particles > 5).any())

    def test_how_often(self):
        transform = T.RandNeighbours([ball(2)], **self.options(membrane_prob=0.3))
        state = np.random.RandomState(0)
        share = np.mean([transform.draw(state)["membrane"] is not None for _ in range(500)])
        assert share == pytest.approx(0.3, abs=0.06)

    def test_a_particle_that_fills_the_box_leaves_it_outside(self):
        _, added = crowds(T.RandNeighbours([ball(2)], **self.options()), torch.ones(1, 16, 16, 16), 10)
        assert bool(added.isfinite().all())
        assert float(added.abs().max()) < 1e-3

    def test_it_needs_the_voxel_size(self):
        transform = T.RandNeighbours([ball(2)], **self.options(voxel_size=None))
        with pytest.raises(ValueError, match="RandNeighbours needs the voxel size for membranes"):
            transform(central())


class TestOneSided:
    def slab(self):
        v = torch.zeros(1, 20, 20, 20)
        v[:, 8:11] = 1
        return v

    @pytest.mark.parametrize("which", [0, 1])
    def test_one_side_of_a_membrane_is_empty_and_the_other_raised(self, which):
        transform = T.RandNeighbours([ball(2)], 8, one_sided_prob=1.0, side_density=0.5)
        draws, _ = crowds(transform, self.slab(), 6)
        for drawn in draws:
            drawn["side"]["which"] = which
        box = torch.stack([self.slab()] * 6)
        added = (transform.apply(box, draws) - box)[:, 0]
        below, above = added[:, :8], added[:, 11:]
        empty, full = (below, above) if not bool(below.any()) else (above, below)
        assert not bool(empty.any())
        assert float(full.min()) >= 0.5
        assert float(full.max()) > 1  # the neighbours of that side stay
        other = [d | {"side": d["side"] | {"which": 1 - which}} for d in draws]
        swapped = (transform.apply(box, other) - box)[:, 0]
        assert bool((swapped[:, :8] if empty is below else swapped[:, 11:]).any())

    def test_beyond_a_membrane_beside_a_particle_it_is_empty(self):
        options = {"membrane_prob": 1.0, "one_sided_prob": 1.0, "side_density": 0.5, "voxel_size": 13.68}
        transform = T.RandNeighbours([ball(2)], 8, **options)
        box = torch.zeros(8, 1, 32, 32, 32)
        box[:, :, 15:18, 15:18, 15:18] = 1
        for i, drawn in enumerate(transform.draw(np.random.RandomState(i)) for i in range(8)):
            drawn["membrane"] |= {"normal": [1.0, 0.0, 0.0], "distance": 0.3, "curvature_per_a": 0.0}
            added = (transform.apply(box[i : i + 1], [drawn]) - box[i : i + 1])[0, 0]
            plane = int(added.mean(dim=(1, 2)).argmax())
            assert plane > 18
            assert float(added[: plane - 5].min()) >= 0.5  # the particle's side is raised, whichever was drawn
            assert not bool(added[plane + 6 :].any())

    def test_without_a_particle_either_side_of_a_membrane_may_be_empty(self):
        options = {"membrane_prob": 1.0, "one_sided_prob": 1.0, "side_density": 0.5, "voxel_size": 13.68}
        transform = T.RandNeighbours([ball(2)], 0, clearance_vox=6, **options)
        raised = []
        for i in range(20):
            drawn = transform.draw(np.random.RandomState(i))
            drawn["membrane"] |= {"normal": [1.0, 0.0, 0.0], "curvature_per_a": 0.0}
            added = transform.apply(torch.zeros(1, 1, 32, 32, 32), [drawn])[0, 0]
            raised.append(float(added[16, 16, 16]) >= 0.5)
            assert raised[-1] != (float(added[-1, 16, 16]) >= 0.5)
        assert 5 <= sum(raised) <= 15

    def test_a_compact_particle_divides_nothing(self):
        transform = T.RandNeighbours([ball(2)], 4, one_sided_prob=1.0, side_density=0.5)
        draws, added = crowds(transform, central(), 5)
        plain = [d | {"side": None} for d in draws]
        box = torch.stack([central()] * 5)
        torch.testing.assert_close(added, (transform.apply(box, plain) - box)[:, 0], rtol=0, atol=0)

    def test_how_often_and_how_dense(self):
        transform, state = T.RandNeighbours([ball(2)], one_sided_prob=0.8), np.random.RandomState(0)
        sides = [transform.draw(state)["side"] for _ in range(500)]
        drawn = [s for s in sides if s is not None]
        assert len(drawn) / 500 == pytest.approx(0.8, abs=0.06)
        assert np.mean([s["which"] for s in drawn]) == pytest.approx(0.5, abs=0.1)
        assert (min(s["density"] for s in drawn), max(s["density"] for s in drawn)) == pytest.approx((0, 0.8), abs=0.02)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"templates": []}, "templates must hold at least one density"),
        ({"templates": [torch.zeros(3, 3, 3)]}, r"templates\[0\] must be a finite \(d, h, w\) that is not zero"),
        ({"templates": [ball(1), ball(1)[0]]}, r"templates\[1\] must be .* got \(3, 3\)"),
        ({"templates": [([ball(1)], -1.0)]}, "weights of templates must be >= 0, got -1"),
        ({"templates": [([ball(1)], 0.0)]}, "templates must hold at least one density"),
        ({"count": (1, 2.5)}, "count must be a whole number"),
        ({"count": -1}, r"count must lie in 0\.\.inf"),
        ({"distance_vox": (-1.0, 3.0)}, "distance_vox must lie in"),
        (
            {"distance_vox": (2.0, 6.0), "clearance_vox": 20.0},
            "clearance_vox must be no more than the largest",
        ),
        (
            {"templates": [SimpleNamespace(density=ball(1), mask=ball(1) > 0, voxel_size=5.0)], "voxel_size": 13.68},
            r"templates\[0\] has voxels of 5 Å, expected \(13.68",
        ),
        ({"overlap": 1.5}, r"overlap must lie in 0\.\.1"),
        ({"amplitude": (0, 1)}, "amplitude must be > 0"),
        ({"membrane_prob": 2.0}, r"membrane_prob must lie in 0\.\.1"),
        ({"side_density": -0.1}, "side_density must lie in"),
    ],
)
def test_refusals(bad, message):
    with pytest.raises(ValueError, match=message):
        T.RandNeighbours(**{"templates": [ball(1)]} | bad)


def test_a_crowd_is_mostly_of_one_kind_where_asked():
    """The largest share of a kind: near 1 in concentrated crowds; of 12 drawn from 4 alike, well below."""
    largest = {}
    for concentration in (0.4, 400.0, None):
        transform = T.RandNeighbours([ball(1)] * 4, 12, concentration=concentration)
        state = np.random.RandomState(0)
        crowds_ = [np.bincount(transform.draw(state)["template"], minlength=4) for _ in range(300)]
        largest[concentration] = np.mean([c.max() / c.sum() for c in crowds_])
        np.testing.assert_allclose(np.mean(crowds_, axis=0), 3, atol=0.7)  # all alike in the mean
    assert largest[0.4] > 0.85
    assert largest[400.0] == pytest.approx(largest[None], abs=0.03)
    assert largest[None] < 0.5


def test_how_mixed_a_crowd_is_does_not_hang_on_how_many_kinds_there_are():
    """A group of many kinds at the same weight leaves another group's share of crowds as it was."""
    shares = []
    for others in (1, 20):
        transform = T.RandNeighbours([([ball(1)], 1.0), ([ball(2)] * others, 1.0)], 14, concentration=3.0)
        state = np.random.RandomState(0)
        shares.append([np.mean(np.array(transform.draw(state)["template"]) == 0) for _ in range(600)])
    np.testing.assert_allclose(
        np.quantile(shares[0], [0.25, 0.5, 0.75]), np.quantile(shares[1], [0.25, 0.5, 0.75]), atol=0.08
    )


def test_weights_hold_in_concentrated_crowds():
    groups = [([ball(1)], 1.0), ([ball(2)], 3.0), ([ball(3)], 0.0)]
    transform = T.RandNeighbours(groups, 4, concentration=1.5)
    state = np.random.RandomState(0)
    kinds = np.concatenate([transform.draw(state)["template"] for _ in range(1000)])
    np.testing.assert_allclose(np.bincount(kinds, minlength=3) / len(kinds), [0.25, 0.75, 0], atol=0.05)


def test_a_concentration_too_small_is_refused():
    with pytest.raises(ValueError, match="concentration must lie in"):
        T.RandNeighbours([ball(1)], 1, concentration=0)


def test_what_stands_there_without_a_mask_takes_its_room():
    """A stranger in a background's box: neighbours keep off it, though the box has no mask and they no clearance."""
    stranger = torch.zeros(1, 1, 24, 24, 24)
    stranger[0, 0] = ball(5, 24)
    transform = T.RandNeighbours([ball(3, 9)], 8, distance_vox=(0.0, 12.0), overlap=0.0)
    state = np.random.RandomState(0)
    for _ in range(5):
        crowd = transform.apply(stranger, [transform.draw(state)], mask=torch.zeros_like(stranger)) - stranger
        assert bool(crowd.any())
        assert float(crowd[stranger > 0].abs().max()) < 0.5  # a rotated mask's rim at most


def test_a_stranger_stands_in_the_crowd_and_clear_of_the_membrane():
    stranger = torch.zeros(1, 1, 32, 32, 32)
    stranger[0, 0] = ball(5, 32)
    options = {"membrane_prob": 1.0, "one_sided_prob": 1.0, "side_density": 1.0, "voxel_size": 13.68}
    transform = T.RandNeighbours([ball(1, 5)], 0, **options)
    state = np.random.RandomState(0)
    on_full_side = 0
    for _ in range(20):
        drawn = transform.draw(state)
        crowd = transform.apply(stranger, [drawn], mask=torch.zeros_like(stranger)) - stranger
        middle = float(crowd[0, 0, 14:19, 14:19, 14:19].mean())
        assert middle == pytest.approx(1, abs=1e-3) or not bool((crowd == 1).any())  # no membrane divides the box
        on_full_side += middle == pytest.approx(1, abs=1e-3)
    assert on_full_side > 10
