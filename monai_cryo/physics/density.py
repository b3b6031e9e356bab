"""Atoms to density: a trilinear splat on the voxel grid, then the Gaussian of a stated resolution convention."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from monai_cryo.physics.fourier import VoxelSize, voxel_size_zyx

__all__ = ["SIGMA_PER_RESOLUTION", "SPLAT_VARIANCE", "atoms_to_density"]

SIGMA_PER_RESOLUTION = {"pdb2vol": 0.5 / math.sqrt(3.0), "molmap": 1.0 / (math.pi * math.sqrt(2.0))}
"""Standard deviation per axis for a resolution of 1: Situs (0.289), ChimeraX and EMAN2 (0.225)."""

SPLAT_VARIANCE = 1.0 / 6.0
"""Variance per axis, in voxels squared, that the trilinear splat adds: the mean of f (1 - f) over a voxel."""


def atoms_to_density(
    positions_a: Tensor,
    weights: Tensor,
    shape: Sequence[int],
    voxel_size: VoxelSize,
    *,
    resolution_a: float | None = None,
    convention: str = "pdb2vol",
    lattice_correction: bool = False,
) -> Tensor:
    r"""Density of weighted atoms on a voxel grid, whose sum is the sum of the weights.

    Every atom is shared among its eight nearest voxels (trilinear). With a resolution :math:`r` the grid is then
    convolved with a Gaussian of :math:`\sigma = r / (2\sqrt{3})` per axis (`convention` "pdb2vol", Situs) or
    :math:`\sigma = r / (\pi\sqrt{2})` ("molmap", ChimeraX and EMAN2). The Gaussian is sampled on the grid so that its
    variance there is exactly :math:`\sigma^2`, however narrow; it never turns negative and does not wrap round: what
    it carries over the edge leaves the box.

    Parameters
    ----------
    positions_a
        (..., N, 3) in Å as (z, y, x), relative to the centre of voxel ``shape // 2``.
    weights
        (..., N), broadcast with `positions_a`; 0 pads a batch of unequal molecules.
    shape
        Box (D, H, W) in voxels.
    voxel_size
        Å, a scalar or (z, y, x).
    resolution_a
        Å; None applies no Gaussian.
    convention
        What resolution means: "pdb2vol" or "molmap".
    lattice_correction
        Take the variance that the splat adds, :math:`v^2/6` for voxel size :math:`v`, off that of the Gaussian, as
        pdb2vol does. No Gaussian remains where it is the larger one: for "pdb2vol" up to a resolution of
        :math:`\sqrt{2}\,v`.

    Returns
    -------
    Tensor
        (..., D, H, W) in the dtype and on the device of `positions_a`; differentiable in positions and weights.

    Raises
    ------
    ValueError
        If an argument is unusable or an atom of non-zero weight lies outside the box; the message names it.

    References
    ----------
    Wriggers, Conventions and workflows for using Situs, Acta Cryst. D68 (2012) 344-351.
    Pettersen et al., UCSF ChimeraX, Protein Sci. 30 (2021) 70-82 (command molmap).
    """
    if convention not in SIGMA_PER_RESOLUTION:
        raise ValueError(f"convention must be one of {', '.join(SIGMA_PER_RESOLUTION)}, got {convention!r}")
    if resolution_a is not None and not 0 < resolution_a < math.inf:
        raise ValueError(f"resolution_a must be > 0 Å or None, got {resolution_a}")
    box = tuple(int(n) for n in shape)
    if len(box) != 3 or min(box) < 1:
        raise ValueError(f"shape must be three positive numbers (D, H, W), got {tuple(shape)}")
    spacing = voxel_size_zyx(voxel_size)
    if positions_a.ndim < 2 or positions_a.shape[-1] != 3 or not positions_a.is_floating_point():
        found = f"{tuple(positions_a.shape)} {positions_a.dtype}"
        raise ValueError(f"positions_a must be floating point of shape (..., N, 3), got {found}")

    density = _splat(positions_a, weights, box, spacing)
    if resolution_a is None:
        return density
    variance_a2 = (SIGMA_PER_RESOLUTION[convention] * resolution_a) ** 2
    for axis, (n, v) in enumerate(zip(box, spacing, strict=True)):
        variance = variance_a2 / v**2 - (SPLAT_VARIANCE if lattice_correction else 0.0)
        if variance > 0:
            blur = _gaussian_matrix(n, variance).to(density)
            density = torch.movedim(torch.movedim(density, axis - 3, -1) @ blur, -1, axis - 3)
    return density


def _splat(positions_a: Tensor, weights: Tensor, box: tuple[int, ...], spacing: tuple[float, ...]) -> Tensor:
    size = positions_a.new_tensor(box)
    grid = positions_a / positions_a.new_tensor(spacing) + size.div(2, rounding_mode="floor")
    batch = torch.broadcast_shapes(grid.shape[:-1], weights.shape)
    grid, weights = grid.expand(*batch, 3), weights.to(grid).expand(batch)
    inside = ((grid >= 0) & (grid <= size - 1)).all(-1)
    outside = ~inside & (weights != 0)
    if bool(outside.any()):
        raise ValueError(
            _outside_message(positions_a.expand(*batch, 3)[weights != 0], int(outside.sum()), box, spacing)
        )

    # a pad may lie anywhere: its weight is 0, its place must only be a valid one
    grid = torch.where(inside[..., None], grid, 0)
    corner = grid.detach().floor()
    high = grid - corner
    low = 1.0 - high
    index = corner.long()
    item = torch.arange(math.prod(batch[:-1]), device=grid.device).reshape(*batch[:-1], 1) * math.prod(box)
    density = grid.new_zeros(math.prod(batch[:-1]) * math.prod(box))
    for offsets in itertools.product((0, 1), repeat=3):
        flat, share = item, weights
        stride = math.prod(box)
        for axis, offset in enumerate(offsets):
            stride //= box[axis]
            # an atom on the last voxel's centre has share 0 beyond it
            flat = flat + (index[..., axis] + offset).clamp(max=box[axis] - 1) * stride
            share = share * (high if offset else low)[..., axis]
        density.index_add_(0, flat.reshape(-1), share.reshape(-1))
    return density.reshape(*batch[:-1], *box)


def _outside_message(atoms_a: Tensor, count: int, box: tuple[int, ...], spacing: tuple[float, ...]) -> str:
    if not bool(torch.isfinite(atoms_a).all()):
        return "positions_a must be finite, got NaN or infinity"
    needed = []
    for axis, step in enumerate(spacing):
        below = math.ceil(-float(atoms_a[:, axis].min()) / step)
        above = math.ceil(float(atoms_a[:, axis].max()) / step)
        needed.append(max(1, min(2 * max(below, above) + 1, 2 * max(below, above + 1))))
    return f"{count} of {len(atoms_a)} atoms lie outside the box of {box} voxels, expected at least {tuple(needed)}"


def _gaussian_matrix(n: int, variance: float) -> Tensor:
    """Return the (n, n) convolution matrix of the sampled Gaussian with this variance, in voxels squared."""
    distance = torch.arange(max(n, math.ceil(12 * math.sqrt(variance)) + 4), dtype=torch.float64)

    def sampled(sigma: float) -> tuple[Tensor, float]:
        kernel = torch.exp(-0.5 * (distance / sigma) ** 2)
        kernel = kernel / (2 * kernel.sum() - 1)
        return kernel, 2 * float((kernel * distance**2).sum())

    # a narrow Gaussian loses variance when sampled (all of it below 0.2 voxels): widen it until it has the right one
    low, high = math.sqrt(variance), math.sqrt(variance) + 0.5
    for _ in range(40):
        sigma = 0.5 * (low + high)
        low, high = (sigma, high) if sampled(sigma)[1] < variance else (low, sigma)
    kernel = sampled(high)[0]
    index = torch.arange(n)
    return kernel[(index[:, None] - index).abs()]
