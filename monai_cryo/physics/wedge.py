"""What a tilt series leaves out of Fourier space: missing wedges, and the fan of single tilts.

A projection at tilt angle t samples the central plane ``k_beam = k_side * tan(t)``, where the side axis is the one
perpendicular to the tilt axis and the beam. With the tilt axis y and the beam along z, a tilt range samples every
``kz / kx`` between ``tan(min)`` and ``tan(max)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from monai_cryo._typing import Axis
from monai_cryo.physics.fourier import frequency_grid, spatial_shape


def _beam_and_side(
    shape: Sequence[int],
    voxel_size: float | Sequence[float],
    tilt_axis: Axis,
    beam_axis: Axis,
    device: torch.device | str | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return k_beam and k_side (broadcastable) and where either sits on an even axis's Nyquist plane."""
    names = get_args(Axis)
    if tilt_axis not in names or beam_axis not in names or tilt_axis == beam_axis:
        raise ValueError(
            f"tilt_axis and beam_axis must be two different axes out of z, y, x, got {tilt_axis!r} and {beam_axis!r}"
        )
    sizes = spatial_shape(shape)
    grid = frequency_grid(sizes, voxel_size, device=device)
    beam = names.index(beam_axis)
    side = 3 - beam - names.index(tilt_axis)

    def at_nyquist(axis: int) -> Tensor:
        return (grid[axis].abs() == grid[axis].abs().max()) & (sizes[axis] % 2 == 0)

    return grid[beam], grid[side], at_nyquist(beam) | at_nyquist(side)


def check_tilt_range(min_tilt_deg: Tensor, max_tilt_deg: Tensor) -> None:
    """Raise ValueError unless -90 <= min < max <= 90 everywhere."""
    if not bool(((min_tilt_deg >= -90) & (max_tilt_deg <= 90) & (min_tilt_deg < max_tilt_deg)).all()):
        raise ValueError(
            "a tilt range must satisfy -90 <= min < max <= 90 degrees, "
            f"got min {min_tilt_deg.tolist()}, max {max_tilt_deg.tolist()}"
        )


def missing_wedge(
    shape: Sequence[int],
    min_tilt_deg: Tensor | float,
    max_tilt_deg: Tensor | float,
    *,
    voxel_size: float | Sequence[float] = 1.0,
    tilt_axis: Axis = "y",
    beam_axis: Axis = "z",
    invert: bool = False,
    soft_edge_deg: float = 0.0,
    cosine_power: Tensor | float = 0.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Sampled part of Fourier space for a continuous single-axis tilt range.

    Parameters
    ----------
    shape
        Volume shape; the last three sizes (D, H, W) are used.
    min_tilt_deg, max_tilt_deg
        Ends of the tilt range in degrees, scalars or batches of shape P. -90 and 90 leave nothing out.
    voxel_size
        Only its ratios matter here.
    tilt_axis, beam_axis
        Two different axes.
    invert
        Mirror the range (the sign of Warp, opposite to AreTomo and pytom-match-pick).
    soft_edge_deg
        Width in degrees over which the edge falls from 1 to 0 as a raised cosine, centred on the edge.
    cosine_power
        p >= 0, a scalar or a batch of shape P: what is sampled at tilt t counts cos(t)^p instead of 1. 0: all alike.
    device
        Of the result.

    Returns
    -------
    Tensor
        P + (D, H, W // 2 + 1), with size 1 along the tilt axis: broadcast it. 1 = sampled, 0 = missing; 0.5 where the
        Nyquist planes of an even box stand for a sampled and a missing frequency at once. The line
        ``k_beam = k_side = 0`` is always kept.

    Raises
    ------
    ValueError
        On impossible angles, axes or powers.

    References
    ----------
    Lučić, Förster & Baumeister (2005) Annu. Rev. Biochem. 74:833-865 (central-slice geometry of a tilt series); Bharat
    et al. (2015) Structure 23:1743-1753 (tilts weighted by their cosine, as a tilted specimen is 1 / cos thicker).
    """
    low = torch.as_tensor(min_tilt_deg, dtype=torch.float32, device=device)
    high = torch.as_tensor(max_tilt_deg, dtype=torch.float32, device=device)
    low, high = torch.broadcast_tensors(low, high)
    check_tilt_range(low, high)
    if not soft_edge_deg >= 0:
        raise ValueError(f"soft_edge_deg must be >= 0, got {soft_edge_deg}")
    power = torch.as_tensor(cosine_power, dtype=torch.float32, device=device)
    if not bool((power >= 0).all()):
        raise ValueError(f"cosine_power must be >= 0, got {power.tolist()}")
    if invert:
        low, high = -high, -low
    beam, side, at_nyquist = _beam_and_side(shape, voxel_size, tilt_axis, beam_axis, device)
    low, high, power = (t[..., None, None, None] for t in (low, high, power))

    def sampled(beam: Tensor) -> Tensor:
        inside = covered(beam)
        if not bool((power > 0).any()):
            return inside
        return inside * (side.abs() / torch.hypot(beam, side).clamp(min=1e-30)) ** power

    def covered(beam: Tensor) -> Tensor:
        # the angle of a plane through the tilt axis is taken in -90..90; k and -k lie on the same one
        angle = torch.rad2deg(torch.atan2(torch.where(side < 0, -beam, beam), side.abs()))
        angle, steep = angle.clamp(-90, 90), angle.abs() >= 90
        # +90 and -90 are one plane; the slack keeps a plane that lies on the edge
        inside = torch.minimum(angle - low, high - angle)
        inside = torch.where(steep, torch.maximum(high - 90, -90 - low), inside)
        if soft_edge_deg > 0:
            # angles repeat after 180 degrees: what one end of the range lacks beyond +-90 comes from the other
            turned = [torch.minimum(angle + t - low, high - angle - t) for t in (-180, 0, 180)]
            ramps = [0.5 - 0.5 * torch.cos(math.pi * (t / soft_edge_deg + 0.5).clamp(0, 1)) for t in turned]
            return torch.stack(ramps).sum(0).clamp(max=1)
        return (inside >= -1e-4).to(torch.float32)

    mask = sampled(beam)
    mask = torch.where(at_nyquist, 0.5 * (mask + sampled(-beam)), mask)
    return torch.where((beam == 0) & (side == 0), torch.ones_like(mask), mask)


def dual_axis_wedge(
    shape: Sequence[int],
    min_tilt_deg: Tensor | float,
    max_tilt_deg: Tensor | float,
    *,
    voxel_size: float | Sequence[float] = 1.0,
    beam_axis: Axis = "z",
    invert: bool = False,
    soft_edge_deg: float = 0.0,
    cosine_power: Tensor | float = 0.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Sampled part of Fourier space for two perpendicular tilt series of one range (a missing pyramid).

    Arguments and result as :func:`missing_wedge`, with the two axes other than ``beam_axis`` as tilt axes; the result
    has its full size on all three.
    """
    first, second = (
        missing_wedge(
            shape,
            min_tilt_deg,
            max_tilt_deg,
            voxel_size=voxel_size,
            tilt_axis=axis,
            beam_axis=beam_axis,
            invert=invert,
            soft_edge_deg=soft_edge_deg,
            cosine_power=cosine_power,
            device=device,
        )
        for axis in get_args(Axis)
        if axis != beam_axis
    )
    return torch.maximum(first, second)


def tilt_fan(
    shape: Sequence[int],
    tilts_deg: Tensor | Sequence[float],
    *,
    thickness_a: float,
    voxel_size: float | Sequence[float] = 1.0,
    tilt_axis: Axis = "y",
    beam_axis: Axis = "z",
    invert: bool = False,
    device: torch.device | str | None = None,
) -> Tensor:
    """Sampled part of Fourier space for single tilts: a fan of slabs through the tilt axis.

    The projection of a specimen ``thickness_a`` thick samples a slab of full width ``1 / thickness_a`` around its
    central plane (Crowther, DeRosier & Klug 1970).

    Parameters
    ----------
    shape
        Volume shape; the last three sizes (D, H, W) are used.
    tilts_deg
        (..., T) tilt angles in degrees.
    thickness_a
        Thickness of the imaged object along the beam, Å.
    voxel_size
        Å, one number or (z, y, x).
    tilt_axis, beam_axis, invert, device
        As for :func:`missing_wedge`.

    Returns
    -------
    Tensor
        (..., D, H, W // 2 + 1), with size 1 along the tilt axis. 1 = sampled, 0 = missing.

    Raises
    ------
    ValueError
        On impossible angles, axes or thickness.
    """
    tilts = torch.as_tensor(tilts_deg, dtype=torch.float32, device=device)
    if tilts.ndim < 1 or tilts.shape[-1] < 1 or not bool((tilts.abs() <= 90).all()):
        raise ValueError(f"tilts_deg must hold at least one angle in -90..90 degrees, got {tilts.tolist()}")
    if not 0 < thickness_a < float("inf"):
        raise ValueError(f"thickness_a must be a positive length in Å, got {thickness_a}")
    radians = torch.deg2rad(-tilts if invert else tilts)[..., None, None, None]
    beam, side, at_nyquist = _beam_and_side(shape, voxel_size, tilt_axis, beam_axis, device)

    def sampled(beam: Tensor) -> Tensor:
        distance = (beam * radians.cos() - side * radians.sin()).abs()
        return (distance.amin(dim=-4) <= 0.5 / thickness_a).to(torch.float32)

    mask = sampled(beam)
    return torch.where(at_nyquist, 0.5 * (mask + sampled(-beam)), mask)
