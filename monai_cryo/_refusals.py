"""A refusal of input is one line; a defect of the program keeps its traceback."""

from __future__ import annotations

import dis
import os
import sys
from pathlib import Path
from types import TracebackType

_PACKAGE = Path(__file__).resolve().parent
_RAISE = dis.opmap["RAISE_VARARGS"]
_SWITCH = "MONAI_CRYO_TRACEBACK"


def is_refusal(error: BaseException) -> bool:
    """Tell a refusal from a defect by where it comes from.

    A refusal is a ValueError or FileNotFoundError that a ``raise`` statement of this package raised, or what the
    machine refuses (no permission, disk full). A ValueError of a library, or of an expression such as ``int("x")`` in
    this package, is a defect: nobody thought of it.
    """
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return error.errno is not None and error.filename is not None
    if not isinstance(error, ValueError | FileNotFoundError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code = trace.tb_frame.f_code
    ours = Path(code.co_filename).resolve().is_relative_to(_PACKAGE)
    return ours and code.co_code[trace.tb_lasti] == _RAISE


def find_refusal(error: BaseException, *also: type[BaseException]) -> BaseException | None:
    """Return the refusal behind an error, for MONAI wraps what its parts raise in others; None for a defect.

    Errors of the types `also` count as refusals.
    """
    cause: BaseException | None = error
    while cause is not None and not (is_refusal(cause) or isinstance(cause, also)):
        cause = cause.__cause__
    return cause


def traceback_wanted() -> bool:
    """Whether refusals, too, are to be shown with their traceback: the variable MONAI_CRYO_TRACEBACK is set."""
    return bool(os.environ.get(_SWITCH))


def show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a refusal alone, without the RuntimeErrors that MONAI wraps it in; all else with its traceback.

    For `sys.excepthook`. The environment variable MONAI_CRYO_TRACEBACK, set to anything, shows every traceback.
    """
    refusal = find_refusal(error)
    if refusal is None or traceback_wanted():
        sys.__excepthook__(kind, error, trace)
    else:
        line = " ".join(str(refusal).split())
        print(f"monai_cryo: error: {line} ({_SWITCH}=1 shows where)", file=sys.stderr)
