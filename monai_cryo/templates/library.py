"""What the simulator draws particles from: templates by class, structures from files and membranes from ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_cryo.physics.membrane import bilayer
from monai_cryo.physics.pose import bounding_radius
from monai_cryo.templates.maps import check_fit

__all__ = ["AnyTemplate", "BackgroundTemplate", "MembraneTemplate", "Template", "TemplateLibrary"]

Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Template:
    """One structure's density, centred on voxel ``N // 2`` of a tight box.

    Attributes
    ----------
    name
        Structure, unique in a library.
    class_name
        Class the structure belongs to.
    density
        (d, h, w) float32, >= 0, with a mean of 1 inside the mask.
    mask
        (d, h, w) bool.
    voxel_size
        Å.
    """

    name: str
    class_name: str
    density: Tensor
    mask: Tensor
    voxel_size: float

    @classmethod
    def scaled(cls, name: str, class_name: str, density: Tensor, mask: Tensor, voxel_size: float) -> Template:
        """Make a template of a density of any scale."""
        return cls(name, class_name, density / density[mask].mean(), mask, voxel_size)

    def padded(self, box: int) -> tuple[Tensor, Tensor]:
        """Return density and mask, each (box, box, box); raise or warn where the box is too small."""
        middle = np.array(self.mask.shape) // 2
        check_fit(self.mask.numpy(), middle, (box,) * 3, f"class {self.class_name!r}: {self.name}")
        return _recentred(self.density, box), _recentred(self.mask, box)


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
    """

    name: str
    class_name: str

    def draw(self, box: int, voxel_size: float, R: np.random.RandomState) -> tuple[Tensor, Tensor]:  # noqa: N803
        """Return an empty density and an empty mask, each (box, box, box)."""
        return torch.zeros((box,) * 3), torch.zeros((box,) * 3, dtype=torch.bool)


AnyTemplate = Template | MembraneTemplate | BackgroundTemplate


class TemplateLibrary:
    """Classes of templates at one voxel size, each drawn into one box.

    Parameters
    ----------
    templates
        Class name -> its templates. The order of the classes is their index.
    voxel_size
        Å.
    box
        Edge of the cubic box in voxels.

    Raises
    ------
    ValueError
        If a class is empty, a structure's name or voxel size does not fit, or a structure exceeds the box.
    """

    def __init__(self, templates: Mapping[str, Sequence[AnyTemplate]], voxel_size: float, box: int) -> None:
        if not templates:
            raise ValueError("a template library needs at least one class, got none")
        self.templates = {name: tuple(members) for name, members in templates.items()}
        self.voxel_size = float(voxel_size)
        self.box = int(box)
        self._boxes: dict[str, tuple[Tensor, Tensor, int]] = {}
        names: set[str] = set()
        for class_name, members in self.templates.items():
            if not members:
                raise ValueError(f"class {class_name!r} has no structure")
            for member in members:
                if member.name in names:
                    raise ValueError(f"structure name {member.name!r} is used twice; give one a `name`")
                names.add(member.name)
                if isinstance(member, Template):
                    if not math.isclose(member.voxel_size, self.voxel_size, rel_tol=1e-3):
                        raise ValueError(
                            f"structure {member.name!r} has a voxel size of {member.voxel_size:g} Å, "
                            f"the library {self.voxel_size:g} Å"
                        )
                    density, mask = member.padded(self.box)
                    self._boxes[member.name] = density, mask, bounding_radius(density)

    @property
    def classes(self) -> list[str]:
        """Class names; a class's position is its index."""
        return list(self.templates)

    @property
    def structures(self) -> list[str]:
        """Names of all structures."""
        return [member.name for members in self.templates.values() for member in members]

    def draw(self, class_index: int, R: np.random.RandomState) -> dict[str, Any]:  # noqa: N803
        """Draw one particle of a class.

        Parameters
        ----------
        class_index
            Position in `classes`.
        R
            Source of randomness.

        Returns
        -------
        dict
            ``image`` (1, D, H, W) float32, ``mask`` (1, D, H, W) bool, ``radius_vox`` (int) and ``structure`` (its
            name). A structure is centred and not rotated, and lies within the radius. What is drawn anew is in its
            random pose already, because a rotated box would show cut corners: radius 0.
        """
        members = self.templates[self.classes[class_index]]
        return self.place(members[R.randint(len(members))], R)

    def place(self, member: AnyTemplate, R: np.random.RandomState) -> dict[str, Any]:  # noqa: N803
        """Put one of the library's structures into the box: what `draw` does once it has chosen."""
        if not isinstance(member, Template):
            (density, mask), radius = member.draw(self.box, self.voxel_size, R), 0
        else:
            cached_density, cached_mask, radius = self._boxes[member.name]
            density, mask = cached_density.clone(), cached_mask.clone()
        return {"image": density[None], "mask": mask[None], "radius_vox": radius, "structure": member.name}

    def densities(self) -> list[Tensor]:
        """Tight densities (d, h, w) of all structures from files, as :class:`.RandNeighbours` takes them."""
        return [m.density for members in self.templates.values() for m in members if isinstance(m, Template)]

    def split(self, hold_out: Sequence[str]) -> tuple[TemplateLibrary, TemplateLibrary]:
        """Split the structures for training and testing; both libraries keep all classes and their order.

        Parameters
        ----------
        hold_out
            Names of the structures that only the second library holds. A class that lends none has all of its
            structures in both.

        Returns
        -------
        tuple
            The library without the structures held out, and the one with them.

        Raises
        ------
        ValueError
            If a name is unknown, or nothing would be left of a class.
        """
        unknown = sorted(set(hold_out) - set(self.structures))
        if unknown:
            raise ValueError(f"unknown structure {unknown[0]!r} to hold out; known: {', '.join(self.structures)}")
        train, test = {}, {}
        for class_name, members in self.templates.items():
            kept = [m for m in members if m.name not in hold_out]
            if not kept:
                raise ValueError(f"holding out {', '.join(m.name for m in members)} leaves class {class_name!r} empty")
            train[class_name] = kept
            test[class_name] = [m for m in members if m.name in hold_out] or kept
        return TemplateLibrary(train, self.voxel_size, self.box), TemplateLibrary(test, self.voxel_size, self.box)


def _recentred(volume: Tensor, box: int) -> Tensor:
    """Crop and zero-pad so that voxel ``N // 2`` stays voxel ``N // 2``."""
    out = volume.new_zeros((box,) * 3)
    source, target = [], []
    for n in volume.shape:
        start = box // 2 - n // 2
        source.append(slice(max(0, -start), max(0, -start) + min(n + min(0, start), box - max(0, start))))
        target.append(slice(max(0, start), max(0, start) + source[-1].stop - source[-1].start))
    out[tuple(target)] = volume[tuple(source)]
    return out
