"""The verb ``pick``: whole tomograms to particle positions."""

from __future__ import annotations

import argparse
import warnings
from typing import get_args

from monai_cryo._defaults import MIN_SCORE
from monai_cryo._typing import PickFormat
from monai_cryo.cli.parser import Verbs, load_model, positive, reading_verb
from monai_cryo.cli.segment import INPUTS, add_reading_options, make_workflow

_FORMATS = get_args(PickFormat)


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "Find the particles in whole tomograms: positions for other programs, labels, and a picture."
    example = "tomograms/*.mrc --output picks --format relion5"
    verb = reading_verb(verbs, "pick", about, example, INPUTS)
    add_reading_options(verb)
    note = f"{', '.join(_FORMATS)}; default: csv"
    verb.add_argument("--format", nargs="+", choices=_FORMATS, default=["csv"], metavar="NAME", help=note)
    note = "Å a tilt-series pixel has, for RELION; default: as listed, or the tomograms' voxels"
    verb.add_argument("--tilt_apix", type=positive(float), metavar="A", help=note)
    verb.add_argument("--min_score", type=float, default=MIN_SCORE, metavar="P", help="least score, 0..1; %(default)s")
    verb.set_defaults(run=_pick)


def _pick(options: argparse.Namespace) -> None:
    from monai_cryo.inferers import pick_tomograms
    from monai_cryo.io import tomogram_name

    workflow, paths = make_workflow(options, load_model(options), min_score=options.min_score)
    unlisted = {tomogram_name(path) for path in paths} - set(workflow.listed)
    if "relion4" in options.format and options.tilt_apix is None and unlisted:
        said = "RELION 4 counts pixels of the tilt series: those of the tomograms are written, for want of --tilt_apix"
        warnings.warn(f"{said} ({len(unlisted)} tomograms)", stacklevel=1)
    files = pick_tomograms(workflow, paths, options.format, voxel_size=options.apix, pixel_size=options.tilt_apix)
    for file in files:
        print(file)
