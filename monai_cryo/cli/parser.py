"""What the verbs share of argparse, and the options that several of them have."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction["Parser"]
else:
    Verbs = Any


class Parser(argparse.ArgumentParser):
    """A parser whose refusals are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with code 2."""
        self.exit(2, f"monai_cryo: error: {message} (see {self.prog} --help)\n")


def add_verb(verbs: Verbs, name: str, about: str, example: str, **options: Any) -> Parser:
    """Add a verb, whose help fits one screen and ends with an example."""
    verb: Parser = verbs.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example: python -m {example}",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32),
        **options,
    )
    return verb


def place(text: str) -> Path:
    """Convert to a path; an empty word, such as that of a variable that is not set, is none."""
    if not text:
        raise argparse.ArgumentTypeError("must name a file or folder, got ''")
    return Path(text)


def positive(kind: type[int] | type[float]) -> Any:
    """Return a converter to a finite number > 0."""

    def convert(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be > 0, got {text}")
        return value

    convert.__name__ = kind.__name__
    return convert


def whole(low: int) -> Any:
    """Return a converter to a whole number from `low` on and below 2^32."""

    def convert(text: str) -> int:
        value = int(text)
        if not low <= value < 1 << 32:
            raise argparse.ArgumentTypeError(f"must be {low} to 2^32 - 1, got {text}")
        return value

    convert.__name__ = "int"
    return convert


def add_by_class(verb: Parser, name: str, unit: str, note: str) -> None:
    """Add an option that gives classes a number >= 0, ``--name CLASS=X [CLASS=X ...]``: a list of pairs."""

    def convert(text: str) -> tuple[str, float]:
        name, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not (name and 0 <= number < float("inf")):
            raise argparse.ArgumentTypeError(f"must read CLASS={unit}, got {text}")
        return name, number

    verb.add_argument(name, action="extend", nargs="+", type=convert, default=[], metavar=f"CLASS={unit}", help=note)


def reading_verb(verbs: Verbs, name: str, about: str, example: str, inputs: str) -> Parser:
    """Add a verb that reads images with a model, and the options that all such have."""
    usage = f"monai_cryo {name} INPUT [INPUT ...] --output DIR [options]"
    verb = add_verb(verbs, name, about, f"monai_cryo {name} {example}", usage=usage)
    verb.add_argument("inputs", nargs="+", metavar="INPUT", help=inputs)
    verb.add_argument("--output", type=place, required=True, metavar="DIR", help="folder for the results")
    verb.add_argument("--model", type=place, metavar="PT", help="model file; default: the one the bundle ships")
    note = "how common a class is beside the others, 0: not there; default: as the model says"
    add_by_class(verb, "--abundance", "X", note)
    verb.add_argument("--apix", type=positive(float), metavar="A", help="voxel size in Å, in place of the headers'")
    verb.add_argument("--invert", action="store_true", help="the protein is bright; default: dark, as reconstructed")
    verb.add_argument("--tta", action="store_true", help="average four mirror images that keep the missing wedge")
    verb.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1; default: a GPU where there is one")
    verb.add_argument("--overwrite", action="store_true", help="do it anew; default: go on where a call ended")
    return verb


def load_model(options: argparse.Namespace) -> Any:
    """Return the model that the options name, with the abundances that they give."""
    from monai_cryo.bundle import bundle_root, read_model

    return read_model(options.model or bundle_root() / "models" / "model.pt", dict(options.abundance))


def device(options: argparse.Namespace) -> Any:
    """Return the torch device that the options name.

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    import torch

    from monai_cryo.bundle.device import check_device

    # the processes that torchrun starts on one machine share its GPUs out
    rank = os.environ.get("LOCAL_RANK", "0")
    number = (int(rank) if rank.isdecimal() else 0) % max(1, torch.cuda.device_count())
    name = options.device or (f"cuda:{number}" if torch.cuda.is_available() else "cpu")
    check_device(name)
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from error
