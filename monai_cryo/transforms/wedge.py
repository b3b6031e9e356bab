"""The missing wedge as a transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_cryo._typing import Axis
from monai_cryo.physics.wedge import dual_axis_wedge, missing_wedge, tilt_fan
from monai_cryo.transforms.base import DictTransform, RandDictTransform, RandPhysics, Range, parse_range
from monai_cryo.transforms.fourier import FourierFilter, RandFilter


class MissingWedge(FourierFilter):
    """Take away what a tilt series does not sample.

    Parameters
    ----------
    tilt_range_deg
        (min, max) in degrees, -90..90. A missing half-angle w is ``(-(90 - w), 90 - w)``.
    tilt_axis, beam_axis
        ``"z"``, ``"y"`` or ``"x"``; the field's usual y and z by default.
    dual_axis
        Two series, about both axes perpendicular to the beam: a missing pyramid.
    step_deg, thickness_a
        Both given: single tilts every ``step_deg``, each a slab of width 1/``thickness_a``, instead of a full range.
    invert
        Mirror the range (Warp's sign).
    soft_edge_deg
        Width of a smooth edge; 0 is sharp.
    voxel_size
        Å, one number or (z, y, x); None: from the MetaTensor, else cubes are assumed.

    Raises
    ------
    ValueError
        On impossible angles, axes or options that exclude each other.
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
        voxel_size: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__(voxel_size)
        low, high = _tilt_range(tilt_range_deg)
        self.params = {"min_tilt_deg": np.array([low]), "max_tilt_deg": np.array([high])}
        if (step_deg is None) != (thickness_a is None):
            raise ValueError(f"single tilts need both step_deg and thickness_a, got {step_deg} and {thickness_a}")
        if step_deg is not None and (dual_axis or soft_edge_deg or not 0 < step_deg <= high - low):
            raise ValueError(
                f"step_deg must lie in 0..{high - low:g}, without dual_axis or soft_edge_deg, got {step_deg}"
            )
        self.dual_axis = dual_axis
        self.fan = None if step_deg is None else (np.arange(low, high + 1e-6, step_deg).tolist(), thickness_a)
        self.geometry: dict[str, Any] = {"beam_axis": beam_axis, "invert": invert}
        if not dual_axis:
            self.geometry["tilt_axis"] = tilt_axis
        if self.fan is None:
            self.geometry["soft_edge_deg"] = soft_edge_deg
        self.transfer((2, 2, 2), (1.0, 1.0, 1.0), torch.zeros(1))  # refuse bad geometry now

    def transfer(self, shape: Sequence[int], voxel_size: tuple[float, float, float], like: Tensor) -> Tensor:
        """Sampled part of Fourier space, (1, D, H, W // 2 + 1) or size 1 along the tilt axis."""
        options = {**self.geometry, "voxel_size": voxel_size, "device": like.device}
        if self.fan is not None:
            tilts, thickness_a = self.fan
            return tilt_fan(shape, tilts, thickness_a=float(thickness_a or 0), **options)[None].to(like.dtype)
        wedge = dual_axis_wedge if self.dual_axis else missing_wedge
        low, high = (torch.as_tensor(self.params[k]) for k in ("min_tilt_deg", "max_tilt_deg"))
        return wedge(shape, low, high, **options).to(like.dtype)


class RandMissingWedge(RandFilter, FourierFilter):
    """Take away a random missing wedge.

    Parameters
    ----------
    missing_angle_deg
        Missing half-angle w, a number or a uniform (min, max) in 0..90: the tilt range is ``(-(90 - w), 90 - w)``.
        The default is the paper's 0..50.
    min_tilt_deg, max_tilt_deg
        Both given instead: the two ends of the tilt range, numbers or ranges, each drawn on its own.
    tilt_axis, beam_axis, invert, soft_edge_deg, voxel_size
        As for :class:`MissingWedge`.
    prob, channel_wise
        As for :class:`~.base.RandPhysics`.

    Raises
    ------
    ValueError
        On impossible angles or axes, or min > max.
    """

    filters_detector_noise = True

    def __init__(
        self,
        missing_angle_deg: Range = (0.0, 50.0),
        *,
        min_tilt_deg: Range | None = None,
        max_tilt_deg: Range | None = None,
        tilt_axis: Axis = "y",
        beam_axis: Axis = "z",
        invert: bool = False,
        soft_edge_deg: float = 0.0,
        voxel_size: float | Sequence[float] | None = None,
        prob: float = 1.0,
        channel_wise: bool = False,
    ) -> None:
        RandPhysics.__init__(self, prob, channel_wise)
        FourierFilter.__init__(self, voxel_size)
        if (min_tilt_deg is None) != (max_tilt_deg is None):
            raise ValueError(f"give both ends of the tilt range or neither, got {min_tilt_deg} and {max_tilt_deg}")
        self.missing = parse_range("missing_angle_deg", missing_angle_deg, 0.0, 90.0)
        if self.missing[1] == 90:
            raise ValueError(f"missing_angle_deg must lie below 90, got {missing_angle_deg!r}")
        self.ends = None
        if min_tilt_deg is not None and max_tilt_deg is not None:
            self.ends = (parse_range("min_tilt_deg", min_tilt_deg), parse_range("max_tilt_deg", max_tilt_deg))
            _tilt_range((self.ends[0][0], self.ends[1][1]))
            _tilt_range((self.ends[0][1], self.ends[1][0]))
        self.geometry: dict[str, Any] = {
            "tilt_axis": tilt_axis,
            "beam_axis": beam_axis,
            "invert": invert,
            "soft_edge_deg": soft_edge_deg,
        }
        missing_wedge((2, 2, 2), -60.0, 60.0, **self.geometry)  # refuse bad geometry now

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw the ends of the tilt range."""
        if self.ends is not None:
            return {"min_tilt_deg": self.uniform(self.ends[0], n), "max_tilt_deg": self.uniform(self.ends[1], n)}
        end = 90 - self.uniform(self.missing, n)
        return {"min_tilt_deg": -end, "max_tilt_deg": end}

    def transfer(self, shape: Sequence[int], voxel_size: tuple[float, float, float], like: Tensor) -> Tensor:
        """Sampled part of Fourier space, (C or 1, D, H, W // 2 + 1), size 1 along the tilt axis."""
        low, high = (torch.as_tensor(self.params[k]) for k in ("min_tilt_deg", "max_tilt_deg"))
        wedge = missing_wedge(shape, low, high, voxel_size=voxel_size, device=like.device, **self.geometry)
        return self.only_active(wedge.to(like.dtype))


def _tilt_range(value: Sequence[float]) -> tuple[float, float]:
    """Read (min, max) tilt in degrees; refuse anything but -90 <= min < max <= 90."""
    pair = tuple(value)
    if len(pair) != 2 or not -90 <= pair[0] < pair[1] <= 90:
        raise ValueError(f"a tilt range must be (min, max) with -90 <= min < max <= 90 degrees, got {value!r}")
    return float(pair[0]), float(pair[1])


class MissingWedged(DictTransform):
    """Dictionary version of :class:`MissingWedge`: ``keys`` and its arguments."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, MissingWedge(**kwargs), allow_missing_keys)


class RandMissingWedged(RandDictTransform):
    """Dictionary version of :class:`RandMissingWedge`: ``keys`` and its arguments."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, RandMissingWedge(**kwargs), allow_missing_keys)


MissingWedgeD = MissingWedgeDict = MissingWedged
RandMissingWedgeD = RandMissingWedgeDict = RandMissingWedged
