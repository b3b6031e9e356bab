"""How large the particles of a model are, for picking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from monai_cryo.templates import Template, TemplateLibrary

__all__ = ["particle_diameters"]

_LARGEST_A = 10_000.0


def particle_diameters(
    classes: Sequence[str], library: TemplateLibrary, given: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return the diameter of each class that can be picked: given, or else of the library's structures.

    It is that of a ball as large as the mask, Å, the mean over a class's structures. Membranes and the background have
    none: they are a segmentation.

    Parameters
    ----------
    classes
        The model's.
    library
        Structures by class.
    given
        Class -> diameter, Å, in place of the library's; 0 leaves a class out.

    Raises
    ------
    ValueError
        If a diameter cannot be, is given to a class that the model does not have, or of a class nothing is known.
    """
    chosen = dict(given or {})
    unknown = sorted(set(chosen) - set(classes))
    if unknown:
        raise ValueError(f"the model has no class {unknown[0]!r} to give a diameter; it has {', '.join(classes)}")
    for name, value in chosen.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not (value == 0 or 1 <= value <= _LARGEST_A)
        ):
            raise ValueError(f"the diameter of {name} must be 0 or 1 to {_LARGEST_A:g} Å, got {value!r}")
    missing = sorted(set(classes) - set(chosen) - set(library.templates) - {"background"})
    if missing:
        raise ValueError(
            f"how large is a particle of class {missing[0]!r}? Give its diameter in Å, or 0 not to pick it "
            f"(known: {', '.join(library.templates)})"
        )
    for name in classes:
        members = [m for m in library.templates.get(name, ()) if isinstance(m, Template)]
        if name not in chosen and members:
            balls = [2 * (3 * int(m.mask.sum()) / (4 * math.pi)) ** (1 / 3) * m.voxel_size for m in members]
            chosen[name] = sum(balls) / len(balls)
    return {name: value for name, value in chosen.items() if value > 0}
