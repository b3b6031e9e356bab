"""The grammar of a template library's file: which keys there are, and what is refused before any source is read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "COMPLEXES",
    "DISTRACTORS",
    "MAP",
    "OF_CLASS",
    "PROCEDURAL",
    "STRUCTURE",
    "check_known",
    "list_sources",
    "read_library_file",
]

MOST_ENTRIES = 100_000
DISTRACTORS = "distractors"
TOP = ("voxel_size", "box", "classes", DISTRACTORS)
STRUCTURE = ("chains", "assembly")
MAP = ("contrast", "source_voxel_size")
SOURCE = ("source", "name", "threshold", "resolution_a", *STRUCTURE, *MAP)
OF_CLASS = ("amplitude", "abundance")
"""Options of a class as a whole, which its sources do not have."""
CLASS = ("sources", *OF_CLASS, *SOURCE[2:])
PROCEDURAL = {
    "membrane": ("procedural", *OF_CLASS, "thickness_a", "radius_a", "offset_a", "leaflet_sigma_a"),
    "background": ("procedural", *OF_CLASS, "strangers"),
}
COMPLEXES = ("procedural", "number", "mass_kda", "seed", "name")
"""Of the one procedural source that distractors have, ``procedural: complexes``."""


def read_library_file(file: Path) -> dict[str, Any]:
    """Parse a YAML or JSON template library; refuse repeated, merged and unknown keys and empty classes."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such template library (a YAML or JSON file with `classes:`)")
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix.lower() == ".json":
            content = json.loads(text, object_pairs_hook=_unique)
        else:
            content = yaml.load(text, Loader=_UniqueKeyLoader)
        if _count(content, {}) > MOST_ENTRIES:
            raise ValueError(f"holds more than {MOST_ENTRIES} entries, those counted again that aliases repeat")
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("classes"), dict) or not content["classes"]:
        raise ValueError(f"{file}: expected a mapping `classes:` of at least one class name -> sources")
    check_known(content, TOP, f"{file}")
    for name in content["classes"]:
        if not isinstance(name, str):
            raise ValueError(f"{file}: class name {name!r} is read as {type(name).__name__}; put it in quotes")
        if name in TOP:
            raise ValueError(f"{file}: {name!r} cannot name a class: it is a key of the file itself, one level up")
    return content


def list_sources(file: Path, class_name: str, entry: Any) -> list[dict[str, Any]]:
    """One mapping of options per source of a class."""
    where = f"{file}: class {class_name!r}"
    if class_name == DISTRACTORS and isinstance(entry, Mapping) and entry.get("procedural") == "complexes":
        entry = [entry]
    if isinstance(entry, Mapping) and "procedural" in entry:
        kind = entry["procedural"]
        if not isinstance(kind, str) or kind not in PROCEDURAL:
            raise ValueError(f"{where}: procedural must be one of {', '.join(PROCEDURAL)}, got {kind!r}")
        check_known(entry, PROCEDURAL[kind], where)
        return [{key: value for key, value in entry.items() if key not in OF_CLASS}]
    shared: dict[str, Any] = {}
    if isinstance(entry, Mapping):
        known = [key for key in CLASS if class_name != DISTRACTORS or key not in OF_CLASS]
        check_known(entry, (*known, "procedural"), where)
        shared = {key: value for key, value in entry.items() if key not in ("sources", *OF_CLASS)}
        entry = entry.get("sources")
    items = [entry] if isinstance(entry, str) else entry
    if not isinstance(items, list) or not items:
        raise ValueError(f"{where}: expected a source, a list of sources or a mapping with `sources`, got {entry!r}")
    out = []
    for item in items:
        own = {"source": item} if isinstance(item, str) else item
        if class_name == DISTRACTORS and isinstance(own, Mapping) and own.get("procedural") == "complexes":
            check_known(own, COMPLEXES, where)
            out.append(dict(own))
            continue
        if not isinstance(own, Mapping) or not isinstance(own.get("source"), str):
            raise ValueError(f"{where}: a source is a file, pdb:ID, emdb:ID or a mapping with `source`, got {item!r}")
        check_known(own, SOURCE, where)
        out.append({**shared, **own})
    return out


def check_known(mapping: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    """Refuse an option that is not known."""
    for key in mapping:
        if key not in known:
            raise ValueError(f"{where}: unknown option {key!r}; known: {', '.join(known)}")


def _count(value: Any, counted: dict[int, int]) -> int:
    """Count entries as often as they are referred to; what holds itself ends in a RecursionError."""
    if not isinstance(value, list | dict):
        return 1
    if id(value) not in counted:
        parts = value.values() if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_count(part, counted) for part in parts)
    return counted[id(value)]


def _unique(pairs: Sequence[tuple[Hashable, Any]]) -> dict[Hashable, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        count = Counter(key for key, _ in pairs)
        raise ValueError(f"key {next(key for key in count if count[key] > 1)!r} stands there twice")
    return out


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML without the silent loss of a repeated key, or merge keys, which unfold before anything is counted."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise ValueError(f"line {key.start_mark.line + 1}: merge keys (<<) are not read: write the options out")
        _unique([(self.construct_object(key, deep=True), None) for key, _ in node.value])
        return super().construct_mapping(node, deep)
