"""Random surroundings: gold beads and smooth density before imaging, an ice gradient after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_cryo.physics.fourier import voxel_size_zyx
from monai_cryo.physics.scene import background, bead_streaks, smooth_field, sphere
from monai_cryo.transforms.base import Parameters, RandDrawable, column
from monai_cryo.transforms.dictionary import RandDictTransform
from monai_cryo.transforms.geometry import ZYX, needed_voxel_size
from monai_cryo.transforms.ranges import (
    Range,
    draw_seed,
    log_uniform,
    parse_positive,
    parse_range,
    parse_whole,
    uniform,
)


class RandGoldBead(RandDrawable):
    """Put a dense sphere, such as a gold fiducial, at a random place, before imaging: fringes and streaks follow.

    It displaces what is there. Its centre lies anywhere in the box, so that it may be partly outside, and may lie on
    the particle. It enters the variance that an SNR over the whole box refers to.

    Parameters
    ----------
    radius_a
        Å, a number or a uniform (min, max); beads have diameters of 5 to 15 nm.
    amplitude
        Density as a multiple of the volume's maximum (of 1, where the volume is empty), a number or a uniform
        (min, max), > 0.
    voxel_size
        Å, one number or one for each of the array's axes. None: from the MetaTensor.
    prob
        Probability that an item has a bead.

    Raises
    ------
    ValueError
        On an impossible range, or where no voxel size is known.
    """

    def __init__(
        self,
        radius_a: Range = (25.0, 75.0),
        amplitude: Range = (3.0, 10.0),
        voxel_size: float | Sequence[float] | None = None,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        self.radius_a = parse_positive("radius_a", radius_a)
        self.amplitude = parse_positive("amplitude", amplitude)
        self.voxel_size = None if voxel_size is None else voxel_size_zyx(voxel_size)

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw radius, amplitude, and the centre as a fraction of the box, (z, y, x) in -0.5..0.5."""
        return {
            "radius_a": uniform(state, self.radius_a),
            "amplitude": uniform(state, self.amplitude),
            "position": uniform(state, (-0.5, 0.5), 3),
        }

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Put beads into a batch of clean densities (B, C, D, H, W)."""
        voxel_size = needed_voxel_size(self, self.voxel_size or context.get("voxel_size"))
        radius, amplitude, position = (column(parameters, k, batch) for k in ("radius_a", "amplitude", "position"))
        size = torch.tensor(batch.shape[2:]).to(batch)
        filled = sphere(batch.shape, voxel_size, radius, position * size - (size + 1) % 2 / 2)  # from voxel N // 2
        brightest = batch.amax(dim=(2, 3, 4))
        brightest = torch.where(brightest > 0, brightest, torch.ones_like(brightest))
        density = (amplitude[:, None] * brightest)[..., None, None, None]
        return torch.lerp(batch, density.expand_as(batch), filled[:, None].expand_as(batch))


class RandStreaks(RandDrawable):
    """Add the streaks of a gold bead that lies outside the box, before imaging.

    A tilt series has too few tilts to cancel a bead's streaks far from it (:func:`~monai_cryo.physics.bead_streaks`).

    Parameters
    ----------
    sigma_a
        Å, standard deviation of the bead as a Gaussian (a sphere of radius R has R / sqrt(5)), a number or a uniform
        (min, max), > 0.
    amplitude
        Its density, where a template's mean is 1, a number or a log-uniform (min, max), > 0.
    distance_vox
        How far across the tilt axis it lies beyond the box's corner, a number or a uniform (min, max), > 0.
    step_deg
        Between tilts, a number or a uniform (min, max), 0.5 to 20.
    voxel_size
        Å, one number or one for each of the array's axes. None: from the MetaTensor.
    prob
        Probability that an item has streaks.

    Raises
    ------
    ValueError
        On an impossible range, or where no voxel size is known.
    """

    def __init__(
        self,
        sigma_a: Range = (15.0, 35.0),
        amplitude: Range = (10.0, 150.0),
        distance_vox: Range = (5.0, 130.0),
        step_deg: Range = (1.5, 4.0),
        voxel_size: float | Sequence[float] | None = None,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        self.sigma_a = parse_positive("sigma_a", sigma_a)
        self.amplitude = parse_positive("amplitude", amplitude)
        self.distance_vox = parse_positive("distance_vox", distance_vox)
        self.step_deg = parse_range("step_deg", step_deg, 0.5, 20.0)
        self.voxel_size = None if voxel_size is None else voxel_size_zyx(voxel_size)

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw the bead, its distance, direction and height (of the box, along the tilt axis), and the tilts."""
        return {
            "sigma_a": uniform(state, self.sigma_a),
            "amplitude": log_uniform(state, self.amplitude),
            "distance_vox": uniform(state, self.distance_vox),
            "direction_deg": uniform(state, (0.0, 360.0)),
            "height": uniform(state, (-0.5, 0.5)),
            "step_deg": uniform(state, self.step_deg),
            "phase": float(state.rand()),
        }

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Add streaks to a batch of clean densities (B, C, D, H, W)."""
        voxel_size = needed_voxel_size(self, self.voxel_size or context.get("voxel_size"))
        order = [context.get("axes", ZYX).index(axis) for axis in ZYX]
        depth, height, width = shape = [batch.shape[2 + k] for k in order]
        added = []
        for drawn in parameters:
            direction = math.radians(drawn["direction_deg"])
            distance = math.hypot(depth, width) / 2 + drawn["distance_vox"]
            position = (distance * math.cos(direction), drawn["height"] * height, distance * math.sin(direction))
            count = max(1, round(180.0 / drawn["step_deg"]))
            tilts = -90.0 + 180.0 / count * (drawn["phase"] + np.arange(count))
            streaks = bead_streaks(shape, [voxel_size[k] for k in order], drawn["sigma_a"], position, tilts)
            added.append(drawn["amplitude"] * streaks.permute([order.index(k) for k in range(3)]).to(batch))
        return batch + torch.stack(added)[:, None]


class RandDensityField(RandDrawable):
    """Add a smooth random density, before imaging: a cytoplasm that is nowhere empty.

    Parameters
    ----------
    amplitude
        The field runs from 0 to this, where a template's mean density is 1; a number or a uniform (min, max), >= 0.
    points
        Random numbers along each axis, >= 2: the field bends about that many times across the box.
    keep_empty
        Leave a box that holds nothing as it is: its image is noise alone then, not a field as far above the noise as a
        particle is (:class:`~.noise.RandSNR` measures noise by what the box holds, unless limited).
    prob
        Probability that an item has a field.

    Raises
    ------
    ValueError
        On an impossible range.
    """

    def __init__(
        self, amplitude: Range = (0.0, 0.4), points: int = 5, *, keep_empty: bool = False, prob: float = 1.0
    ) -> None:
        super().__init__(prob)
        self.amplitude, self.keep_empty = parse_range("amplitude", amplitude, low=0), keep_empty
        self.points = parse_whole("points", points, low=2)

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw the amplitude and the field's seed."""
        return {"amplitude": uniform(state, self.amplitude), "seed": draw_seed(state)}

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Add fields to a batch of clean densities (B, C, D, H, W)."""
        shape = (self.points,) * 3
        coarse = [torch.randn(shape, generator=torch.Generator().manual_seed(p["seed"])) for p in parameters]
        field = smooth_field(torch.stack(coarse).to(batch), batch.shape)
        amplitude = column(parameters, "amplitude", batch).view(-1, 1, 1, 1, 1)
        if self.keep_empty:
            amplitude = amplitude * batch.flatten(1).any(1).view(-1, 1, 1, 1, 1)
        return torch.addcmul(batch, field[:, None], amplitude)


class RandIceGradient(RandDrawable):
    """Add a smooth background to an image: a random plane and a random quadratic form.

    Parameters
    ----------
    amplitude
        Standard deviation of the background as a multiple of the image's, a number or a uniform (min, max), 0..1000.
    quadratic
        Weight of the quadratic form beside the plane, a number or a uniform (min, max), 0..1000; 0: a plane alone.
    prob
        Probability that an item has a background.

    Raises
    ------
    ValueError
        On an impossible range.
    """

    def __init__(self, amplitude: Range = (0.0, 0.5), quadratic: Range = (0.0, 1.0), prob: float = 1.0) -> None:
        super().__init__(prob)
        self.amplitude = parse_range("amplitude", amplitude, 0.0, 1000.0)
        self.quadratic = parse_range("quadratic", quadratic, 0.0, 1000.0)

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw the amplitude, the slope (z, y, x) and the matrix of the quadratic form."""
        amplitude, weight = uniform(state, self.amplitude), uniform(state, self.quadratic)
        matrix = state.normal(size=(3, 3)) * weight
        return {"amplitude": amplitude, "linear": state.normal(size=3).tolist(), "quadratic": matrix.tolist()}

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Add backgrounds to a batch of images (B, C, D, H, W)."""
        amplitude, linear, quadratic = (column(parameters, k, batch) for k in ("amplitude", "linear", "quadratic"))
        std = batch.std(dim=(2, 3, 4), keepdim=True, correction=0)
        field = background(batch.shape, linear, quadratic)[:, None]
        return torch.addcmul(batch, field, amplitude.view(-1, 1, 1, 1, 1) * std)


class RandGoldBeadd(RandDictTransform, of=RandGoldBead):
    """Dictionary version of :class:`RandGoldBead`."""


class RandStreaksd(RandDictTransform, of=RandStreaks):
    """Dictionary version of :class:`RandStreaks`."""


class RandDensityFieldd(RandDictTransform, of=RandDensityField):
    """Dictionary version of :class:`RandDensityField`."""


class RandIceGradientd(RandDictTransform, of=RandIceGradient):
    """Dictionary version of :class:`RandIceGradient`."""


RandGoldBeadD = RandGoldBeadDict = RandGoldBeadd
RandStreaksD = RandStreaksDict = RandStreaksd
RandDensityFieldD = RandDensityFieldDict = RandDensityFieldd
RandIceGradientD = RandIceGradientDict = RandIceGradientd
