"""The half grid every filter lives on: its frequencies, and volumes to and from it.

Real volumes are transformed with ``rfftn``, so a transfer function has shape ``(..., D, H, W // 2 + 1)``, its zero
frequency at index 0, unshifted. On this grid a real input always gives a real output, also on even boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from numpy.typing import ArrayLike
from torch import Tensor

VoxelSize = float | Sequence[float] | ArrayLike | Tensor

AXES = (-3, -2, -1)
#: a volume that varies by no more than so many roundings of its size is constant
ROUNDING = 8


def voxel_size_zyx(voxel_size: VoxelSize, name: str = "voxel_size") -> tuple[float, float, float]:
    """Return the voxel size as (z, y, x) in Å: the one place where voxel sizes are read.

    Parameters
    ----------
    voxel_size
        One number, or three of them along the array's axes; plain, numpy or torch.
    name
        What a refusal calls it.

    Raises
    ------
    ValueError
        If it is not one or three finite positive numbers.
    """
    try:
        values = torch.as_tensor(voxel_size, dtype=torch.float64).flatten().tolist()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        values = []
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or not all(0 < v < float("inf") for v in values):
        raise ValueError(f"{name} must be > 0 Å, one number or (z, y, x), got {voxel_size!r}")
    return values[0], values[1], values[2]


def spatial_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the last three sizes of ``shape``; refuse anything that is not a volume.

    Raises
    ------
    ValueError
        If there are fewer than three axes or an axis is empty.
    """
    if len(shape) < 3 or min(shape[-3:]) < 1:
        raise ValueError(f"a volume must have shape (..., D, H, W), got {tuple(shape)}")
    return int(shape[-3]), int(shape[-2]), int(shape[-1])


def frequency_grid(
    shape: Sequence[int],
    voxel_size: VoxelSize,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spatial frequencies of the half grid, in 1/Å.

    Parameters
    ----------
    shape
        Volume shape; the last three sizes are used.
    voxel_size
        Å, one number or (z, y, x).
    device, dtype
        Of the result.

    Returns
    -------
    tuple of Tensor
        ``fz`` (D, 1, 1), ``fy`` (1, H, 1) and ``fx`` (1, 1, W // 2 + 1). On an even axis the Nyquist frequency is
        negative for z and y and positive for x, as ``fftfreq`` and ``rfftfreq`` have it.
    """
    (d, h, w), (vz, vy, vx) = spatial_shape(shape), voxel_size_zyx(voxel_size)
    fz = torch.fft.fftfreq(d, vz, device=device, dtype=dtype).view(-1, 1, 1)
    fy = torch.fft.fftfreq(h, vy, device=device, dtype=dtype).view(1, -1, 1)
    fx = torch.fft.rfftfreq(w, vx, device=device, dtype=dtype).view(1, 1, -1)
    return fz, fy, fx


def radial_frequency(
    shape: Sequence[int],
    voxel_size: VoxelSize,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Distance from the origin of Fourier space on the half grid, (D, H, W // 2 + 1), in 1/Å."""
    fz, fy, fx = frequency_grid(shape, voxel_size, device=device, dtype=dtype)
    return (fz.square() + fy.square() + fx.square()).sqrt()


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must serve training too
def _shells(shape: tuple[int, int, int], voxel_size: tuple[float, float, float], device: str) -> tuple[Tensor, Tensor]:
    fz, fy, fx = frequency_grid(shape, voxel_size, dtype=torch.float64)
    squared = fz.square() + fy.square() + fx.square()
    # 2**-40 of the largest value joins what differs by rounding only
    quantum = float(squared.max()) * 2.0**-40 or 1.0
    levels, index = torch.unique((squared / quantum).round(), return_inverse=True)
    radii = (levels * quantum).sqrt()
    return radii.to(torch.device(device)), index.to(torch.device(device))


def frequency_shells(
    shape: Sequence[int],
    voxel_size: VoxelSize,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Distinct radial frequencies of the half grid, and which of them each point has.

    A 40^3 box has 33,600 points but fewer than 1,200 distinct radii, so a radial filter is evaluated on those and
    spread with :func:`spread`. The result is cached: do not write into it.

    Parameters
    ----------
    shape
        Volume shape; the last three sizes are used.
    voxel_size
        Å, one number or (z, y, x).
    device, dtype
        Of the result.

    Returns
    -------
    tuple of Tensor
        ``radii`` (R,) in 1/Å, ascending, and ``index`` (D, H, W // 2 + 1) int64.
    """
    radii, index = _shells(spatial_shape(shape), voxel_size_zyx(voxel_size), str(torch.device(device or "cpu")))
    return radii.to(dtype), index


def spread(profile: Tensor, index: Tensor) -> Tensor:
    """Spread radial values (..., R) over the half grid: (..., D, H, W // 2 + 1)."""
    return profile.index_select(-1, index.flatten()).unflatten(-1, index.shape)


def nyquist(voxel_size: VoxelSize) -> float:
    """Nyquist frequency in 1/Å; of the coarsest axis where the voxels are not cubes."""
    return 0.5 / max(voxel_size_zyx(voxel_size))


def multiplicity(shape: Sequence[int], *, device: torch.device | str | None = None) -> Tensor:
    """How many points of the full grid each column of the half grid stands for, (W // 2 + 1,), 1 or 2."""
    w = spatial_shape(shape)[-1]
    count = torch.full((w // 2 + 1,), 2.0, device=device)
    count[0] = 1.0
    if w % 2 == 0:
        count[-1] = 1.0
    return count


def rfft(volume: Tensor) -> Tensor:
    """Transform volumes (..., D, H, W) to the half grid (..., D, H, W // 2 + 1)."""
    # torch 2.8 fails on broadcast axes
    return torch.fft.rfftn(volume.contiguous(), dim=AXES)


def irfft(spectrum: Tensor, shape: Sequence[int]) -> Tensor:
    """Transform the half grid back to volumes (..., D, H, W) of spatial ``shape``."""
    return torch.fft.irfftn(spectrum, s=spatial_shape(shape), dim=AXES)


def centred(volume: Tensor, dims: tuple[int, ...] = AXES) -> tuple[Tensor, Tensor, Tensor]:
    """Subtract the mean over trailing axes: the difference, the mean and the standard deviation, axes kept.

    Two plain passes: as exact as ``torch.std_mean`` and, on CPUs, ten times as fast.
    """
    mean = volume.mean(dim=dims, keepdim=True)
    difference = volume - mean
    count = difference.numel() / max(mean.numel(), 1)
    flat = difference.reshape(*mean.shape[: volume.ndim - len(dims)], -1)
    norm = torch.linalg.vector_norm(flat, dim=-1)
    extreme = ~((norm > 1e-15) & norm.isfinite())  # squares leave float32 long before values do
    if bool(extreme.any()):
        norm[extreme] = torch.linalg.vector_norm(flat[extreme].double(), dim=-1).to(norm)
    return difference, mean, norm.reshape(mean.shape) / count**0.5


def apply_transfer(volume: Tensor, transfer: Tensor) -> Tensor:
    """Multiply volumes by a transfer function in Fourier space.

    Parameters
    ----------
    volume
        Real, (..., D, H, W).
    transfer
        Real or complex, broadcastable to (..., D, H, W // 2 + 1).

    Returns
    -------
    Tensor
        (..., D, H, W), real.
    """
    return irfft(rfft(volume) * transfer, volume.shape)


def radial_power_spectrum(volume: Tensor, voxel_size: VoxelSize, bins: int | None = None) -> tuple[Tensor, Tensor]:
    """Mean power a Fourier voxel, in shells of equal width around multiples of Nyquist / ``bins``.

    The power is scaled so that white noise of variance 1 gives 1 in every shell; the volume's mean is left out, and
    with it all below the first shell.

    Parameters
    ----------
    volume
        Real, (..., D, H, W).
    voxel_size
        Å, one number or (z, y, x).
    bins
        Number of shells; half the smallest axis if None.

    Returns
    -------
    tuple of Tensor
        Shell centres (bins,) in 1/Å and power (..., bins).

    Raises
    ------
    ValueError
        If there are more shells than the volume has frequencies for.
    """
    shape = spatial_shape(volume.shape)
    bins = bins or min(shape) // 2
    radius = radial_frequency(shape, voxel_size, device=volume.device, dtype=volume.dtype)
    edge = nyquist(voxel_size)
    # the slack keeps frequencies that lie between two shells together, whatever the voxel size rounds to
    index = (radius / edge * bins + 0.5 + 1e-4).long().clamp(max=bins + 1).flatten()
    weight = multiplicity(shape, device=volume.device).to(volume.dtype).expand(radius.shape)
    power = rfft(volume).abs().square() / (shape[0] * shape[1] * shape[2]) * weight
    total = volume.new_zeros(*volume.shape[:-3], bins + 2).index_add_(-1, index, power.flatten(-3))
    count = volume.new_zeros(bins + 2).index_add_(0, index, weight.flatten())[1:-1]
    if not bool(count.all()):
        raise ValueError(f"{bins} shells are more than a volume of {shape} voxels has frequencies for")
    centres = torch.arange(1, bins + 1, device=volume.device, dtype=volume.dtype) * (edge / bins)
    return centres, total[..., 1:-1] / count
