"""The command line, ``python -m monai_cryo VERB``. Only argparse is imported here; each verb imports what it needs.

A module of this room is a verb: ``add(verbs)`` declares its options and sets ``run`` to a function taking the parsed
options. It prints results to stdout; what it refuses becomes one line and exit code 1.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from monai_cryo import __version__
from monai_cryo._refusals import find_refusal, traceback_wanted
from monai_cryo.cli import bundle, classify, experiment, gallery, pick, score, segment, simulate, templates
from monai_cryo.cli.parser import Parser

__all__ = ["build_parser", "main"]


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="monai_cryo",
        description="Recognise and outline molecules in cryo-electron tomograms, trained on simulation alone.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"monai_cryo {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in (classify, segment, pick, score, simulate, experiment, templates, gallery, bundle):
        verb.add(verbs)
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
    parser = build_parser()
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        verb = (sys.argv[1:] if argv is None else argv)[0]
        parser.exit(
            2, f"monai_cryo: error: unrecognized arguments: {' '.join(unknown)} (see monai_cryo {verb} --help)\n"
        )
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
    except Exception as error:
        refusal = find_refusal(error, OSError)
        if refusal is None or traceback_wanted():
            raise
        print(f"monai_cryo: error: {' '.join(str(refusal).split())}", file=sys.stderr)
        return 1
    return 0


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"monai_cryo: warning: {message}", file=sys.stderr)
