"""A lipid bilayer on the voxel grid: two leaflets, flat or curved, computed fast enough to be drawn on the fly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from monai_cryo.physics.fourier import VoxelSize, spatial_shape, voxel_size_zyx

__all__ = ["bilayer"]

Parameter = float | Sequence[float] | Tensor


def bilayer(
    shape: Sequence[int],
    voxel_size: VoxelSize,
    *,
    normal: Sequence[float] | Tensor,
    offset_a: Parameter = 0.0,
    thickness_a: Parameter = 37.0,
    radius_a: Parameter = math.inf,
    leaflet_sigma_a: Parameter = 7.0,
) -> tuple[Tensor, Tensor]:
    r"""Density and mask of a bilayer whose mid-surface is a sphere (or a plane) through the box.

    The mid-surface passes through the point ``offset_a * normal`` from the box centre (voxel ``N // 2``) and stands
    perpendicular to `normal` there. With the curvature :math:`c = 1/R`, :math:`\mathbf{y}` the position relative to
    that point and :math:`q = 2\,\mathbf{y}\cdot\mathbf{n} + c\,|\mathbf{y}|^2`, the signed distance to the sphere is

    .. math:: d = (\sqrt{1 + c q} - 1) / c = q / (1 + \sqrt{1 + c q}),

    of which the second form stays exact as :math:`c \to 0`. Each leaflet is a Gaussian in :math:`d`, centred on the
    head groups at :math:`\pm` ``thickness_a / 2``.

    Parameters
    ----------
    shape
        Box (D, H, W) in voxels.
    voxel_size
        Å; a scalar or (z, y, x).
    normal
        (..., 3) as (z, y, x), of any length but zero: the direction of the normal. Its dtype (float32 for a sequence)
        and device are those of the result.
    offset_a
        Å; position of the mid-surface along the normal. A scalar or a tensor that broadcasts with the leading
        dimensions of `normal`, as are the other parameters.
    thickness_a
        Å; head-to-head distance of the two leaflets (30 to 45 Å for real membranes).
    radius_a
        Å; radius of the mid-surface, ``inf`` for a plane. Positive: the centre lies against the normal (the normal
        points out of the vesicle); negative: along it.
    leaflet_sigma_a
        Å; standard deviation of each leaflet.

    Returns
    -------
    density
        (..., D, H, W), scaled to 1 on the two head-group surfaces.
    mask
        (..., D, H, W) bool: as far as the leaflets reach, ``|d| <= thickness_a / 2 + 2 leaflet_sigma_a``: outside, the
        density is below 0.14 of its maximum, about where the masks of the embedded particles end (0.15).

    Raises
    ------
    ValueError
        If a shape, a length or the normal is not usable; the message names it.

    References
    ----------
    Nagle and Tristram-Nagle, Structure of lipid bilayers, BBA 1469 (2000) 159-195: head-to-head distances.
    """
    box, spacing = spatial_shape(shape), voxel_size_zyx(voxel_size)
    direction = torch.as_tensor(normal)
    if not direction.is_floating_point():
        direction = direction.to(torch.float32)
    if direction.shape[-1:] != (3,):
        raise ValueError(f"normal must have shape (..., 3), got {tuple(direction.shape)}")
    length = torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
    if not bool((torch.isfinite(length) & (length > 0)).all()):
        raise ValueError("normal must be finite and not zero")
    direction = direction / length

    names = {"offset_a": offset_a, "thickness_a": thickness_a, "radius_a": radius_a, "leaflet_sigma_a": leaflet_sigma_a}
    values = {k: torch.as_tensor(v, dtype=direction.dtype, device=direction.device) for k, v in names.items()}
    _check(values)
    batch = torch.broadcast_shapes(direction.shape[:-1], *(v.shape for v in values.values()))
    offset, thickness, radius, sigma = (v.expand(batch)[..., None, None, None] for v in values.values())
    direction = direction.expand(*batch, 3)
    curvature = 1.0 / radius

    # q is a sum of one parabola per axis, so the three-dimensional grid is touched only by two additions
    linear = 2.0 * (1.0 - curvature * offset)
    parabolas = []
    for axis, (n, step) in enumerate(zip(box, spacing, strict=True)):
        x = (torch.arange(n, dtype=direction.dtype, device=direction.device) - n // 2) * step
        x = x.reshape([-1 if a == axis else 1 for a in range(3)])
        parabolas.append((curvature * x + linear * direction[..., axis, None, None, None]) * x)
    constant = curvature * offset.square() - 2.0 * offset
    q = (parabolas[0] + parabolas[1] + constant) + parabolas[2]
    distance = q / (1.0 + (1.0 + curvature * q).clamp_(min=0.0).sqrt_())

    # in units where a leaflet is exp(-t^2): the head groups lie at +-head
    scale = math.sqrt(0.5) / sigma
    head = 0.5 * thickness * scale
    t = distance.abs().mul_(scale)
    mask = t <= head + math.sqrt(2.0)
    near = _gaussian(t - head)
    far = _gaussian(t.add_(head))
    return near.add_(far).div_(1.0 + torch.exp(-4.0 * head.square())), mask


def _gaussian(t: Tensor) -> Tensor:
    # exp of what underflows is twenty times slower; 1e-26 is as good as zero
    return t.square_().neg_().clamp_(min=-60.0).exp_()


def _check(values: dict[str, Tensor]) -> None:
    for name in ("thickness_a", "leaflet_sigma_a"):
        if not bool((torch.isfinite(values[name]) & (values[name] > 0)).all()):
            raise ValueError(f"{name} must be > 0, got {values[name].min().item():g}")
    if not bool(torch.isfinite(values["offset_a"]).all()):
        raise ValueError("offset_a must be finite")
    if not bool((values["radius_a"].abs() > 0).all()):
        raise ValueError("radius_a must not be 0 (inf = flat)")
