"""What a model file must say about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_cryo._abundance import parse_abundances
from monai_cryo._typing import parse_contrast
from monai_cryo.io.header import VOXEL_SIZES_A

#: without these a model could be used with other names or another voxel size
RECORD_KEYS = ("classes", "voxel_size", "box", "contrast", "normalize", "network")

_LARGEST_BOX = 512  # as of template libraries


def check_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a record, checked.

    Raises
    ------
    ValueError
        If one is missing or cannot be.
    """
    missing = [key for key in RECORD_KEYS if key not in facts]
    if missing:
        raise ValueError(f"a model's record needs {', '.join(RECORD_KEYS)}; missing: {', '.join(missing)}")
    classes, box, size = facts["classes"], facts["box"], facts["voxel_size"]
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes must be a list of names, got {classes!r}")
    if not all(name and name.isprintable() and not set("/\\") & set(name) for name in classes):
        raise ValueError(f"classes name files too: expected printable names without slashes, got {classes!r}")
    if "labels" in classes:
        raise ValueError("classes name files too, and labels is that of all of them together: name the class otherwise")
    if isinstance(box, bool) or not isinstance(box, int) or not 8 <= box <= _LARGEST_BOX or box % 8:
        raise ValueError(f"box must be a multiple of 8 voxels, at most {_LARGEST_BOX}, got {box!r}")
    low, high = VOXEL_SIZES_A
    if isinstance(size, bool) or not isinstance(size, int | float) or not low <= size <= high:
        raise ValueError(f"voxel_size must be {low:g} to {high:g} Å, got {size!r}")
    if not isinstance(facts["normalize"], list) or not facts["normalize"]:
        raise ValueError(f"normalize must be a list of transform configs, got {facts['normalize']!r}")
    if not isinstance(facts["network"], Mapping):
        raise ValueError(f"network must be a config with a _target_, got {facts['network']!r}")
    abundance = facts["network"].get("abundance")
    if abundance is not None:
        if not isinstance(abundance, list | tuple) or len(abundance) != len(classes):
            raise ValueError(f"abundance must hold {len(classes)} numbers, one a class, got {abundance!r}")
        parse_abundances(dict(zip(classes, abundance, strict=True)), classes)
    return {**{key: facts[key] for key in RECORD_KEYS}, "contrast": parse_contrast(facts["contrast"])}
