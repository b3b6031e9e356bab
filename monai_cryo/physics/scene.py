"""What surrounds a particle: neighbours packed into its box, gold beads, smooth fields of density.

Positions are (z, y, x) in voxels from the centre voxel N // 2, as the shifts of :func:`~.pose.move`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import dawsn
from torch import Tensor

from monai_cryo.physics.fourier import spatial_shape, voxel_size_zyx


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


def pack_(scene: Tensor, occupied: Tensor, particle: Tensor, mask: Tensor, places: Tensor, overlap: float) -> int:
    """Put a particle into a scene, at the first of the places offered where it hardly overlaps, in place.

    Parameters
    ----------
    scene
        (D, H, W), changed: densities add up.
    occupied
        (D, H, W) bool, changed: what is there already, to which the particle's mask is added.
    particle
        (d, h, w) in its pose, centred on its voxel N // 2.
    mask
        Same shape, bool: its voxels.
    places
        (K, 3) integers: where the centre may go, (z, y, x) from the centre voxel of the scene; inside it or not.
    overlap
        Largest share of the particle's own voxels that may meet what is there already.

    Returns
    -------
    int
        The place taken, or -1: no voxel of it would lie in the box, or all overlap too much.
    """
    box, edge, size = scene.shape, particle.shape, int(mask.sum())
    for k, place in enumerate(places.tolist()):
        start = [n // 2 + o - e // 2 for o, n, e in zip(place, box, edge, strict=True)]
        if any(s <= -e or s >= n for s, n, e in zip(start, box, edge, strict=True)):
            continue
        target = tuple(slice(max(s, 0), s + e) for s, e in zip(start, edge, strict=True))
        source = tuple(slice(max(-s, 0), n - s) for s, n in zip(start, box, strict=True))
        inside = mask[source]
        if not bool(inside.any()) or int((inside & occupied[target]).sum()) > overlap * size:
            continue
        scene[target] += particle[source]
        occupied[target] |= inside
        return k
    return -1


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


def bead_streaks(
    shape: Sequence[int],
    voxel_size: float | Sequence[float],
    sigma_a: float,
    position_vox: Sequence[float],
    tilts_deg: Sequence[float],
) -> Tensor:
    r"""What back-projection leaves, anywhere, of a Gaussian bead seen at single tilts: one streak a tilt.

    With u the distance across the beam from the bead's centre and y that along the tilt axis, in units of sigma, a tilt
    adds :math:`(\Delta\theta/\pi)\,e^{-y^2/2}\,(1 - \sqrt{2}\,u\,D(u/\sqrt{2}))`, D Dawson's function: the
    ramp-filtered projection. All tilts of half a turn together give the bead, :math:`e^{-r^2/2}`, and nothing
    outside it; evenly spaced tilts that are too few leave streaks beyond some distance, in boxes that hold no bead.

    Parameters
    ----------
    shape
        Volume shape; the last three sizes (D, H, W) are used.
    voxel_size
        Å, one number or (z, y, x).
    sigma_a
        Å, standard deviation of the bead.
    position_vox
        Its centre (z, y, x), from the centre voxel; outside the volume as well.
    tilts_deg
        Tilts about y, as of :func:`~.wedge.missing_wedge`; each stands for an equal share of half a turn.

    Returns
    -------
    Tensor
        (D, H, W) float32, for a bead of maximum 1.

    References
    ----------
    Kak and Slaney, Principles of Computerized Tomographic Imaging (1988), chapter 3: filtered back-projection.
    """
    box, spacing = spatial_shape(shape), voxel_size_zyx(voxel_size)
    z, y, x = (
        (np.arange(n) - n // 2 - at) * step / sigma_a for n, at, step in zip(box, position_vox, spacing, strict=True)
    )
    tilts = np.deg2rad(np.asarray(tilts_deg, dtype=np.float64))[:, None, None]
    across = x * np.cos(tilts) + z[:, None] * np.sin(tilts)
    plane = (1 - math.sqrt(2) * across * dawsn(across / math.sqrt(2))).mean(0)
    return torch.from_numpy((plane[:, None] * np.exp(-(y**2) / 2)[:, None]).astype(np.float32))


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


def smooth_field(coarse: Tensor, shape: Sequence[int]) -> Tensor:
    """Smooth fields between 0 and 1 from a few random numbers each.

    Parameters
    ----------
    coarse
        (B, k, k, k), independent numbers on a coarse grid; the field bends once a grid step.
    shape
        Volume shape; the last three sizes (D, H, W) are used.

    Returns
    -------
    Tensor
        (B, D, H, W), trilinear between the coarse points and rescaled to reach 0 and 1.
    """
    k = coarse.shape[-1]
    nodes = torch.arange(k, dtype=coarse.dtype, device=coarse.device)
    # linear along each axis in turn: a tenth of the time of interpolating all three at once
    z, y, x = (
        (1 - (torch.linspace(0, k - 1, n, dtype=coarse.dtype, device=coarse.device)[:, None] - nodes).abs()).clamp(
            min=0
        )
        for n in spatial_shape(shape)
    )
    field = torch.einsum("bijk,zi,yj,xk->bzyx", coarse, z, y, x)
    low, high = field.amin(dim=(1, 2, 3), keepdim=True), field.amax(dim=(1, 2, 3), keepdim=True)
    return (field - low) / (high - low).clamp(min=torch.finfo(field.dtype).tiny)


def axes(box: Sequence[int], like: Tensor) -> list[Tensor]:
    """Voxel coordinates from the centre voxel N // 2 along z, y and x, each shaped to broadcast with (B, D, H, W)."""
    lines = [torch.arange(n, dtype=like.dtype, device=like.device) - n // 2 for n in box]
    return [line.view([-1 if a == axis + 1 else 1 for a in range(4)]) for axis, line in enumerate(lines)]
