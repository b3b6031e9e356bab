"""The verb ``simulate``: labelled subtomograms as files, for training elsewhere and as a common test set."""

from __future__ import annotations

import argparse

from monai_cryo.cli.parser import Verbs, add_verb, place, whole


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = (
        "Simulate labelled subtomograms into MRC files, with dataset.json and parameters.csv; goes on where it ended."
    )
    example = "monai_cryo simulate --number 400 --recipe tilt_series --output sets/tilt_series"
    verb = add_verb(verbs, "simulate", about, example)
    verb.set_defaults(run=_simulate)
    verb.add_argument("--number", type=whole(1), required=True, metavar="N", help="samples, equally many a class")
    verb.add_argument("--output", type=place, required=True, metavar="DIR", help="folder for the set")
    verb.add_argument("--shards", type=whole(1), default=1, metavar="K", help="subfolders; default: %(default)s")
    words = "fixed_parameters, paper, robust or tilt_series; default: %(default)s"
    verb.add_argument("--recipe", default="robust", metavar="NAME", help=words)
    note = "YAML of classes, or robust or unseen; default: the recipe's own"
    verb.add_argument("--templates", metavar="FILE", help=note)
    verb.add_argument("--seed", type=whole(0), default=0, metavar="N", help="%(default)s")
    note = "train, validation or test: no two share a sample; default: %(default)s"
    verb.add_argument("--split", default="test", metavar="NAME", help=note)


def _simulate(options: argparse.Namespace) -> None:
    from monai_cryo.experiment import read_recipe
    from monai_cryo.io import check_folder

    check_folder(options.output)
    recipe = read_recipe(options.recipe, options.templates)
    print(
        recipe.write(
            options.output,
            options.number,
            shards=options.shards,
            seed=options.seed,
            split=options.split,
            progress=True,
        )
    )
