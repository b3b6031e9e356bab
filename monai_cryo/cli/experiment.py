"""The verb ``experiment``: ways to train, compared on common test sets, as in the paper's Table I."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from monai_cryo.cli.parser import Verbs, add_verb, place


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "Train several recipes alike and judge them on common test sets; goes on where it was cut off."
    verb = add_verb(verbs, "experiment", about, "monai_cryo experiment --scale quick --seeds 0")
    verb.set_defaults(run=_experiment)
    note = "quick (minutes on two cores), cpu (hours) or paper (a GPU)"
    verb.add_argument("--scale", required=True, metavar="NAME", help=note)
    note = "with commas; or ablation; default: fixed_parameters,paper,robust"
    verb.add_argument("--arms", type=_words, metavar="NAMES", help=note)
    verb.add_argument("--seeds", type=_numbers, default=(0, 1, 2), metavar="N,N", help="default: 0,1,2")
    verb.add_argument("--output", type=place, metavar="DIR", help="default: runs/experiment_SCALE")
    data = Path(os.environ.get("MONAI_CRYO_DATA", "data"))
    note = "folder with real/ and simulated/; default: $MONAI_CRYO_DATA or data"
    verb.add_argument("--data", type=place, default=data, metavar="DIR", help=note)
    verb.add_argument("--templates", metavar="FILE", help="YAML of classes for all arms; default: the arms' own")
    verb.add_argument("--plan", type=place, metavar="YAML", help="scales and arms; default: the package's")


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be whole numbers with commas, got {text!r}") from error


def _experiment(options: argparse.Namespace) -> None:
    from monai_cryo.experiment import run_experiment

    results = run_experiment(
        options.scale,
        options.output or Path("runs") / f"experiment_{options.scale}",
        arms=options.arms,
        seeds=options.seeds,
        data=options.data,
        templates=options.templates,
        plan=options.plan,
        say=partial(print, flush=True),
        progress=True,
    )
    print(results)
