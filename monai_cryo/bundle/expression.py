"""Which values of a config are evaluated."""

from __future__ import annotations

from typing import Any


def is_expression(value: Any) -> bool:
    """Whether a value is a reference (``@``), an expression (``$``) or a macro (``%``) of MONAI's."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))
