"""Densities of atoms against maps of the same complexes computed or measured by others, after a rigid alignment."""

from __future__ import annotations

import warnings

import pytest
import torch

from monai_cryo.physics.pose import move, rotation_from_uniform
from monai_cryo.templates.maps import density_from_map
from monai_cryo.templates.structures import density_from_structure

# structure, options, map, lowest correlation: 0.95 where the map is of the same entry, 0.9 where of the same complex
PAIRS = {
    "70S": ("4v5d.cif.gz", {"chains": ["A*", "B*"]}, "polnet10A_4v4r.mrc.gz", 0.9),
    "CCT": ("4v8r_h36.pdb.gz", {"chains": "A*"}, "derived_TRiC_single_from_polnet_4v94_10A.mrc.gz", 0.9),
    "20S": ("3j9i.pdb.gz", {}, "polnet10A_3j9i.mrc.gz", 0.95),
    "GroEL": ("1oel.pdb.gz", {"assembly": 1}, "groel_11.5Ares_2.7A_imp.mrc.gz", 0.9),
}
SHAPES = {10.0: (44, 44, 44), 13.68: (32, 32, 32)}


def correlations(moving, fixed):
    """Pearson correlation of each (B, D, H, W) with one (D, H, W), the highest over all shifts."""
    a = torch.fft.rfftn(moving - moving.mean((-3, -2, -1), keepdim=True), dim=(-3, -2, -1))
    b = torch.fft.rfftn(fixed - fixed.mean())
    products = torch.fft.irfftn(a.conj() * b, s=fixed.shape)
    scale = moving.flatten(1).std(1, correction=0) * fixed.std(correction=0) * fixed.numel()
    return products.flatten(1).amax(1) / scale


def turned(volume, rotations):
    batch = volume[None, None].expand(len(rotations), 1, *volume.shape)
    return move(batch, rotations, torch.zeros(len(rotations), 3))[:, 0]


def align(volume, fixed, coarse=2000):
    """Best rotation of `volume` onto `fixed`: all of SO(3) on half the grid, then shrinking steps on the whole."""
    generator = torch.Generator().manual_seed(0)
    small, small_fixed = (torch.nn.functional.avg_pool3d(v[None], 2)[0] for v in (volume, fixed))
    candidates = torch.cat([torch.eye(3)[None], rotation_from_uniform(torch.rand(coarse, 3, generator=generator))])
    scores = torch.cat([correlations(turned(small, part), small_fixed) for part in candidates.split(256)])
    best = candidates[scores.topk(4).indices]
    for width in (0.25, 0.12, 0.06, 0.03):
        x, y, z = (width * torch.randn(3, 16, generator=generator)).unbind()
        o = torch.zeros(16)
        steps = torch.linalg.matrix_exp(torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).reshape(-1, 3, 3))
        candidates = torch.cat([best, (steps[:, None] @ best).flatten(0, 1)])
        scores = correlations(turned(volume, candidates), fixed)
        best = candidates[scores.topk(2).indices]
    return best[0], float(scores.max())


def pair(shared_data, name, voxel_size):
    structure, options, map_name, _ = PAIRS[name]
    shape = SHAPES[voxel_size]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the map of one TRiC keeps crumbs of the other
        fixed, _ = density_from_map(shared_data / "maps" / map_name, shape, voxel_size, threshold="fraction:0.02")
    path = shared_data / "structures" / structure
    return density_from_structure(path, shape, voxel_size, resolution_a=voxel_size, **options), fixed


@pytest.mark.parametrize("name", PAIRS)
def test_density_agrees_with_the_map_of_the_same_complex(shared_data, name):
    at_least = PAIRS[name][3]
    density, fixed = pair(shared_data, name, 13.68)
    rotation, correlation = align(density, fixed)
    print(f"{name}: {correlation:.3f} at 13.68 Å")
    assert correlation > at_least
    density, fixed = pair(shared_data, name, 10.0)
    correlation = float(correlations(turned(density, rotation[None]), fixed))
    print(f"{name}: {correlation:.3f} at 10 Å")
    assert correlation > at_least


def test_what_is_something_else_agrees_less(shared_data):
    """Neither the ribosome's mirror image nor another barrel of the same size fits as well: the measure can fail."""
    density, fixed = pair(shared_data, "70S", 13.68)
    mirrored = align(density.flip(-1).roll(1, -1), fixed)[1]
    other = align(pair(shared_data, "20S", 13.68)[0], pair(shared_data, "GroEL", 13.68)[1])[1]
    print(f"mirrored 70S: {mirrored:.3f}; 20S on GroEL: {other:.3f}")
    assert max(mirrored, other) < 0.93
