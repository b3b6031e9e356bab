"""One line for what is refused, a traceback for what is broken."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from monai_cryo._refusals import is_refusal, show_error
from monai_cryo._typing import parse_contrast
from monai_cryo.io import atomic
from monai_cryo.networks import FactSheet


def caught(call, *args, **options):
    with pytest.raises(Exception) as error:  # noqa: PT011
        call(*args, **options)
    return error.value


@pytest.mark.parametrize(
    ("call", "args", "refused"),
    [
        (parse_contrast, ("grey",), True),  # a `raise` of this package
        (atomic.write_text, ("/nowhere/x", "text"), True),
        (open, ("/dev/null/x",), True),  # the machine refuses
        (int, ("x",), False),  # a library's ValueError
        (np.zeros(3).reshape, (2, 2), False),
        (parse_contrast, ("dark", 1, 2), False),  # TypeError
        (open, ("/nowhere/x",), False),  # nobody asked for this file by name
    ],
)
def test_only_what_this_package_raises_is_a_refusal(call, args, refused):
    assert is_refusal(caught(call, *args)) is refused


def test_a_value_error_that_no_raise_statement_of_the_package_raised_is_a_defect():
    """`json.dumps` within the package stumbles over what was never checked."""
    sheet = FactSheet({})
    sheet.facts["itself"] = sheet.facts
    error = caught(sheet.get_extra_state)
    assert isinstance(error, ValueError)
    assert not is_refusal(error)


def raise_wrapped(error):
    raise RuntimeError("Failed to instantiate") from error


def test_the_line_names_the_way_to_the_traceback(capsys, monkeypatch):
    monkeypatch.delenv("MONAI_CRYO_TRACEBACK", raising=False)
    error = caught(raise_wrapped, caught(parse_contrast, "grey"))
    show_error(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert said == (
        "monai_cryo: error: contrast must be dark or bright (of the protein), got 'grey' "
        "(MONAI_CRYO_TRACEBACK=1 shows where)\n"
    )
    monkeypatch.setenv("MONAI_CRYO_TRACEBACK", "1")
    show_error(type(error), error, error.__traceback__)
    assert "Traceback" in capsys.readouterr().err


def test_defects_keep_their_traceback(capsys, monkeypatch):
    monkeypatch.delenv("MONAI_CRYO_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "__excepthook__", lambda kind, error, trace: print("page of", kind.__name__))
    error = caught(raise_wrapped, caught(int, "x"))
    show_error(type(error), error, error.__traceback__)
    shown = capsys.readouterr()
    assert shown.out == "page of RuntimeError\n"
    assert shown.err == ""
