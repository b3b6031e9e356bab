"""The verb ``pick``: whole tomograms to particle positions."""

from __future__ import annotations

import argparse

from monai_cryo.cli.parser import Verbs, load_model, positive, reading_verb
from monai_cryo.cli.segment import INPUTS, add_reading_options, make_workflow

_FORMATS = ("relion5", "relion4", "csv", "copick")


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "Find the particles in whole tomograms: positions for other programs, labels, and a picture."
    example = "tomograms/*.mrc --output picks --format relion5"
    verb = reading_verb(verbs, "pick", about, example, INPUTS)
    add_reading_options(verb)
    note = "csv, relion5, relion4 (Warp, M), copick; one or several; default: csv"
    verb.add_argument("--format", nargs="+", choices=_FORMATS, default=["csv"], metavar="NAME", help=note)
    note = "Å a tilt-series pixel has, for RELION; default: as listed, or the tomograms' voxels"
    verb.add_argument("--tilt_apix", type=positive(float), metavar="A", help=note)
    verb.add_argument("--min_score", type=float, default=0.33, metavar="P", help="least score, 0..1; %(default)s")
    verb.set_defaults(run=_pick)


def _pick(options: argparse.Namespace) -> None:
    from monai_cryo.inferers import tilt_pixel_size, write_pick_files

    model = load_model(options)
    workflow, paths = make_workflow(options, model, min_score=options.min_score)
    if {"relion4", "relion5"} & set(options.format):
        tilt_pixel_size(workflow.listed, options.tilt_apix)  # refused before the tomograms are read
    try:
        workflow.run(paths, options.apix)
    finally:  # of those that were read, whatever became of the others
        records = workflow.records(paths)
        written = []
        while records:
            written = write_pick_files(
                options.output,
                records,
                model.classes,
                options.format,
                pixel_size=options.tilt_apix,
                listed=workflow.listed,
            )
            # another process may have finished while these were written
            now = workflow.records(paths)
            if len(now) == len(records):
                break
            records = now
    for file in written:
        print(file)
