"""What the simulator draws particles from: templates by class, at one voxel size, each put into one box."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from monai_cryo._abundance import parse_abundances
from monai_cryo.physics.pose import bounding_radius
from monai_cryo.physics.resampling import same_voxel_size
from monai_cryo.templates.procedural import BackgroundTemplate, MembraneTemplate
from monai_cryo.templates.template import Template

__all__ = ["AnyTemplate", "TemplateLibrary"]

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
    distractors
        Structures of no class, which stand beside a particle or, as strangers, in the place of one.
    amplitudes
        Class name -> range of the factor that its density is drawn with; 1 for classes not in it.
    abundances
        Class name -> how common it is beside the other classes in a specimen, >= 0; 1 for classes not in it. A model
        trained on the library answers as in such a specimen, though the training shows all classes equally often.

    Raises
    ------
    ValueError
        If a class is empty, a structure's name or voxel size does not fit, a structure exceeds the box or has values
        that are not finite, or a membrane may pass the box by.
    """

    def __init__(
        self,
        templates: Mapping[str, Sequence[AnyTemplate]],
        voxel_size: float,
        box: int,
        distractors: Sequence[Template] = (),
        amplitudes: Mapping[str, tuple[float, float]] | None = None,
        abundances: Mapping[str, float] | None = None,
    ) -> None:
        if not templates:
            raise ValueError("a template library needs at least one class, got none")
        self.templates = {name: tuple(members) for name, members in templates.items()}
        self.voxel_size = float(voxel_size)
        self.box = int(box)
        self.distractors = tuple(distractors)
        self.amplitudes = {name: (float(low), float(high)) for name, (low, high) in (amplitudes or {}).items()}
        for name, (low, high) in self.amplitudes.items():
            if name not in self.templates or not 0 < low <= high < math.inf:
                raise ValueError(f"amplitude of class {name!r} must be > 0 and rise, got {(low, high)}")
        self.abundances = parse_abundances(abundances or {}, self.templates)
        self._boxes: dict[str, tuple[Tensor, Tensor, int]] = {}
        names: set[str] = set()
        for class_name, members in self.templates.items():
            if not members:
                raise ValueError(f"class {class_name!r} has no structure")
            for member in members:
                self._check(member, names)
        for member in self.distractors:
            self._check(member, names)

    def _check(self, member: AnyTemplate, names: set[str]) -> None:
        """Refuse what does not fit the library; note the name, and put a structure into its box."""
        if member.name in names:
            raise ValueError(f"structure name {member.name!r} is used twice; give one a `name`")
        names.add(member.name)
        if not isinstance(member, Template):
            member.check_fit(self.box, self.voxel_size)
            if isinstance(member, BackgroundTemplate) and member.strangers and not self.distractors:
                raise ValueError(f"class {member.class_name!r}: strangers are distractors, and there are none")
            return
        if not same_voxel_size(member.voxel_size, self.voxel_size):
            raise ValueError(
                f"structure {member.name!r} has a voxel size of {member.voxel_size:g} Å, "
                f"the library {self.voxel_size:g} Å"
            )
        if not bool(member.density.isfinite().all()) or not bool(member.mask.any()):
            raise ValueError(f"structure {member.name!r} has an empty mask or values that are not finite")
        density, mask = member.padded(self.box)
        self._boxes[member.name] = density, mask, bounding_radius(density)

    def digest(self) -> str:
        """Return what tells this library from every other: a hash of its grid, names, densities, masks and ranges."""
        found = hashlib.sha256(repr((self.voxel_size, self.box, list(self.templates), self.amplitudes)).encode())
        for class_name, members in [*self.templates.items(), ("", self.distractors)]:
            for member in members:
                said = (class_name, member.name) if isinstance(member, Template) else (class_name, member)
                found.update(repr(said).encode())
                if isinstance(member, BackgroundTemplate) and member.strangers:
                    found.update(repr(member.strangers).encode())
                if isinstance(member, Template):
                    for values in (member.density, member.mask):
                        found.update(values.contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    def __repr__(self) -> str:
        """Return classes and grid in one line."""
        classes = ", ".join(f"{name}: {len(members)}" for name, members in self.templates.items())
        return f"TemplateLibrary({{{classes}}}, voxel_size={self.voxel_size:g}, box={self.box})"

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
            ``image`` (1, D, H, W) float32, ``mask`` (1, D, H, W) bool, ``posed``, ``radius_vox`` (int), ``structure``
            (its name) and ``amplitude``, the factor already on the density. A structure is centred and not rotated,
            and lies within the radius. What is drawn anew is in its random pose already, because a rotated box would
            show cut corners: ``posed`` is true. A stranger in the background's place has an empty mask.
        """
        members = self.templates[self.classes[class_index]]
        member = members[R.randint(len(members))]
        strangers = member.strangers if isinstance(member, BackgroundTemplate) else 0.0
        if strangers and R.rand() < strangers:
            item = self.place(self.distractors[R.randint(len(self.distractors))], R)
            item["mask"].zero_()
        else:
            item = self.place(member, R)
        low, high = self.amplitudes.get(self.classes[class_index], (1.0, 1.0))
        item["amplitude"] = float(R.uniform(low, high)) if low < high else low
        item["image"] *= item["amplitude"]
        return item

    def place(self, member: AnyTemplate, R: np.random.RandomState) -> dict[str, Any]:  # noqa: N803
        """Put one of the library's structures into the box: what `draw` does once it has chosen."""
        posed = not isinstance(member, Template)
        if isinstance(member, Template):
            cached_density, cached_mask, radius = self._boxes[member.name]
            density, mask = cached_density.clone(), cached_mask.clone()
        else:
            (density, mask), radius = member.draw(self.box, self.voxel_size, R), 0
        return {
            "image": density[None],
            "mask": mask[None],
            "posed": posed,
            "radius_vox": radius,
            "structure": member.name,
        }

    def rows(self) -> list[tuple[str, str, AnyTemplate]]:
        """Return index, class and structure of all there is to look at; distractors come last, of no index."""
        known = [(str(i), name, m) for i, (name, members) in enumerate(self.templates.items()) for m in members]
        return known + [("-", "distractor", m) for m in self.distractors]

    def crowd(self) -> list[tuple[Sequence[Template], float]]:
        """Return what :class:`.RandNeighbours` packs around a particle: structures of the classes, and distractors.

        Each group has the weight 1: where there are distractors, half of the neighbours are of no class.
        """
        members = [m for members in self.templates.values() for m in members if isinstance(m, Template)]
        return [(group, 1.0) for group in (members, self.distractors) if group]

    def split(self, hold_out: str | Sequence[str]) -> tuple[TemplateLibrary, TemplateLibrary]:
        """Split the structures for training and testing; both libraries keep all classes and their order.

        Parameters
        ----------
        hold_out
            Name or names of the structures that only the second library holds. A class that lends none has all of its
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
        held = {hold_out} if isinstance(hold_out, str) else set(hold_out)
        unknown = sorted(held - set(self.structures))
        if unknown:
            raise ValueError(f"unknown structure {unknown[0]!r} to hold out; known: {', '.join(self.structures)}")
        train, test = {}, {}
        for class_name, members in self.templates.items():
            kept = [m for m in members if m.name not in held]
            if not kept:
                raise ValueError(f"holding out {', '.join(m.name for m in members)} leaves class {class_name!r} empty")
            train[class_name] = kept
            test[class_name] = [m for m in members if m.name in held] or kept
        return self.holding(train), self.holding(test)

    def keep(self, classes: Collection[str]) -> TemplateLibrary:
        """Return the library with some of its classes alone, in its own order; what stands beside particles stays.

        Raises
        ------
        ValueError
            If a class is not in it.
        """
        unknown = [name for name in classes if name not in self.classes]
        if unknown:
            raise ValueError(f"no class {unknown[0]!r} in the library, which has {', '.join(self.classes)}")
        return self.holding({name: members for name, members in self.templates.items() if name in classes})

    def holding(
        self, templates: Mapping[str, Sequence[AnyTemplate]], distractors: Sequence[Template] | None = None
    ) -> TemplateLibrary:
        """Return the library with other templates of some of its classes, and other distractors unless None."""
        amplitudes = {name: value for name, value in self.amplitudes.items() if name in templates}
        abundances = {name: value for name, value in self.abundances.items() if name in templates}
        beside = self.distractors if distractors is None else distractors
        return TemplateLibrary(templates, self.voxel_size, self.box, beside, amplitudes, abundances)
