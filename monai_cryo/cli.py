"""The command line, ``python -m monai_cryo VERB``. Only argparse is imported here; each verb imports what it needs.

A verb is a function ``_add_<verb>(verbs)`` that declares its options and sets ``run`` to a function taking the parsed
options. It prints results to stdout; what it raises as ValueError or OSError becomes one line and exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from monai_cryo import __version__

if TYPE_CHECKING:
    from monai_cryo.templates.library import TemplateLibrary

    Verbs = argparse._SubParsersAction["_Parser"]


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"monai_cryo: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="monai_cryo",
        description="Recognise and outline molecules in cryo-electron tomograms, trained on simulation alone.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"monai_cryo {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_templates(verbs)
    _add_gallery(verbs)
    _add_bundle(verbs)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb.

    Parameters
    ----------
    argv
        Arguments without the program's name; None takes them from `sys.argv`.

    Returns
    -------
    int
        Exit code: 0 done, 1 refused or failed, 130 interrupted. Wrong usage leaves with `SystemExit` 2.
    """
    options = build_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options.run(options)
            sys.stdout.flush()
    except BrokenPipeError:
        # the reader of a pipe has left (`... | head`); nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("monai_cryo: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"monai_cryo: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"monai_cryo: warning: {message}", file=sys.stderr)


def _add_templates(verbs: Verbs) -> None:
    about = "List, build, show or fetch the structures that particles are simulated from."
    actions = verbs.add_parser("templates", help=about, description=about).add_subparsers(
        metavar="ACTION", required=True
    )

    grid = _Parser(add_help=False)
    grid.add_argument("--voxel_size", type=_positive(float), metavar="A", help="Å; default: the file's")
    grid.add_argument("--box", type=_positive(int), metavar="N", help="voxels; default: the file's")

    for name, run, about in (
        ("list", _list_templates, "Print a table of classes and structures."),
        ("show", _show_templates, "Draw three projections and the mask of every structure into one PNG."),
        ("build", _build_templates, "Compute a library and write it as small MRC files with their own YAML."),
    ):
        action = actions.add_parser(name, help=about, description=about, parents=[grid], allow_abbrev=False)
        action.set_defaults(run=run)
        optional = "?" if name != "build" else None
        note = "YAML or JSON of classes and sources" + ("; default: the embedded library" if optional else "")
        action.add_argument("file", type=Path, nargs=optional, metavar="FILE", help=note)
        if name == "show":
            action.add_argument("--output", type=Path, default=Path("templates.png"), metavar="PNG", help="%(default)s")
        elif name == "build":
            action.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")

    about = "Download entries of the PDB or EMDB into the cache, MONAI_CRYO_CACHE or ~/.cache/monai_cryo."
    fetch = actions.add_parser("fetch", help=about, description=about, allow_abbrev=False)
    fetch.set_defaults(run=_fetch_templates)
    fetch.add_argument("sources", nargs="+", metavar="ID", help="pdb:4V5D or emdb:3883")
    fetch.add_argument("--base_url", metavar="URL", help="address of a mirror; default: the public archives")


def _positive(kind: type[int] | type[float]) -> Any:
    def convert(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be > 0, got {text}")
        return value

    convert.__name__ = kind.__name__
    return convert


def _load(options: argparse.Namespace) -> TemplateLibrary:
    from monai_cryo.templates.file import load_templates

    return load_templates(options.file, options.voxel_size, options.box, progress=sys.stderr.isatty())


def _list_templates(options: argparse.Namespace) -> None:
    import numpy as np

    from monai_cryo.templates.template import Template

    library = _load(options)
    print(f"{len(library.classes)} classes, voxel size {library.voxel_size:g} Å, box {library.box}")
    rows = [("index", "class", "structure", "size (nm)", "voxels", "foreground")]
    for index, (class_name, members) in enumerate(library.templates.items()):
        for member in members:
            item = library.place(member, np.random.RandomState(0))
            mask = item["mask"][0].numpy()
            size = "drawn anew"
            if isinstance(member, Template):
                extent = [np.ptp(axis) + 1 for axis in mask.nonzero()]
                size = " x ".join(f"{0.1 * library.voxel_size * n:.1f}" for n in extent)
            share = f"{100 * mask.mean():.2f} %"
            rows.append((str(index), class_name, member.name, size, str(int(mask.sum())), share))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _show_templates(options: argparse.Namespace) -> None:
    from monai_cryo.visualize.templates import show_templates

    print(show_templates(_load(options), options.output))


def _build_templates(options: argparse.Namespace) -> None:
    import json

    from monai_cryo.io.atomic import write_text
    from monai_cryo.templates.file import describe_sources, save_templates

    library = _load(options)
    if options.output.resolve() == options.file.resolve().parent:
        raise ValueError(f"--output {options.output} is the folder of {options.file}; name another one")
    file = save_templates(library, options.output)
    provenance = {
        "command": f"python -m monai_cryo templates build {options.file.name}",
        "version": __version__,
        "voxel_size": library.voxel_size,
        "box": library.box,
        "structures": describe_sources(options.file),
    }
    write_text(options.output / "provenance.json", json.dumps(provenance, indent=1, ensure_ascii=False) + "\n")
    print(file)


def _fetch_templates(options: argparse.Namespace) -> None:
    from monai_cryo.templates.archive import fetch

    for source in options.sources:
        print(fetch(source, base_url=options.base_url))


def _add_gallery(verbs: Verbs) -> None:
    about = "Draw simulated slices: one class a column, one imaging parameter at random in each row."
    gallery = verbs.add_parser("gallery", help=about, description=about, allow_abbrev=False)
    gallery.set_defaults(run=_draw_gallery)
    gallery.add_argument("--output", type=Path, default=Path("gallery.png"), metavar="PNG", help="%(default)s")
    gallery.add_argument("--spectra", type=Path, metavar="PNG", help="log power spectra of the same volumes, x-z")
    gallery.add_argument("--templates", type=Path, metavar="FILE", help="YAML of classes; default: the embedded ones")
    gallery.add_argument("--seed", type=int, default=0, help="%(default)s")


def _draw_gallery(options: argparse.Namespace) -> None:
    from monai_cryo.templates.file import load_templates
    from monai_cryo.visualize.gallery import draw_gallery, draw_spectra

    library = load_templates(options.templates)
    for path, draw in ((options.output, draw_gallery), (options.spectra, draw_spectra)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(library, seed=options.seed).savefig(path, dpi=110)
            print(path)


def _add_bundle(verbs: Verbs) -> None:
    about = "Print the folder of the MONAI bundle, for --bundle_root."
    verbs.add_parser("bundle", help=about, description=about).set_defaults(run=_print_bundle)


def _print_bundle(options: argparse.Namespace) -> None:
    from monai_cryo.bundle import bundle_root

    print(bundle_root())
