"""Motion of particles: uniform rotations and one resampling for everything that moves together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import ArrayLike
from torch import Tensor

from monai_cryo.physics.fourier import spatial_shape


def rotation_from_uniform(u: ArrayLike | Tensor) -> Tensor:
    """Rotation matrices, uniform on SO(3) where ``u`` is uniform on the unit cube.

    Three uniform Euler angles crowd the poles; this map through unit quaternions does not. Computed on the host, where
    random numbers are drawn: one at a time, numpy takes a third of torch's time.

    Parameters
    ----------
    u
        (..., 3) in [0, 1), float32 or float64.

    Returns
    -------
    Tensor
        (..., 3, 3), acting on column vectors (x, y, z); of the same dtype.

    References
    ----------
    Shoemake (1992) Uniform random rotations, in Graphics Gems III, 124-132.
    """
    first, second, third = np.moveaxis(np.asarray(u), -1, 0)
    a, b, s, t = np.sqrt(1 - first), np.sqrt(first), 2 * math.pi * second, 2 * math.pi * third
    x, y, z, w = a * np.sin(s), a * np.cos(s), b * np.sin(t), b * np.cos(t)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.array(rows), (0, 1), (-2, -1))))


def bounding_radius(volume: Tensor) -> int:
    """Voxels from the centre (N // 2) to the farthest non-zero voxel of (..., D, H, W), rounded up; 0 if empty."""
    occupied = volume.reshape(-1, *volume.shape[-3:]).ne(0).any(dim=0)
    points = occupied.nonzero() - torch.tensor([n // 2 for n in volume.shape[-3:]], device=volume.device)
    return math.ceil(float(points.square().sum(dim=1).max()) ** 0.5) if len(points) else 0


def move(
    volume: Tensor,
    rotation: Tensor,
    shift_vox: Tensor,
    *,
    shape: Sequence[int] | None = None,
    radius_vox: int | None = None,
    mode: str = "bilinear",
) -> Tensor:
    """Rotate volumes about their centre voxel N // 2, then shift them, with one resampling.

    Parameters
    ----------
    volume
        (B, K, D, H, W): B independent particles of K volumes that move together (image and mask, say). Zero outside.
    rotation
        (B, 3, 3), acting on (x, y, z): a rotation, or any other invertible matrix, such as one times a zoom.
    shift_vox
        (B, 3) in voxels, (z, y, x).
    shape
        Spatial shape of the result; the input's if None. Centre voxel goes to centre voxel.
    radius_vox
        Everything non-zero lies within this many voxels of the centre (:func:`bounding_radius`), before and after:
        only the ball around it is resampled. None: the whole box is.
    mode
        ``"bilinear"`` (trilinear in three dimensions), or ``"nearest"`` for labels, over the whole box.

    Returns
    -------
    Tensor
        (B, K, *shape), in the input's dtype.
    """
    size = spatial_shape(shape or volume.shape)
    if radius_vox is None or mode == "nearest":
        return _sample(volume, rotation, shift_vox, size, mode)
    values, index = move_within(volume, rotation, shift_vox, size, radius_vox)
    result = volume.new_zeros(*volume.shape[:2], math.prod(size))
    return result.scatter_(2, index[:, None].expand(values.shape), values).unflatten(2, size)


def move_within(
    volume: Tensor, rotation: Tensor, shift_vox: Tensor, shape: Sequence[int], radius_vox: int
) -> tuple[Tensor, Tensor]:
    """As :func:`move`, but only where something may come to lie: half the cube around a particle is empty corners.

    Parameters
    ----------
    volume, rotation, shift_vox
        As for :func:`move`.
    shape
        Spatial shape of the result.
    radius_vox
        Everything non-zero lies within this many voxels of the centre.

    Returns
    -------
    tuple of Tensor
        Values (B, K, N) and where they belong in the flattened result, (B, N) int64, the same for all K. A place may
        be named twice, with one value; all places not named are zero.
    """
    size = spatial_shape(shape)
    # a ball that is clearly larger than the box is not made: it can be far larger
    large = 4 * radius_vox**3 >= math.prod(size)
    ball = _ball(0 if large else radius_vox, volume.dtype, str(volume.device))
    if large or ball.shape[1] >= math.prod(size):
        everywhere = torch.arange(math.prod(size), device=volume.device).expand(len(volume), -1)
        return _sample(volume, rotation, shift_vox, size).flatten(2), everywhere
    kind: dict[str, Any] = {"device": volume.device, "dtype": volume.dtype}
    source = central(volume, max(radius_vox, 1))  # grid_sample repeats a single voxel everywhere
    into, centre, out = (
        torch.tensor([[f(n)] for n in reversed(s)], **kind)
        for f, s in ((lambda n: max(n - 1, 1), source.shape[-3:]), (lambda n: n // 2, source.shape[-3:]), (int, size))
    )
    shift = shift_vox.to(**kind).flip(-1)[..., None]
    first = -(out / 2).floor()
    # voxels (x, y, z) from the centre; one outside the box moves onto its face, and there repeats what is there
    target = (shift.round() + ball).clamp_(first, first + out - 1)
    inverse = torch.linalg.inv(rotation.to(**kind)) * (2 / into)
    points = torch.baddbmm(centre * 2 / into - 1 - inverse @ shift, inverse, target)
    values = F.grid_sample(source, points.mT[:, None, None], "bilinear", "zeros", align_corners=True)
    target -= first
    row = (target[:, 2] * size[1]).add_(target[:, 1])  # exact in float32 up to 2^24 rows
    return values[:, :, 0, 0], row.long().mul_(size[2]).add_(target[:, 0].long())


def central(volume: Tensor, radius_vox: int) -> Tensor:
    """Cut (..., D, H, W) to what lies within ``radius_vox`` of the centre along each axis; N // 2 stays the centre."""
    z, y, x = (slice(max(n // 2 - radius_vox, 0), n // 2 + radius_vox + 1) for n in volume.shape[-3:])
    return volume[..., z, y, x]


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve training too
def _ball(radius_vox: int, dtype: torch.dtype, device: str) -> Tensor:
    """Voxels (x, y, z) a particle may reach, (3, N): its radius, the interpolation's reach and half a voxel's shift."""
    reach = radius_vox + 1.5 * math.sqrt(3)
    axis = torch.arange(-int(reach), int(reach) + 1)
    inside = axis[:, None, None].square() + axis[:, None].square() + axis.square() < reach**2
    return inside.nonzero().flip(1).T.sub(int(reach)).to(device, dtype).contiguous()


def _sample(
    volume: Tensor, rotation: Tensor, shift_vox: Tensor, size: tuple[int, ...], mode: str = "bilinear"
) -> Tensor:
    """Resample with ``grid_sample``, whose coordinates run (x, y, z) from -1 to 1 between the outer voxel centres."""
    kind: dict[str, Any] = {"device": volume.device, "dtype": volume.dtype}
    into = torch.tensor([max(n - 1, 1) for n in reversed(volume.shape[-3:])], **kind)
    out = torch.tensor([max(n - 1, 1) for n in reversed(size)], **kind)
    centre_in = torch.tensor([n // 2 for n in reversed(volume.shape[-3:])], **kind)
    centre_out = torch.tensor([n // 2 for n in reversed(size)], **kind)
    inverse = torch.linalg.inv(rotation.to(**kind))
    # p_in = R^T (p_out - centre_out - shift) + centre_in, with p = (normalised + 1) * (n - 1) / 2
    linear = inverse * (out / into[:, None])
    offset = out / 2 - centre_out - shift_vox.to(**kind).flip(-1)
    constant = ((inverse @ offset[..., None])[..., 0] + centre_in) * 2 / into - 1
    theta = torch.cat([linear, constant[..., None]], dim=-1)
    grid = F.affine_grid(theta, [len(volume), 1, *size], align_corners=True)
    return F.grid_sample(volume, grid, mode=mode, padding_mode="zeros", align_corners=True)
