"""The missing wedge as a transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_cryo._typing import Axis, check_word
from monai_cryo.physics.tilt_series import tilt_angles
from monai_cryo.physics.wedge import dual_axis_wedge, missing_wedge, tilt_fan
from monai_cryo.transforms.base import Draw, Parameters, RandDrawable, column
from monai_cryo.transforms.dictionary import DictTransform, RandDictTransform
from monai_cryo.transforms.fourier import FourierFilter
from monai_cryo.transforms.plan import Grid
from monai_cryo.transforms.ranges import Bounds, Range, parse_number, parse_range, parse_tilt_range, uniform

_DRAWN = ("min_tilt_deg", "max_tilt_deg", "cosine_power")


class MissingWedge(FourierFilter):
    """Take away what a tilt series does not sample.

    The axes are directions in space: those of the array are z, y, x, as in MRC files, unless a MetaTensor's affine
    says otherwise (a NIfTI volume's first axis is x).

    Parameters
    ----------
    tilt_range_deg
        (min, max) in degrees, -90..90. A missing half-angle w is ``(-(90 - w), 90 - w)``.
    tilt_axis, beam_axis
        ``"z"``, ``"y"`` or ``"x"``; the field's usual y and z by default.
    dual_axis
        Two series, about both axes perpendicular to the beam: a missing pyramid.
    step_deg, thickness_a
        Both given: single tilts instead of a full range, in equal steps of at most ``step_deg``, each a slab of width
        1/``thickness_a``.
    invert
        Mirror the range (Warp's sign).
    soft_edge_deg
        Width of a smooth edge; 0 is sharp.
    cosine_power
        p >= 0: a tilt counts with its cosine to the power of p, signal and noise alike; 0: all tilts alike.
    voxel_size
        Å, one number or one for each of the array's axes; None: from the MetaTensor, else cubes are assumed.

    Raises
    ------
    ValueError
        On impossible angles, axes or options that exclude each other, or single tilts without a voxel size.
    """

    filters_detector_noise = True

    def __init__(
        self,
        tilt_range_deg: Sequence[float] = (-60.0, 60.0),
        *,
        tilt_axis: Axis = "y",
        beam_axis: Axis = "z",
        dual_axis: bool = False,
        step_deg: float | None = None,
        thickness_a: float | None = None,
        invert: bool = False,
        soft_edge_deg: float = 0.0,
        cosine_power: float = 0.0,
        voxel_size: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__(voxel_size)
        power = parse_number("cosine_power", cosine_power, low=0.0)
        low, high = parse_tilt_range("tilt_range_deg", tilt_range_deg)
        ends, powers = ((low, low), (high, high)), (power, power)
        self._configure(ends, powers, tilt_axis, beam_axis, dual_axis, step_deg, thickness_a, invert, soft_edge_deg)

    def _configure(
        self,
        ends: tuple[Bounds, Bounds],
        power: Bounds,
        tilt_axis: Axis,
        beam_axis: Axis,
        dual_axis: bool,
        step_deg: float | None,
        thickness_a: float | None,
        invert: bool,
        soft_edge_deg: float,
    ) -> None:
        low, high = self.ends = ends
        self.cosine_power = power
        self.dual_axis = dual_axis
        for name, axis in (("tilt_axis", tilt_axis), ("beam_axis", beam_axis)):
            check_word(name, axis, Axis)
        if (step_deg is None) != (thickness_a is None):
            raise ValueError(f"single tilts need both step_deg and thickness_a, got {step_deg} and {thickness_a}")
        self.step_deg = self.thickness_a = None
        if step_deg is not None and thickness_a is not None:
            if dual_axis or soft_edge_deg or power[1]:
                raise ValueError("single tilts (step_deg) go without dual_axis, soft_edge_deg and cosine_power")
            self.step_deg = parse_number("step_deg", step_deg, 1e-3, high[0] - low[1])
            self.thickness_a = parse_number("thickness_a", thickness_a, 1e-3)
        self.needs_voxel_size = step_deg is not None  # a slab's width is a length
        self.geometry: dict[str, Any] = {"tilt_axis": tilt_axis, "beam_axis": beam_axis, "invert": invert}
        self.soft_edge_deg = parse_number("soft_edge_deg", soft_edge_deg, low=0.0)
        widest: Parameters = {"min_tilt_deg": low[0], "max_tilt_deg": high[1], "cosine_power": power[0]}
        self.transfer(Grid((2, 2, 2), (1.0, 1.0, 1.0)), [widest])  # refuse bad geometry now

    def draw(self, state: np.random.RandomState) -> Draw:
        """Return the ends of the tilt range and the power of the cosine."""
        return self._ends(state)

    def _ends(self, state: np.random.RandomState) -> Parameters:
        return {
            name: uniform(state, bounds) for name, bounds in zip(_DRAWN, (*self.ends, self.cosine_power), strict=True)
        }

    def transfer(self, grid: Grid, parameters: Sequence[Parameters]) -> Tensor:
        """Sampled part of Fourier space, (B, D, H, W // 2 + 1), of size 1 along the tilt axis where there is one."""
        # the physics calls the array's axes z, y, x
        array_axis = dict(zip(grid.axes, ("z", "y", "x"), strict=True))
        geometry = {k: array_axis.get(v, v) for k, v in self.geometry.items()}
        options = {**geometry, "voxel_size": grid.voxel_size, "device": grid.device}
        if self.step_deg is not None:
            ends = [(p["min_tilt_deg"], p["max_tilt_deg"]) for p in parameters]
            fans = {
                (low, high): tilt_fan(
                    grid.shape,
                    tilt_angles(low, high, self.step_deg).tolist(),
                    thickness_a=float(self.thickness_a or 0),
                    **options,
                )
                for low, high in set(ends)
            }
            every = ends if len(fans) > 1 else ends[:1]
            return torch.stack([fans[pair] for pair in every]).to(grid.dtype)
        if self.dual_axis:
            del options["tilt_axis"]
        wedge = dual_axis_wedge if self.dual_axis else missing_wedge
        single = torch.empty(0, device=grid.device)
        low, high, power = (column(parameters, name, single) for name in _DRAWN)
        options.update(soft_edge_deg=self.soft_edge_deg, cosine_power=power)
        return wedge(grid.shape, low, high, **options).to(grid.dtype)


class RandMissingWedge(RandDrawable, MissingWedge):
    """Take away a random missing wedge.

    Parameters
    ----------
    missing_angle_deg
        Missing half-angle w, a number or a uniform (min, max), 0 <= w < 90: the tilt range is ``(-(90 - w), 90 - w)``.
        The default is the paper's 0..50.
    min_tilt_deg, max_tilt_deg
        Both given instead: the two ends of the tilt range, numbers or ranges, each drawn on its own.
    tilt_axis, beam_axis, dual_axis, step_deg, thickness_a, invert, soft_edge_deg, voxel_size
        As for :class:`MissingWedge`.
    cosine_power
        As for :class:`MissingWedge`, a number or a uniform (min, max).
    prob
        Probability that an item has a missing wedge.

    Raises
    ------
    ValueError
        On impossible angles, axes or options that exclude each other, or min > max.
    """

    def __init__(
        self,
        missing_angle_deg: Range = (0.0, 50.0),
        *,
        min_tilt_deg: Range | None = None,
        max_tilt_deg: Range | None = None,
        tilt_axis: Axis = "y",
        beam_axis: Axis = "z",
        dual_axis: bool = False,
        step_deg: float | None = None,
        thickness_a: float | None = None,
        invert: bool = False,
        soft_edge_deg: float = 0.0,
        cosine_power: Range = 0.0,
        voxel_size: float | Sequence[float] | None = None,
        prob: float = 1.0,
    ) -> None:
        RandDrawable.__init__(self, prob)
        FourierFilter.__init__(self, voxel_size)
        if (min_tilt_deg is None) != (max_tilt_deg is None):
            raise ValueError(f"give both ends of the tilt range or neither, got {min_tilt_deg} and {max_tilt_deg}")
        self.missing = parse_range("missing_angle_deg", missing_angle_deg, 0.0, 90.0)
        if self.missing[1] == 90:
            raise ValueError(f"missing_angle_deg must lie below 90, got {missing_angle_deg!r}")
        self.symmetric = min_tilt_deg is None
        low = (self.missing[0] - 90, self.missing[1] - 90)
        high = (90 - self.missing[1], 90 - self.missing[0])
        if min_tilt_deg is not None and max_tilt_deg is not None:
            low, high = parse_range("min_tilt_deg", min_tilt_deg), parse_range("max_tilt_deg", max_tilt_deg)
            for pair in ((low[0], high[1]), (low[1], high[0])):
                parse_tilt_range("the tilt range", pair)
        power = parse_range("cosine_power", cosine_power, low=0.0)
        ends = low, high
        self._configure(ends, power, tilt_axis, beam_axis, dual_axis, step_deg, thickness_a, invert, soft_edge_deg)

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw the ends of the tilt range and the power of the cosine."""
        if not self.symmetric:
            return self._ends(state)
        end = 90 - uniform(state, self.missing)
        return {"min_tilt_deg": -end, "max_tilt_deg": end, "cosine_power": uniform(state, self.cosine_power)}


class MissingWedged(DictTransform, of=MissingWedge):
    """Dictionary version of :class:`MissingWedge`."""


class RandMissingWedged(RandDictTransform, of=RandMissingWedge):
    """Dictionary version of :class:`RandMissingWedge`."""


MissingWedgeD = MissingWedgeDict = MissingWedged
RandMissingWedgeD = RandMissingWedgeDict = RandMissingWedged
