"""The verb ``gallery``: what the simulation looks like."""

from __future__ import annotations

import argparse
from pathlib import Path

from monai_cryo.cli.parser import Verbs, add_verb, place, whole


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "Draw simulated slices: one class a column, one imaging parameter at random in each row."
    gallery = add_verb(verbs, "gallery", about, "monai_cryo gallery --output gallery.png")
    gallery.set_defaults(run=_draw_gallery)
    gallery.add_argument("--output", type=place, default=Path("gallery.png"), metavar="PNG", help="%(default)s")
    gallery.add_argument("--spectra", type=place, metavar="PNG", help="log power spectra of the same volumes, x-z")
    gallery.add_argument("--templates", type=place, metavar="FILE", help="YAML of classes; default: the embedded ones")
    gallery.add_argument("--seed", type=whole(0), default=0, help="%(default)s")


def _draw_gallery(options: argparse.Namespace) -> None:
    from monai_cryo.io.atomic import replacing
    from monai_cryo.templates.file import load_templates
    from monai_cryo.visualize.gallery import draw_gallery, draw_spectra
    from monai_cryo.visualize.png import check_png

    wanted = [(check_png(options.output), draw_gallery)]
    wanted += [(check_png(options.spectra), draw_spectra)] if options.spectra is not None else []
    library = load_templates(options.templates)
    for path, draw in wanted:
        figure = draw(library, seed=options.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            figure.savefig(part, dpi=110)
        print(path)
