"""How common each class is in a specimen: the one place where such numbers are checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: no class is a million times as common as another that is looked for
MOST = 1e6


def is_abundance(value: Any) -> bool:
    """Whether a value is a number from 0 to `MOST`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST


def parse_abundances(value: Any, classes: Iterable[str]) -> dict[str, float]:
    """Read class -> how common it is beside the others; 1 for classes that are not named, 0 for what is not there.

    Raises
    ------
    ValueError
        If it is no mapping of some of the classes to numbers from 0 to `MOST`, or none of the classes is left.
    """
    known = list(classes)
    if not isinstance(value, Mapping) or not set(value) <= set(known):
        raise ValueError(f"abundance must give numbers to some of the classes {', '.join(known)}, got {value!r}")
    for name, number in value.items():
        if not is_abundance(number):
            raise ValueError(f"abundance of {name} must be a number from 0 to {MOST:g}, got {number!r}")
    found = {name: float(number) for name, number in value.items()}
    if not any(found.get(name, 1.0) for name in known):
        raise ValueError(f"abundance of all classes is 0: nothing is left of {', '.join(known)}")
    return found
