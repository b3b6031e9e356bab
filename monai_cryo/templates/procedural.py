"""Templates that are drawn anew each time: bilayers within ranges, and nothing at all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from monai_cryo.physics.membrane import bilayer

__all__ = ["BackgroundTemplate", "MembraneTemplate"]

Range = tuple[float, float]


@dataclass(frozen=True)
class MembraneTemplate:
    """A bilayer drawn anew each time: every orientation, flat to vesicle, within ranges (a pair is uniform).

    Attributes
    ----------
    name
        Structure, unique in a library.
    class_name
        Class it belongs to.
    thickness_a
        Å; head-to-head distance of the leaflets.
    radius_a
        Å; radius of the mid-surface, uniform in the curvature 1/radius; ``inf`` is flat.
    offset_a
        Å; position of the mid-surface along its normal, from the box centre.
    leaflet_sigma_a
        Å; standard deviation of a leaflet.
    """

    name: str
    class_name: str
    thickness_a: Range = (30.0, 45.0)
    radius_a: Range = (150.0, math.inf)
    offset_a: Range = (-40.0, 40.0)
    leaflet_sigma_a: Range = (7.0, 7.0)

    def __post_init__(self) -> None:
        where = f"class {self.class_name!r}:"
        if not 0 < self.thickness_a[0] <= self.thickness_a[1] < math.inf:
            raise ValueError(f"{where} thickness_a must be > 0 and rise, got {self.thickness_a}")
        if not 0 < self.leaflet_sigma_a[0] <= self.leaflet_sigma_a[1] < math.inf:
            raise ValueError(f"{where} leaflet_sigma_a must be > 0 and rise, got {self.leaflet_sigma_a}")
        if not self.thickness_a[1] < self.radius_a[0] <= self.radius_a[1]:
            raise ValueError(f"{where} radius_a must exceed the thickness and rise, got {self.radius_a}")
        if not -math.inf < self.offset_a[0] <= self.offset_a[1] < math.inf:
            raise ValueError(f"{where} offset_a must be finite and rise, got {self.offset_a}")

    def check_fit(self, box: int, voxel_size: float) -> None:
        """Raise unless every draw has a voxel in its mask, wherever the ranges put the membrane.

        The point of the mid-surface next to the box centre must lie in the box, and the mask be thick enough for the
        voxel next to that point; a thinner one needs a further voxel, for a pair on both sides of the surface.

        Raises
        ------
        ValueError
            If a membrane may be thinner than a voxel, or pass the box by.
        """
        where = f"class {self.class_name!r}: in a box of {box} voxels of {voxel_size:g} Å,"
        half_a = 0.5 * self.thickness_a[0] + 2.0 * self.leaflet_sigma_a[0]
        if half_a < 0.5 * voxel_size:
            raise ValueError(f"{where} a membrane must be thicker than a voxel, got {2 * half_a:g} Å at its thinnest")
        margin = 0 if half_a >= 0.5 * math.sqrt(3.0) * voxel_size else 1
        reach_a = ((box - 1) // 2 - margin) * voxel_size
        if max(map(abs, self.offset_a)) > reach_a:
            raise ValueError(f"{where} offset_a must lie within +-{reach_a:g} Å to meet it, got {self.offset_a}")

    def draw(self, box: int, voxel_size: float, R: np.random.RandomState) -> tuple[Tensor, Tensor]:  # noqa: N803
        """Return density (mean 1 inside the mask) and mask, each (box, box, box), in a random pose."""
        normal = R.normal(size=3)
        thickness, offset, sigma = (R.uniform(*r) for r in (self.thickness_a, self.offset_a, self.leaflet_sigma_a))
        curvature = R.uniform(1.0 / self.radius_a[1], 1.0 / self.radius_a[0])
        density, mask = bilayer(
            (box,) * 3,
            voxel_size,
            normal=torch.as_tensor(normal, dtype=torch.float32),
            thickness_a=thickness,
            radius_a=1.0 / curvature if curvature else math.inf,
            offset_a=offset,
            leaflet_sigma_a=sigma,
        )
        if not bool(mask.any()):
            raise ValueError(f"class {self.class_name!r}: a membrane passes the box of {box} voxels by")
        # in float64: a float32 sum depends on the number of threads, and workers have fewer than the main process
        mean = (density * mask).sum(dtype=torch.float64) / mask.sum()
        return density / mean.to(density.dtype), mask


@dataclass(frozen=True)
class BackgroundTemplate:
    """A box with nothing in it, so that a network can learn to say so; neighbours may be added to it.

    Attributes
    ----------
    name
        Structure, unique in a library.
    class_name
        Class it belongs to.
    strangers
        Share of the boxes in which the library puts one of its distractors in a particle's place, 0..1: what has no
        name is no particle either.
    """

    name: str
    class_name: str
    strangers: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        known = isinstance(self.strangers, int | float) and not isinstance(self.strangers, bool)
        if not known or not 0 <= self.strangers <= 1:
            raise ValueError(f"class {self.class_name!r}: strangers must be a share, 0..1, got {self.strangers!r}")

    def check_fit(self, box: int, voxel_size: float) -> None:
        """Nothing fits every box."""

    def draw(self, box: int, voxel_size: float, R: np.random.RandomState) -> tuple[Tensor, Tensor]:  # noqa: N803
        """Return an empty density and an empty mask, each (box, box, box)."""
        return torch.zeros((box,) * 3), torch.zeros((box,) * 3, dtype=torch.bool)
