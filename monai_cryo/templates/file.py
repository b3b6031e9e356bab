"""Template libraries as files: one YAML or JSON that lists classes and their structures, the embedded one included."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from monai_cryo._progress import progress_bar
from monai_cryo._refusals import is_refusal
from monai_cryo._typing import parse_contrast
from monai_cryo.io.atomic import write_text
from monai_cryo.io.confine import named_file
from monai_cryo.io.digest import sha256
from monai_cryo.io.header import VOXEL_SIZES_A
from monai_cryo.io.mrc import SUFFIXES, write_mrc
from monai_cryo.physics.density import atoms_to_density
from monai_cryo.templates.archive import locate
from monai_cryo.templates.complexes import random_complexes
from monai_cryo.templates.library import AnyTemplate, TemplateLibrary
from monai_cryo.templates.maps import density_from_map
from monai_cryo.templates.masking import centre_of_mass, cut, parse_rule, to_box
from monai_cryo.templates.procedural import BackgroundTemplate, MembraneTemplate
from monai_cryo.templates.structures import read_structure
from monai_cryo.templates.syntax import (
    DISTRACTORS,
    MAP,
    PROCEDURAL,
    STRUCTURE,
    list_sources,
    read_library_file,
)
from monai_cryo.templates.template import Template

__all__ = ["BOX", "EMBEDDED", "VOXEL_SIZE", "describe_sources", "load_templates", "save_templates"]

EMBEDDED = Path(__file__).parent / "embedded" / "templates.yaml"
"""The library that comes with the package: ribosome, proteasome, tric, membrane."""

LIBRARIES = ("robust", "unseen")
"""Embedded libraries by name: what the robust recipe trains on, and structures it never sees."""

VOXEL_SIZE = 13.68
"""Å; what templates have unless told otherwise (the paper's)."""

BOX = 40
"""Voxels; what templates are put into unless told otherwise (the paper's)."""

_LARGEST = sys.float_info.max  # above it YAML's whole numbers are no floats
MAX_BOX = 512
MAX_VOXELS = 1 << 26
MAX_COMPLEXES = 1000
MAX_COMPLEX_VOXELS = 1 << 25
STRUCTURE_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")


def load_templates(
    path: str | os.PathLike[str] | None = None,
    voxel_size: float | None = None,
    box: int | None = None,
    *,
    progress: bool = False,
) -> TemplateLibrary:
    """Load a template library.

    Parameters
    ----------
    path
        YAML or JSON file; None for the embedded library of the paper's four classes, or the name of another embedded
        one, ``"robust"`` or ``"unseen"``. Paths in it are relative to its folder.
    voxel_size
        Å; overrides the file's (13.68 where it has none). Sources of another voxel size are resampled.
    box
        Voxels; overrides the file's (40 where it has none).
    progress
        Show a progress bar over the sources.

    Returns
    -------
    TemplateLibrary
        The classes in the order of the file.

    Raises
    ------
    FileNotFoundError
        If the file or a source is not there.
    ValueError
        If the file is not a template library or a source cannot become a template; one line names it.

    Notes
    -----
    ``classes`` maps each class to a source, a list of sources, or a mapping with `sources` and options for all of
    them. A source is a map (``.mrc``, ``.map``), a structure (``.pdb``, ``.cif``), an archive entry fetched before
    (``pdb:4V5D``, ``emdb:3883``), or a mapping with `source`, options of its own and a `name`. Options: `threshold`,
    `resolution_a`, `chains` and `assembly` (structures), `contrast` and `source_voxel_size` (maps), as in
    `density_from_map` and `read_structure`; a structure without `resolution_a` is not blurred (Situs' pdb2vol at a
    resolution of one voxel, as in the paper). A class with
    ``procedural: membrane`` takes the ranges `thickness_a`, `radius_a`, `offset_a`, `leaflet_sigma_a`: a number is
    fixed, a pair is a range. ``procedural: background`` is a class with nothing in it, or, in a share `strangers` of
    its boxes, a distractor. A class may have an `amplitude`, the factor on its density, a number or a range, and an
    `abundance`, how common it is beside the other classes where a model of the library is used. ``distractors`` lists
    sources of no class; there ``procedural: complexes`` makes up `number` of them, of `mass_kda` (see
    `random_complexes`).
    """
    file = _library_file(path)
    try:
        return _read_library(file, voxel_size, box, progress)
    except ValueError as error:
        if str(file) in str(error) or not is_refusal(error):
            raise
        raise ValueError(f"{file}: {error}") from None


def _read_library(file: Path, voxel_size: float | None, box: int | None, progress: bool) -> TemplateLibrary:
    content = read_library_file(file)
    voxel_size = _voxel_size(content.get("voxel_size", VOXEL_SIZE) if voxel_size is None else voxel_size, "voxel_size")
    box = content.get("box", BOX) if box is None else box
    if _positive(box, "box") % 1 or not 1 <= box <= MAX_BOX:
        raise ValueError(f"box must be a whole number from 1 to {MAX_BOX}, got {box}")
    classes = content["classes"]
    plan = [(name, item) for name, entry in classes.items() for item in list_sources(file, name, entry)]
    if content.get("distractors") is not None:
        plan += [(DISTRACTORS, item) for item in list_sources(file, DISTRACTORS, content["distractors"])]
    templates: dict[str, list[AnyTemplate]] = {name: [] for name in classes}
    distractors: list[Template] = []
    made = 0
    for name, item in progress_bar(iterable=plan, desc="templates", disable=not progress):
        if item.get("procedural") == "complexes":
            more = _complexes(f"{file}: complexes", item, voxel_size, int(box), made)
            distractors, made = distractors + more, made + len(more)
            continue
        template = _template(file, name, item, voxel_size, int(box))
        if name != DISTRACTORS:
            templates[name].append(template)
        elif isinstance(template, Template):
            distractors.append(template)
        else:
            raise ValueError(f"{file}: distractors must be structures or maps, got {item}")
    amplitudes = {
        name: _range(entry["amplitude"], f"{file}: class {name!r}: amplitude")
        for name, entry in classes.items()
        if isinstance(entry, Mapping) and "amplitude" in entry
    }
    abundances = {
        name: entry["abundance"]
        for name, entry in classes.items()
        if isinstance(entry, Mapping) and "abundance" in entry
    }
    return TemplateLibrary(templates, voxel_size, int(box), distractors, amplitudes, abundances)


def save_templates(library: TemplateLibrary, folder: str | os.PathLike[str], file_name: str = "templates.yaml") -> Path:
    """Write a library as tight float16 maps and a ``templates.yaml`` that loads without any resampling.

    Each map is scaled so that its mask is where it is at least 1.

    Parameters
    ----------
    library
        What to write.
    folder
        Where to; made if missing. Files of the same names are replaced.
    file_name
        Of the YAML file.

    Returns
    -------
    Path
        The YAML file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    classes: dict[str, Any] = {}

    def save(members: Sequence[Template]) -> dict[str, Any]:
        for member in members:
            scaled = (member.density / member.density[member.mask].min()).numpy()
            outside = scaled.clip(max=np.nextafter(np.float16(1), np.float16(0)))
            stored = np.where(member.mask.numpy(), scaled, outside).astype(np.float16)
            write_mrc(folder / f"{member.name}.mrc", stored, library.voxel_size, overwrite=True)
        return {"sources": [f"{m.name}.mrc" for m in members], "threshold": "level:1"}

    for class_name, members in library.templates.items():
        drawn = [member for member in members if not isinstance(member, Template)]
        if drawn:
            if len(members) > 1:
                raise ValueError(f"class {class_name!r} mixes a procedural template with others; a file cannot say so")
            kind = "membrane" if isinstance(drawn[0], MembraneTemplate) else "background"
            values = {key: getattr(drawn[0], key) for key in PROCEDURAL[kind] if getattr(drawn[0], key, None)}
            ranges = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
            classes[class_name] = {"procedural": kind} | ranges
        else:
            classes[class_name] = save([m for m in members if isinstance(m, Template)])
        if class_name in library.amplitudes:
            classes[class_name]["amplitude"] = list(library.amplitudes[class_name])
        if class_name in library.abundances:
            classes[class_name]["abundance"] = library.abundances[class_name]
    content: dict[str, Any] = {"voxel_size": library.voxel_size, "box": library.box, "classes": classes}
    if library.distractors:
        content["distractors"] = save(library.distractors)
    target = folder / file_name
    write_text(target, yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True))
    return target


def describe_sources(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return, by structure, the class, file, SHA-256 and options that a library file names: for a provenance record."""
    file = _library_file(path)
    out: dict[str, Any] = {}
    content = read_library_file(file)
    entries = dict(content["classes"])
    if content.get("distractors") is not None:
        entries[DISTRACTORS] = content["distractors"]
    for class_name, entry in entries.items():
        for item in list_sources(file, class_name, entry):
            if "procedural" in item:
                out[class_name] = {"class": class_name, "options": item}
                continue
            source, name = _locate(file, class_name, item)
            options = {key: value for key, value in item.items() if key not in ("source", "name")}
            digest = sha256(source)
            out[name] = {"class": class_name, "source": source.name, "sha256": digest, "options": options}
    return out


def _library_file(path: str | os.PathLike[str] | None) -> Path:
    """File of a library: of the embedded ones by their names."""
    if path is None:
        return EMBEDDED
    return EMBEDDED.with_stem(str(path)) if str(path) in LIBRARIES else Path(path)


def _template(file: Path, class_name: str, item: dict[str, Any], voxel_size: float, box: int) -> AnyTemplate:
    if item.get("procedural") == "background":
        return BackgroundTemplate(class_name, class_name, item.get("strangers", 0.0))
    if "procedural" in item:
        keys = [key for key in PROCEDURAL["membrane"] if key in item and key != "procedural"]
        ranges = {key: _range(item[key], f"{file}: class {class_name!r}: {key}") for key in keys}
        return MembraneTemplate(class_name, class_name, **ranges)
    options = {key: value for key, value in item.items() if key not in ("source", "name")}
    path, name = _locate(file, class_name, item)
    _check_values(options, f"{path}", box * voxel_size)
    kind = path.name.lower().removesuffix(".gz")
    if kind.endswith(SUFFIXES):
        _applies(options, STRUCTURE, f"{path}: a map")
        density, mask = density_from_map(path, None, voxel_size, **options)
    elif kind.endswith(STRUCTURE_SUFFIXES):
        _applies(options, MAP, f"{path}: a structure")
        rule = options.pop("threshold", "fraction:0.15")
        full = _structure_density(path, voxel_size, box, **options)
        particle, inside, _ = cut(full, rule, voxel_size, path)
        density, mask = to_box(particle, inside, centre_of_mass(particle, inside), None, path)
    else:
        known = " ".join((*SUFFIXES, *STRUCTURE_SUFFIXES))
        raise ValueError(f"{path}: not a map or structure; expected one of {known}, also .gz")
    return Template.scaled(name, class_name, density, mask, voxel_size)


def _complexes(where: str, item: Mapping[str, Any], voxel_size: float, box: int, made: int) -> list[Template]:
    """Make the complexes of a source, after so many of others."""
    number, seed = item.get("number", 24), item.get("seed", 0)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_COMPLEXES:
        raise ValueError(f"{where}: number must be a whole number from 1 to {MAX_COMPLEXES}, got {number!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 32:
        raise ValueError(f"{where}: seed must be a whole number from 0 to 2^32 - 1, got {seed!r}")
    low, high = _range(item.get("mass_kda", [150.0, 2000.0]), f"{where}: mass_kda")
    if not 10 <= low <= high <= 10_000:
        raise ValueError(f"{where}: mass_kda must lie within 10..10000, got {item['mass_kda']!r}")
    if (made + number) * box**3 > MAX_COMPLEX_VOXELS:
        most = MAX_COMPLEX_VOXELS // box**3
        raise ValueError(
            f"{where}: number must be at most {most} in boxes of {box} voxels, all sources together, "
            f"got {made + number}"
        )
    name = str(item.get("name", "complex"))
    _check_name(name, where)
    try:
        return random_complexes(number, (low, high), voxel_size, box, class_name=DISTRACTORS, name=name, seed=seed)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _locate(file: Path, class_name: str, item: Mapping[str, Any]) -> tuple[Path, str]:
    """File and structure name of a source."""
    source = item["source"]
    if source.startswith(("pdb:", "emdb:")):
        path, name = locate(source), source.replace(":", "_").lower()
    else:
        path = named_file(os.path.expanduser(source), file)
        name = path.name.removesuffix(".gz").rpartition(".")[0]
    if not path.is_file():
        raise FileNotFoundError(f"{file}: class {class_name!r}: no such source {path}")
    name = str(item.get("name") or name)
    _check_name(name, f"{file}: class {class_name!r}")
    return path, name


def _check_name(name: str, where: str) -> None:
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise ValueError(f"{where}: {name!r} cannot name a structure; expected a plain file name")


def _check_values(options: Mapping[str, Any], where: str, extent_a: float) -> None:
    parse_rule(options.get("threshold", "otsu"))
    if "source_voxel_size" in options:
        _voxel_size(options["source_voxel_size"], f"{where}: source_voxel_size")
    if "resolution_a" in options and _positive(options["resolution_a"], f"{where}: resolution_a") > extent_a:
        found = options["resolution_a"]
        raise ValueError(f"{where}: resolution_a must be at most the box, {extent_a:g} Å, got {found}")
    if "contrast" in options:
        parse_contrast(options["contrast"], f"{where}: contrast")
    chains = options.get("chains", "")
    if not all(isinstance(chain, str) for chain in (chains if isinstance(chains, list) else [chains])):
        raise ValueError(f"{where}: chains must be text or a list of texts, got {chains!r}; put names in quotes")


def _structure_density(
    path: Path, voxel_size: float, box: int, resolution_a: float | None = None, **selection: Any
) -> NDArray[np.float32]:
    """Density of a structure, its centre of mass in the middle of an odd box with room around it."""
    atoms = read_structure(path, **selection)
    if atoms.radius_a > 2 * box * voxel_size:  # far beyond what a threshold could still cut to size
        raise ValueError(
            f"{path}: atoms lie {atoms.radius_a:.0f} Å from the centre of mass; a box of {box} voxels of "
            f"{voxel_size:g} Å holds {box * voxel_size / 2:.0f} Å"
        )
    reach = atoms.positions_a.abs().amax(dim=0) + 2.0 * (resolution_a or 0.0)
    shape = [2 * (math.ceil(r / voxel_size) + 2) + 1 for r in reach.tolist()]
    if math.prod(shape) > MAX_VOXELS:
        sizes = " x ".join(map(str, shape))
        raise ValueError(f"{path}: would take {sizes} voxels of {voxel_size:g} Å, expected at most {MAX_VOXELS}")
    return atoms_to_density(atoms.positions_a, atoms.weights, shape, voxel_size, resolution_a=resolution_a).numpy()


def _applies(options: Mapping[str, Any], other: Sequence[str], what: str) -> None:
    for key in other:
        if key in options:
            raise ValueError(f"{what} takes no option {key!r}")


def _voxel_size(value: Any, name: str) -> float:
    low, high = VOXEL_SIZES_A
    if not low <= (size := _positive(value, name)) <= high:
        raise ValueError(f"{name} must be {low:g} to {high:g} Å, got {value!r}")
    return size


def _positive(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be > 0, got {value!r}")
    if isinstance(value, int) and value > _LARGEST:
        raise ValueError(f"{name} must be a number that fits a float, got {value!r}")
    return float(value)


def _range(value: Any, name: str) -> tuple[float, float]:
    low, high = value if isinstance(value, list) and len(value) == 2 else (value, value)
    for v in (low, high):
        if isinstance(v, bool) or not isinstance(v, int | float) or (isinstance(v, int) and abs(v) > _LARGEST):
            raise ValueError(f"{name} must be a number or a pair, got {value!r}")
    if not low <= high:
        raise ValueError(f"{name} must rise, got {value!r}")
    return float(low), float(high)
