"""Nested parameters as the columns of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["parameter_columns"]

# numbers of a range, a position or a shift are shown; matrices, curves and fields are not
_LONGEST = 3


def parameter_columns(drawn: Mapping[str, Any] | None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and value of every number, word and short list of nested parameters; names joined by points.

    Parameters
    ----------
    drawn
        What transforms drew for an item; None, also inside: nothing.
    prefix
        In front of every name.
    """
    for key, value in (drawn or {}).items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from parameter_columns(value, f"{name}.")
        elif isinstance(value, list | tuple):
            if len(value) <= _LONGEST and not any(isinstance(v, list | tuple) for v in value):
                yield from parameter_columns({str(i): v for i, v in enumerate(value)}, f"{name}.")
        elif value is not None:
            yield name, value
