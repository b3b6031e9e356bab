"""What surrounds a particle: neighbours pasted into its box, gold beads, a gradient in the background.

Positions are (z, y, x) in voxels from the centre voxel N // 2, as the shifts of :func:`~.pose.move`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from monai_cryo.physics.fourier import spatial_shape, voxel_size_zyx
from monai_cryo.physics.pose import move


def positions_from_uniform(u: Tensor, r_min: float | Tensor, r_max: float | Tensor) -> Tensor:
    """Points uniform in the volume of a spherical shell where ``u`` is uniform on the unit cube.

    Parameters
    ----------
    u
        (..., 3) in [0, 1).
    r_min, r_max
        Radii of the shell; numbers or tensors that broadcast with (...).

    Returns
    -------
    Tensor
        (..., 3), (z, y, x), in the unit of the radii.
    """
    inner, outer = (torch.as_tensor(r, dtype=u.dtype, device=u.device) ** 3 for r in (r_min, r_max))
    r = (inner + u[..., 0] * (outer - inner)) ** (1 / 3)
    z, turn = 2 * u[..., 1] - 1, 2 * math.pi * u[..., 2]
    across = (1 - z * z).clamp(min=0).sqrt()
    return r[..., None] * torch.stack([z, across * turn.sin(), across * turn.cos()], dim=-1)


def choose_positions(candidates: Tensor, radius_vox: Tensor, occupied: Tensor, gap_vox: float = 0.0) -> Tensor:
    """For each neighbour, the first candidate whose bounding sphere is clear of what is there already.

    It must come into the box, keep ``gap_vox`` from every occupied voxel, and from the neighbours before it. Of
    candidates uniform in a region, the chosen ones are uniform in what is allowed of it.

    Parameters
    ----------
    candidates
        (B, N, K, 3), K positions for each of N neighbours.
    radius_vox
        (B, N), bounding radius of the neighbours.
    occupied
        (B, D, H, W) bool, the central particle; it may be empty, anywhere, and of any shape (a membrane, say).
    gap_vox
        Between the sphere and the centre of the nearest occupied voxel, or the next sphere.

    Returns
    -------
    Tensor
        (B, N, 3); NaN where none of the candidates is free.
    """
    batch, count, tries = candidates.shape[:3]
    middle = torch.tensor([n // 2 for n in occupied.shape[1:]], device=occupied.device)
    last = torch.tensor(occupied.shape[1:], device=occupied.device) - 1 - middle
    found = occupied.nonzero()
    voxels = (found[:, 1:] - middle).to(candidates).split(found[:, 0].bincount(minlength=batch).tolist())
    clear = torch.full((batch, count * tries), math.inf, dtype=candidates.dtype, device=candidates.device)
    for b, points in enumerate(voxels):
        if len(points) and count:
            clear[b] = torch.cdist(candidates[b].flatten(0, 1), points).amin(dim=1)
    outside = candidates - torch.minimum(torch.maximum(candidates, -middle), last)
    reach = radius_vox[..., None].to(candidates)
    free = (clear.view(batch, count, tries) >= reach + gap_vox) & (outside.norm(dim=-1) < reach)

    chosen = torch.full_like(candidates[:, :, 0], math.nan)
    for j in range(count):
        ok = free[:, j]
        for i in range(j):
            apart = (candidates[:, j] - chosen[:, i, None]).norm(dim=-1)
            ok = ok & ~(apart < reach[:, i] + reach[:, j] + gap_vox)  # NaN, a neighbour left out, is in nobody's way
        first = ok.to(torch.uint8).argmax(dim=1)[:, None, None].expand(-1, 1, 3)
        picked = candidates[:, j].gather(1, first)[:, 0]
        chosen[:, j] = torch.where(ok.any(dim=1)[:, None], picked, chosen[:, j])
    return chosen


def place_(
    scene: Tensor,
    particles: Tensor,
    rotation: Tensor,
    position_vox: Tensor,
    owner: Sequence[int],
    radius_vox: int,
) -> Tensor:
    """Add particles to scenes in any pose, in place and cut by the box; only their tight cubes are resampled.

    Parameters
    ----------
    scene
        (B, D, H, W), changed: densities add up.
    particles
        (M, d, h, w), each centred on its voxel N // 2.
    rotation
        (M, 3, 3), acting on (x, y, z).
    position_vox
        (M, 3), where the centre goes, (z, y, x) from the centre voxel of the scene; inside the box or not.
    owner
        M integers, the scene that each particle is added to.
    radius_vox
        Everything non-zero in the particles lies within this many voxels of their centres.

    Returns
    -------
    Tensor
        The scene.
    """
    # one voxel more on each side for the interpolation's reach, one for the fractional part of the position
    edge = 2 * radius_vox + 4
    whole = position_vox.round()
    moved = move(particles[:, None], rotation, position_vox - whole, shape=(edge,) * 3)[:, 0]
    for cube, b, offset in zip(moved, owner, whole.long().tolist(), strict=True):
        start = [n // 2 + o - edge // 2 for o, n in zip(offset, scene.shape[1:], strict=True)]
        if all(-edge < s < n for s, n in zip(start, scene.shape[1:], strict=True)):
            target = tuple(slice(max(s, 0), s + edge) for s in start)
            source = tuple(slice(max(-s, 0), n - s) for s, n in zip(start, scene.shape[1:], strict=True))
            scene[b][target] += cube[source]
    return scene


def sphere(shape: Sequence[int], voxel_size: float | Sequence[float], radius_a: Tensor, position_vox: Tensor) -> Tensor:
    """Solid spheres, as the fraction of each voxel that they fill.

    The edge is a linear ramp one voxel wide. It alone would make the volume too large by 1 / (4 r^2), r the radius in
    voxels; the ramp stands at r - 1 / (12 r) instead.

    Parameters
    ----------
    shape
        Volume shape; the last three sizes (D, H, W) are used.
    voxel_size
        Å, one number or (z, y, x).
    radius_a
        (B,) in Å, about a voxel or more.
    position_vox
        (B, 3), centres, (z, y, x) from the centre voxel.

    Returns
    -------
    Tensor
        (B, D, H, W) in 0..1, in the dtype and on the device of ``position_vox``.
    """
    box, spacing = spatial_shape(shape), voxel_size_zyx(voxel_size)
    step = math.prod(spacing) ** (1 / 3)
    squares = position_vox.new_zeros(1, 1, 1, 1)
    for axis, (x, size) in enumerate(zip(axes(box, position_vox), spacing, strict=True)):
        squares = squares + ((x - position_vox[:, axis, None, None, None]) * size).square()
    radius = radius_a.to(position_vox)[:, None, None, None]
    edge = radius - step**2 / (12 * radius)
    return ((edge - squares.sqrt()) / step + 0.5).clamp_(0.0, 1.0)


def background(shape: Sequence[int], linear: Tensor, quadratic: Tensor) -> Tensor:
    r"""Smooth backgrounds of mean 0 and standard deviation 1: a plane plus a quadratic form.

    .. math:: g\cdot t + t^\mathsf{T} Q\,t, \qquad t \in [-1, 1]^3

    Parameters
    ----------
    shape
        Volume shape; the last three sizes (D, H, W) are used.
    linear
        (B, 3), g as (z, y, x); its dtype and device are those of the result.
    quadratic
        (B, 3, 3), Q.

    Returns
    -------
    Tensor
        (B, D, H, W).
    """
    box = spatial_shape(shape)
    z, y, x = (line * 2 / n for line, n in zip(axes(box, linear), box, strict=True))
    g, q = linear.T[..., None, None, None], (quadratic + quadratic.mT).permute(1, 2, 0)[..., None, None, None] / 2
    # a polynomial in x whose coefficients are planes: the whole volume is touched three times
    constant = (g[0] + q[0, 0] * z + 2 * q[0, 1] * y) * z + (g[1] + q[1, 1] * y) * y
    slope = g[2] + 2 * q[0, 2] * z + 2 * q[1, 2] * y
    result = (q[2, 2] * x + slope).mul_(x).add_(constant)
    std, mean = torch.std_mean(result, dim=(1, 2, 3), keepdim=True, correction=0)
    return result.sub_(mean).div_(std.clamp(min=torch.finfo(result.dtype).tiny))


def axes(box: Sequence[int], like: Tensor) -> list[Tensor]:
    """Voxel coordinates from the centre voxel N // 2 along z, y and x, each shaped to broadcast with (B, D, H, W)."""
    lines = [torch.arange(n, dtype=like.dtype, device=like.device) - n // 2 for n in box]
    return [line.view([-1 if a == axis + 1 else 1 for a in range(4)]) for axis, line in enumerate(lines)]
