"""The verb ``segment``: whole tomograms to label volumes; and what ``pick`` shares with it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_cryo.cli.parser import Parser, Verbs, add_by_class, device, load_model, place, reading_verb

if TYPE_CHECKING:
    from monai_cryo.inferers import TomogramWorkflow

INPUTS = "tomograms: MRC files, folders of them, globs in quotes, RELION 5's tomograms.star"


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "Outline every class in whole tomograms: a label MRC on the tomogram's own grid, and a picture."
    verb = reading_verb(verbs, "segment", about, "tomograms/*.mrc --output labels", INPUTS)
    add_reading_options(verb)
    verb.set_defaults(run=_segment)


def add_reading_options(verb: Parser) -> None:
    """Add the options of reading tomograms."""
    note = "a particle's diameter; 0: not a particle, such as a membrane; default: as --templates have it"
    add_by_class(verb, "--diameter", "A", note)
    verb.add_argument("--templates", type=place, metavar="FILE", help="YAML of classes; default: robust")
    verb.add_argument("--scores", action="store_true", help="write each class's score as an MRC volume, too")
    verb.add_argument("--stride", type=int, choices=(2, 4, 8), default=8, help="voxels between windows; %(default)s")
    verb.add_argument("--no_picture", action="store_true", help="draw nothing")


def make_workflow(options: argparse.Namespace, model: Any, **more: Any) -> tuple[TomogramWorkflow, list[Path]]:
    """Return the workflow of the options, and the tomograms; refuse what is wrong with either."""
    from monai_cryo.inferers import (
        TomogramReader,
        TomogramWorkflow,
        list_tomograms,
        listed_tomograms,
        particle_diameters,
    )
    from monai_cryo.io import check_folder
    from monai_cryo.templates import load_templates

    check_folder(options.output)
    logging.basicConfig(format="monai_cryo: %(message)s")
    library = load_templates(options.templates or "robust")
    diameters = particle_diameters(model.classes, library, dict(options.diameter))
    paths = list_tomograms(options.inputs)
    reader = TomogramReader(
        model,
        diameters,
        device=device(options),
        contrast="bright" if options.invert else "dark",
        stride=options.stride,
        flips=options.tta,
    )
    workflow = TomogramWorkflow(
        reader,
        str(options.output),
        save_scores=options.scores,
        overwrite=options.overwrite,
        picture=not options.no_picture,
        listed=listed_tomograms(options.inputs),
        **more,
    )
    return workflow, paths


def _segment(options: argparse.Namespace) -> None:
    workflow, paths = make_workflow(options, load_model(options), pick=False)
    workflow.run(paths, options.apix)
    print(options.output)
