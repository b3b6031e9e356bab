"""Volumes on another grid: centred crop and pad, and resampling that neither aliases nor moves the centre.

The centre of a grid is voxel ``N // 2``; every function here puts it on the centre of the new one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from monai_cryo.physics.fourier import VoxelSize, spatial_shape, voxel_size_zyx

__all__ = ["covered_shape", "crop_or_pad", "evaluate", "low_pass", "resample", "resample_nearest", "same_voxel_size"]

Outside = Literal["zero", "mirror"]
Triple = tuple[float, float, float]


def crop_or_pad(
    volume: Tensor, shape: Sequence[int], centre: Sequence[int] | None = None, *, fill: float = 0.0
) -> Tensor:
    """Cut or pad the last three axes to ``shape``, centre on centre.

    Parameters
    ----------
    volume
        (..., D, H, W), of any dtype.
    shape
        Sizes wanted; for a result of (..., *shape).
    centre
        Voxel (z, y, x) of the volume that goes to ``shape // 2``; None: its own centre.
    fill
        Value of the voxels added.
    """
    target = spatial_shape(shape)
    pad: list[int] = []
    for axis in (2, 1, 0):
        n, m = volume.shape[axis - 3], target[axis]
        before = m // 2 - (n // 2 if centre is None else int(centre[axis]))
        pad += [before, m - n - before]
    return torch.nn.functional.pad(volume, pad, value=fill) if any(pad) else volume


def same_voxel_size(a: VoxelSize, b: VoxelSize) -> bool:
    """Whether two voxel sizes are one: equal to a thousandth, because headers round."""
    return all(math.isclose(x, y, rel_tol=1e-3) for x, y in zip(voxel_size_zyx(a), voxel_size_zyx(b), strict=True))


def covered_shape(shape: Sequence[int], voxel_size: VoxelSize, new_voxel_size: VoxelSize) -> tuple[int, int, int]:
    """Sizes of the largest new grid whose voxel centres all lie within the volume, its outer voxels whole."""
    sizes = []
    for n, v, w in zip(
        spatial_shape(shape), voxel_size_zyx(voxel_size), voxel_size_zyx(new_voxel_size, "new_voxel_size"), strict=True
    ):
        below, above = (int((k + 0.5) * v / w + 1e-6) for k in (n // 2, n - 1 - n // 2))
        half = min(below, above + 1)
        sizes.append(half + min(above, half) + 1)
    return sizes[0], sizes[1], sizes[2]


def resample(
    volume: Tensor,
    voxel_size: VoxelSize,
    new_voxel_size: VoxelSize,
    shape: Sequence[int] | None = None,
    *,
    resolution_a: float | None = None,
    outside: Outside = "mirror",
) -> Tensor:
    """Bring volumes to another voxel size by Fourier low-pass and trigonometric interpolation.

    The low-pass is spherical, a raised cosine from 3/4 of the cut-off to the cut-off: the Nyquist frequency of the
    coarsest axis of the two grids. What it leaves is evaluated at the new positions exactly. Where the voxel sizes
    agree to a thousandth, the volume is only cut or padded.

    Parameters
    ----------
    volume
        (..., D, H, W), floating point.
    voxel_size, new_voxel_size
        Å; a scalar or (z, y, x).
    shape
        Spatial shape of the result; None: what the volume covers (:func:`covered_shape`). Beyond it the result is 0.
    resolution_a
        Å; low-pass cut-off when coarser than the Nyquist limit.
    outside
        What is thought to surround the volume: its ``"mirror"`` image, or ``"zero"``.

    Returns
    -------
    Tensor
        (..., *shape).
    """
    old, new = voxel_size_zyx(voxel_size), voxel_size_zyx(new_voxel_size, "new_voxel_size")
    covered = covered_shape(volume.shape, old, new)
    if resolution_a is None and same_voxel_size(old, new):
        return crop_or_pad(volume, shape or volume.shape[-3:])
    cut_off_a = max(2.0 * max(*old, *new), resolution_a or 0.0)
    grid, spacing, middle = low_pass(volume, old, cut_off_a, outside=outside)
    step = [w / s for w, s in zip(new, spacing, strict=True)]
    result = evaluate(grid, middle, step, covered)
    return result if shape is None else crop_or_pad(result, shape)


def resample_nearest(
    volume: Tensor,
    voxel_size: VoxelSize,
    new_voxel_size: VoxelSize,
    shape: Sequence[int],
) -> Tensor:
    """Bring labels or masks to another voxel size: each new voxel takes the value of the nearest, outside it is 0.

    Parameters
    ----------
    volume
        (..., D, H, W), of any dtype.
    voxel_size, new_voxel_size
        Å; a scalar or (z, y, x).
    shape
        Spatial shape of the result.

    Returns
    -------
    Tensor
        (..., *shape), with no value that was not there.
    """
    steps = zip(voxel_size_zyx(voxel_size), voxel_size_zyx(new_voxel_size, "new_voxel_size"), strict=True)
    for axis, (m, (v, w)) in enumerate(zip(spatial_shape(shape), steps, strict=True)):
        n = volume.shape[axis - 3]
        offset = torch.arange(m, dtype=torch.float64, device=volume.device) - m // 2
        index = (offset * (w / v) + 0.5).floor().long() + n // 2
        inside = ((index >= 0) & (index < n)).reshape([-1 if a == axis else 1 for a in range(3)])
        taken = volume.index_select(axis - 3, index.clamp(0, n - 1))
        volume = torch.where(inside, taken, torch.zeros((), dtype=volume.dtype, device=volume.device))
    return volume


def low_pass(
    volume: Tensor, voxel_size: VoxelSize, cut_off_a: float, *, outside: Outside = "zero"
) -> tuple[Tensor, Triple, Triple]:
    """Remove what is finer than the cut-off, on a grid as coarse as that allows.

    The volume is surrounded by at least the cut-off on every side, so that what rings at one face does not reappear
    at the opposite one.

    Parameters
    ----------
    volume
        (..., D, H, W), floating point.
    voxel_size
        Å; a scalar or (z, y, x).
    cut_off_a
        Å; gone from here on, untouched up to 3/4 of that frequency.
    outside
        What surrounds the volume: ``"zero"`` or its ``"mirror"`` image.

    Returns
    -------
    grid
        (..., d, h, w), odd along every axis, for :func:`evaluate`.
    spacing
        Å as (z, y, x), of the grid.
    middle
        Where the volume's voxel ``N // 2`` lies in it, in voxels of the grid.

    Raises
    ------
    ValueError
        If the cut-off is finer than the grid can hold.
    """
    if outside not in get_args(Outside):
        raise ValueError(f"outside must be one of {', '.join(get_args(Outside))}, got {outside!r}")
    spacing_a = voxel_size_zyx(voxel_size)
    if not 2.0 * max(spacing_a) * (1 - 1e-6) <= cut_off_a < math.inf:
        raise ValueError(f"cut_off_a must be at least two voxels of {max(spacing_a):g} Å, got {cut_off_a}")
    shape = spatial_shape(volume.shape)
    pads = [math.ceil(cut_off_a / v) for v in spacing_a]
    sizes = [next_fast_len(n + 2 * p, real=True) for n, p in zip(shape, pads, strict=True)]
    spectrum = torch.fft.rfftn(_surround(volume, pads, sizes, outside), dim=(-3, -2, -1))
    highest = [min(math.ceil(s * v / cut_off_a), (s - 1) // 2) for s, v in zip(sizes, spacing_a, strict=True)]
    for axis, h in enumerate(highest[:2]):
        kept = torch.cat([torch.arange(h + 1), torch.arange(sizes[axis] - h, sizes[axis])]).to(volume.device)
        spectrum = spectrum.index_select(axis - 3, kept)
    spectrum = spectrum[..., : highest[2] + 1]
    coarse = [2 * h + 1 for h in highest]
    spacing = [v * s / c for v, s, c in zip(spacing_a, sizes, coarse, strict=True)]
    z, y, x = (torch.fft.fftfreq(c, d, dtype=torch.float64) * cut_off_a for c, d in zip(coarse, spacing, strict=True))
    frequency = (z[:, None, None] ** 2 + y[:, None] ** 2 + x[: highest[2] + 1] ** 2).sqrt()
    gain = 0.5 + 0.5 * torch.cos(math.pi * ((frequency - 0.75) / 0.25).clamp(0, 1))
    gain *= math.prod(coarse) / math.prod(sizes)
    grid = torch.fft.irfftn(spectrum * gain.to(volume), s=coarse, dim=(-3, -2, -1))
    middle = [(p + n // 2) * v / d for p, n, v, d in zip(pads, shape, spacing_a, spacing, strict=True)]
    return grid, (spacing[0], spacing[1], spacing[2]), (middle[0], middle[1], middle[2])


def evaluate(grid: Tensor, middle: Sequence[float], step: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Evaluate a band-limited grid at ``middle + step * (i - N // 2)`` along each axis; zero outside the grid.

    Parameters
    ----------
    grid
        (..., d, h, w), odd along every axis and periodic, as :func:`low_pass` makes it.
    middle
        (z, y, x) in voxels of the grid: what goes to the centre of the result.
    step
        (z, y, x) in voxels of the grid: a voxel of the result.
    shape
        Spatial shape of the result.

    Returns
    -------
    Tensor
        (..., *shape).
    """
    result = grid
    for axis, m in enumerate(spatial_shape(shape)):
        n = grid.shape[axis - 3]
        position = middle[axis] + step[axis] * (torch.arange(m, dtype=torch.float64) - m // 2)
        half_angle = math.pi / n * (position[:, None] - torch.arange(n))
        below = half_angle.sin()
        on_grid = below.abs() < 1e-9
        # the Dirichlet kernel of an odd number of points
        kernel = torch.where(on_grid, n, (n * half_angle).sin() / torch.where(on_grid, 1.0, below)) / n
        kernel[(position < 0) | (position > n - 1)] = 0
        result = torch.movedim(torch.movedim(result, axis - 3, -1) @ kernel.T.to(grid), -1, axis - 3)
    return result.contiguous()


def _surround(volume: Tensor, pads: Sequence[int], sizes: Sequence[int], outside: Outside) -> Tensor:
    """Put the volume at ``pads`` in a grid of ``sizes``, amid zeros or its mirror images."""
    if outside == "zero":
        pad: list[int] = []
        for n, p, s in zip(reversed(volume.shape[-3:]), reversed(pads), reversed(sizes), strict=True):
            pad += [p, s - n - p]
        return torch.nn.functional.pad(volume, pad)
    for axis, (p, s) in enumerate(zip(pads, sizes, strict=True)):
        n = volume.shape[axis - 3]
        index = (torch.arange(s, device=volume.device) - p) % (2 * n)
        volume = volume.index_select(axis - 3, torch.minimum(index, 2 * n - 1 - index))
    return volume
