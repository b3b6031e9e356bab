"""Single-axis tilt series: projections and weighted back-projection.

The tilt axis is y, the beam z; the projection at tilt t lies on the plane ``kz = kx * tan(t)`` of Fourier space, as in
:mod:`.wedge`. Projecting is the same 2-D problem for every y, so one matrix does it for all of them, and its transpose
back-projects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from monai_cryo._typing import check_word
from monai_cryo.physics.fourier import spatial_shape
from monai_cryo.physics.resampling import crop_or_pad

BackProjectionFilter = Literal["exact", "ramp"]

#: half-width in voxels and shape of the interpolating Kaiser-windowed sinc; wrong by < 0.5 % up to 0.6 Nyquist
_HALF_WIDTH, _KAISER = 4, 5.0
#: sub-bin positions at which the kernel is tabulated
_PHASES = 1024
#: elements of the projection matrix made at a time: small enough for the processor's cache and for big scenes
_CHUNK = 2**22


def tilt_angles(min_deg: float, max_deg: float, step_deg: float) -> Tensor:
    """Tilt angles in degrees from ``min_deg`` to ``max_deg`` in equal steps of at most ``step_deg``, (T,) float64.

    Raises
    ------
    ValueError
        If the range is empty or the step not positive.
    """
    if not (min_deg < max_deg and 0 < step_deg < math.inf):
        raise ValueError(f"a tilt series needs min < max and a step > 0, got {min_deg}..{max_deg} by {step_deg}")
    return torch.linspace(min_deg, max_deg, math.ceil((max_deg - min_deg) / step_deg - 1e-6) + 1, dtype=torch.float64)


def project(
    volume: Tensor, tilts_deg: Tensor | Sequence[float], *, output_shape: Sequence[int] | None = None
) -> Tensor:
    """Project volumes along the beam at every tilt.

    A voxel's density goes to the detector at ``x cos(t) + z sin(t)``, counted from the centres N // 2, through a
    windowed sinc that sums to 1: what falls onto the detector keeps its mass.

    Parameters
    ----------
    volume
        (..., D, H, W) with cubic voxels; zero outside.
    tilts_deg
        (T,) for all volumes, or (..., T), in degrees.
    output_shape
        (H', W') of the projections; the volume's (H, W) if None. Cut or padded about the centre.

    Returns
    -------
    Tensor
        (..., T, H', W').

    Raises
    ------
    ValueError
        If there is no tilt, or one is not finite.
    """
    depth, height, width = spatial_shape(volume.shape)
    out_height, out_width = (int(n) for n in output_shape or (height, width))
    rows = crop_or_pad(volume, (depth, out_height, width)).movedim(-2, -3).flatten(-2)
    lead = volume.shape[:-3]
    parts = []
    for _, matrix in _matrices(tilts_deg, depth, width, out_width, volume):
        flat = rows.reshape(-1, depth * width) if matrix.ndim == 3 else rows
        parts.append((flat @ matrix.flatten(-2)).view(*lead, out_height, -1, out_width))
    return torch.cat(parts, dim=-2).movedim(-2, -3)


def back_project(projections: Tensor, tilts_deg: Tensor | Sequence[float], shape: Sequence[int]) -> Tensor:
    """Smear projections back through the volume and add them up: the exact adjoint of :func:`project`.

    Parameters
    ----------
    projections
        (..., T, H', W').
    tilts_deg
        (T,) or (..., T), in degrees.
    shape
        Spatial shape (D, H, W) of the result. Centre goes to centre.

    Returns
    -------
    Tensor
        (..., D, H, W).

    Raises
    ------
    ValueError
        If the tilts are not as many as the projections, or one is not finite.
    """
    depth, height, width = spatial_shape(shape)
    tilts = tilts_tensor(tilts_deg)
    if projections.ndim < 3 or tilts.shape[-1] != projections.shape[-3]:
        raise ValueError(
            f"projections (..., T, H, W) need as many tilts, got {tuple(projections.shape)} and {tilts.shape[-1]} tilts"
        )
    lead, out_width = projections.shape[:-3], projections.shape[-1]
    rows = crop_or_pad(projections, (projections.shape[-3], height, out_width)).movedim(-2, -3)
    total = projections.new_zeros(())
    for at, matrix in _matrices(tilts, depth, width, out_width, projections):
        part = rows[..., at, :].flatten(-2)
        flat = part.reshape(-1, part.shape[-1]) if matrix.ndim == 3 else part
        total = total + flat @ matrix.flatten(-2).mT
    return total.view(*lead, height, depth, width).movedim(-3, -2)


def reconstruction_filter(
    tilts_deg: Tensor | Sequence[float],
    width: int,
    thickness_vox: float,
    *,
    filter: BackProjectionFilter = "exact",
) -> Tensor:
    """Weight of each projection's frequencies that makes up for the uneven sampling of Fourier space.

    A projection of an object D thick samples a slab of Fourier space, so that at the frequency k of projection i the
    slab of projection j counts with ``max(0, 1 - D k |sin(t_i - t_j)|)``. The ``"exact"`` filter is 1 over the sum of
    these, for any set of angles. ``"ramp"`` is its limit for even steps, ``k * step``, and never below 1 / (T D).

    Parameters
    ----------
    tilts_deg
        (..., T) in degrees.
    width
        Size W of the projections along x.
    thickness_vox
        Thickness D of the object along the beam in voxels.
    filter
        ``"exact"`` or ``"ramp"``.

    Returns
    -------
    Tensor
        (..., T, W // 2 + 1), float64, for ``rfft`` along x; it brings the density back to its own scale.

    Raises
    ------
    ValueError
        On an unknown filter or a thickness that is not positive.

    References
    ----------
    Harauz & van Heel (1986) Optik 73:146-156; Radermacher (1992) in Electron Tomography, 91-115.
    """
    check_word("filter", filter, BackProjectionFilter)
    if not 0 < thickness_vox < math.inf:
        raise ValueError(f"thickness_vox must be a positive number of voxels, got {thickness_vox}")
    tilts = torch.deg2rad(tilts_tensor(tilts_deg))
    k = torch.fft.rfftfreq(width, dtype=tilts.dtype, device=tilts.device)
    if filter == "exact":
        apart = (tilts[..., :, None] - tilts[..., None, :]).sin().abs()
        overlap = (1 - thickness_vox * apart[..., None] * k).clamp(min=0).sum(dim=-2)
        return 1 / (thickness_vox * overlap)
    count = tilts.shape[-1]
    step = (tilts.amax(dim=-1) - tilts.amin(dim=-1)) / max(count - 1, 1)
    ramp = (step[..., None] * k).clamp(min=1 / (count * thickness_vox))
    return ramp[..., None, :].expand(*tilts.shape, len(k))


def weighted_back_projection(
    projections: Tensor,
    tilts_deg: Tensor | Sequence[float],
    shape: Sequence[int],
    *,
    filter: BackProjectionFilter = "exact",
    thickness_vox: float | None = None,
) -> Tensor:
    """Reconstruct volumes (..., D, H, W) from projections (..., T, H', W').

    Parameters
    ----------
    projections, tilts_deg, shape
        As for :func:`back_project`.
    filter, thickness_vox
        As for :func:`reconstruction_filter`; the thickness is D if None.

    Returns
    -------
    Tensor
        (..., D, H, W).
    """
    width = projections.shape[-1]
    weight = reconstruction_filter(tilts_deg, width, thickness_vox or spatial_shape(shape)[0], filter=filter)
    spectrum = torch.fft.rfft(projections) * weight.to(projections)[..., None, :]
    return back_project(torch.fft.irfft(spectrum, n=width), tilts_deg, shape)


def tilts_tensor(tilts_deg: Tensor | Sequence[float]) -> Tensor:
    """Return the tilts as float64 (..., T); refuse none at all and values that are not finite."""
    tilts = torch.as_tensor(tilts_deg, dtype=torch.float64)
    if tilts.ndim < 1 or tilts.shape[-1] < 1 or not bool(tilts.isfinite().all()):
        raise ValueError(f"tilts_deg must hold at least one angle, all finite, got {tilts.tolist()}")
    return tilts


def _matrices(
    tilts_deg: Tensor | Sequence[float], depth: int, width: int, out_width: int, like: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Yield parts of the projection matrix, (..., D * W, t, W'), and which tilts they are, for some tilts at a time."""
    tilts = tilts_tensor(tilts_deg)
    step = max(1, _CHUNK // (depth * width * out_width * max(tilts[..., 0].numel(), 1)))
    for first in range(0, tilts.shape[-1], step):
        at = slice(first, first + step)
        part = tilts[..., at]
        if part.ndim == 1:
            yield at, _shared_matrix(tuple(part.tolist()), depth, width, out_width, like.dtype, str(like.device))
        else:
            yield at, _matrix(part.to(like.device), depth, width, out_width, like.dtype)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must serve training too
def _shared_matrix(
    tilts_deg: tuple[float, ...], depth: int, width: int, out_width: int, dtype: torch.dtype, device: str
) -> Tensor:
    return _matrix(torch.tensor(tilts_deg, dtype=torch.float64, device=device), depth, width, out_width, dtype)


def _matrix(tilts_deg: Tensor, depth: int, width: int, out_width: int, dtype: torch.dtype) -> Tensor:
    """Share of every voxel (z, x) in every detector bin of every tilt, (..., D * W, T, W')."""
    radians = torch.deg2rad(tilts_deg)[..., None, None, :]
    z = torch.arange(depth, device=radians.device, dtype=radians.dtype)[:, None, None] - depth // 2
    x = torch.arange(width, device=radians.device, dtype=radians.dtype)[None, :, None] - width // 2
    at = (x * radians.cos() + z * radians.sin() + out_width // 2).flatten(-3, -2)
    left = (at * _PHASES).round().div_(_PHASES).floor_()
    phase = ((at - left) * _PHASES).round_()
    # a row of the matrix is the kernel of the voxel's sub-bin phase, moved by whole bins: a window of a table
    table = _kernels(out_width, dtype, str(at.device))
    window = out_width + _HALF_WIDTH - left.clamp_(-_HALF_WIDTH - 1, out_width + _HALF_WIDTH)
    start = phase.mul_(table.shape[1]).add_(window).long()
    windows = table.flatten().as_strided((table.numel() - out_width + 1, out_width), (1, 1))
    return windows.index_select(0, start.flatten()).unflatten(0, start.shape)


@lru_cache(maxsize=8)
def _kernels(out_width: int, dtype: torch.dtype, device: str) -> Tensor:
    """Interpolation kernel at every sub-bin phase, with zeros on both sides that outlast the detector."""
    phase = torch.arange(_PHASES, dtype=torch.float64) / _PHASES
    distance = torch.arange(1 - _HALF_WIDTH, _HALF_WIDTH + 1) - phase[:, None]
    window = torch.special.i0(_KAISER * (1 - (distance / _HALF_WIDTH).square()).clamp(min=0).sqrt())
    kernel = torch.sinc(distance) * window
    kernel /= kernel.sum(dim=-1, keepdim=True)
    margin = out_width + 1
    return torch.nn.functional.pad(kernel, (margin, margin)).to(device=device, dtype=dtype)
