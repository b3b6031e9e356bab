"""The verb ``templates``: the structures that particles are simulated from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from monai_cryo import __version__
from monai_cryo.cli.parser import Parser, Verbs, add_verb, place, positive

if TYPE_CHECKING:
    from monai_cryo.templates.library import TemplateLibrary


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "List, build, show or fetch the structures that particles are simulated from."
    verb = add_verb(verbs, "templates", about, "monai_cryo templates show my_classes.yaml --output classes.png")
    actions = verb.add_subparsers(metavar="ACTION", required=True)

    grid = Parser(add_help=False)
    grid.add_argument("--voxel_size", type=positive(float), metavar="A", help="Å; default: the file's")
    grid.add_argument("--box", type=positive(int), metavar="N", help="voxels; default: the file's")

    for name, run, about in (
        ("list", _list_templates, "Print a table of classes and structures."),
        ("show", _show_templates, "Draw three projections and the mask of every structure into one PNG."),
        ("build", _build_templates, "Compute a library and write it as small MRC files with their own YAML."),
    ):
        example = f"monai_cryo templates {name} my_classes.yaml" + (" --output my_classes" if name == "build" else "")
        action = add_verb(actions, name, about, example, parents=[grid])
        action.set_defaults(run=run)
        optional = "?" if name != "build" else None
        note = "YAML or JSON of classes and sources" + ("; default: the embedded library" if optional else "")
        action.add_argument("file", type=place, nargs=optional, metavar="FILE", help=note)
        if name == "show":
            action.add_argument(
                "--output", type=place, default=Path("templates.png"), metavar="PNG", help="%(default)s"
            )
        elif name == "build":
            action.add_argument("--output", type=place, required=True, metavar="DIR", help="folder to write")

    about = "Download entries of the PDB or EMDB into the cache, MONAI_CRYO_CACHE or ~/.cache/monai_cryo."
    fetch = add_verb(actions, "fetch", about, "monai_cryo templates fetch pdb:4V5D emdb:3883")
    fetch.set_defaults(run=_fetch_templates)
    fetch.add_argument("sources", nargs="+", metavar="ID", help="pdb:4V5D or emdb:3883")
    fetch.add_argument("--base_url", metavar="URL", help="address of a mirror; default: the public archives")


def _load(options: argparse.Namespace) -> TemplateLibrary:
    from monai_cryo.templates.file import load_templates

    return load_templates(options.file, options.voxel_size, options.box, progress=sys.stderr.isatty())


def _list_templates(options: argparse.Namespace) -> None:
    import numpy as np

    from monai_cryo.templates.template import Template

    library = _load(options)
    print(f"{len(library.classes)} classes, voxel size {library.voxel_size:g} Å, box {library.box}")
    rows = [("index", "class", "structure", "size (nm)", "voxels", "foreground")]
    for index, class_name, member in library.rows():
        mask = library.place(member, np.random.RandomState(0))["mask"][0].numpy()
        size = "drawn anew"
        if isinstance(member, Template):
            extent = [np.ptp(axis) + 1 for axis in mask.nonzero()]
            size = " x ".join(f"{0.1 * library.voxel_size * n:.1f}" for n in extent)
        share = f"{100 * mask.mean():.2f} %"
        rows.append((index, class_name, member.name, size, str(int(mask.sum())), share))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _show_templates(options: argparse.Namespace) -> None:
    from monai_cryo.visualize.templates import show_templates

    print(show_templates(_load(options), options.output))


def _build_templates(options: argparse.Namespace) -> None:
    import json

    from monai_cryo.io.atomic import write_text
    from monai_cryo.io.folder import check_folder
    from monai_cryo.templates.file import describe_sources, save_templates

    check_folder(options.output)
    library = _load(options)
    if options.output.resolve() == options.file.resolve().parent:
        raise ValueError(f"--output {options.output} is the folder of {options.file}; name another one")
    sources = describe_sources(options.file)
    file = save_templates(library, options.output)
    provenance = {
        "command": f"python -m monai_cryo templates build {options.file.name}",
        "version": __version__,
        "voxel_size": library.voxel_size,
        "box": library.box,
        "structures": sources,
    }
    write_text(options.output / "provenance.json", json.dumps(provenance, indent=1, ensure_ascii=False) + "\n")
    print(file)


def _fetch_templates(options: argparse.Namespace) -> None:
    from monai_cryo.templates.archive import fetch

    for source in options.sources:
        print(fetch(source, base_url=options.base_url))
