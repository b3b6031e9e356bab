"""Rigid motion of particles: uniform rotations and one trilinear resampling for everything that moves together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def rotation_from_uniform(u: Tensor) -> Tensor:
    """Rotation matrices, uniform on SO(3) where ``u`` is uniform on the unit cube.

    Three uniform Euler angles crowd the poles; this map through unit quaternions does not.

    Parameters
    ----------
    u
        (..., 3) in [0, 1).

    Returns
    -------
    Tensor
        (..., 3, 3), acting on column vectors (x, y, z).

    References
    ----------
    Shoemake (1992) Uniform random rotations, in Graphics Gems III, 124-132.
    """
    a, b, c = (1 - u[..., 0]).sqrt(), u[..., 0].sqrt(), 2 * math.pi * u[..., 1:]
    x, y = a * c[..., 0].sin(), a * c[..., 0].cos()
    z, w = b * c[..., 1].sin(), b * c[..., 1].cos()
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


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
) -> Tensor:
    """Rotate volumes about their centre voxel N // 2, then shift them, with one trilinear resampling.

    Parameters
    ----------
    volume
        (B, K, D, H, W): B independent particles of K volumes that move together (image and mask, say). Zero outside.
    rotation
        (B, 3, 3), acting on (x, y, z).
    shift_vox
        (B, 3) in voxels, (z, y, x).
    shape
        Spatial shape of the result; the input's if None. Centre voxel goes to centre voxel.
    radius_vox
        Everything non-zero lies within this many voxels of the centre (:func:`bounding_radius`): only the cube around
        it is resampled. None: the whole box is.

    Returns
    -------
    Tensor
        (B, K, *shape), in the input's dtype.
    """
    size = tuple(int(n) for n in (shape or volume.shape[-3:]))
    if radius_vox is None:
        return _sample(volume, rotation, shift_vox, size)
    # one voxel more on each side for the interpolation's reach, one for the fractional part of the shift
    cube = (2 * radius_vox + 4,) * 3
    if all(c >= n for c, n in zip(cube, size, strict=True)):
        return _sample(volume, rotation, shift_vox, size)
    whole = shift_vox.round()
    moved = _sample(volume, rotation, shift_vox - whole, cube)
    result = volume.new_zeros(*volume.shape[:2], *size)
    for b, offset in enumerate(whole.long().tolist()):
        target, source = [], []
        for o, c, n in zip(offset, cube, size, strict=True):
            start = n // 2 + o - c // 2
            low, high = max(start, 0), min(start + c, n)
            target.append(slice(low, max(high, low)))
            source.append(slice(low - start, max(high, low) - start))
        result[b][:, *target] = moved[b][:, *source]
    return result


def _sample(volume: Tensor, rotation: Tensor, shift_vox: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resample with ``grid_sample``, whose coordinates run (x, y, z) from -1 to 1 between the outer voxel centres."""
    kind: dict[str, Any] = {"device": volume.device, "dtype": volume.dtype}
    into = torch.tensor([max(n - 1, 1) for n in reversed(volume.shape[-3:])], **kind)
    out = torch.tensor([max(n - 1, 1) for n in reversed(size)], **kind)
    centre_in = torch.tensor([n // 2 for n in reversed(volume.shape[-3:])], **kind)
    centre_out = torch.tensor([n // 2 for n in reversed(size)], **kind)
    inverse = rotation.to(**kind).mT
    # p_in = R^T (p_out - centre_out - shift) + centre_in, with p = (normalised + 1) * (n - 1) / 2
    linear = inverse * (out / into[:, None])
    offset = out / 2 - centre_out - shift_vox.to(**kind).flip(-1)
    constant = ((inverse @ offset[..., None])[..., 0] + centre_in) * 2 / into - 1
    theta = torch.cat([linear, constant[..., None]], dim=-1)
    grid = F.affine_grid(theta, [len(volume), 1, *size], align_corners=True)
    return F.grid_sample(volume, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
