"""Objects that remember how they were made: a repr that shows it, a configuration that makes their equal."""

from __future__ import annotations

import importlib
import inspect
import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor


class Described:
    """Remember the constructor's arguments, for a ``repr`` that shows them and a configuration that makes another."""

    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Note the arguments; the constructor says what is wrong with them."""
        self = super().__new__(cls)
        self._arguments = {}
        try:
            bound = inspect.signature(cls).bind(*args, **kwargs)
        except TypeError:  # also when unpickled, without arguments: the state brings them
            return self
        bound.apply_defaults()
        self._arguments = dict(bound.arguments)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={_short(v)}' for k, v in self._arguments.items())})"

    def config(self) -> dict[str, Any]:
        """Return ``{"_target_": ..., **arguments}``, plain values from which MONAI's ConfigParser makes its equal.

        Raises
        ------
        ValueError
            If an argument, such as a tensor, is no plain value.
        """
        values = {k: plain_value(v, f"{type(self).__name__}'s {k}") for k, v in self._arguments.items()}
        return {"_target_": public_path(type(self)), **values}


def _short(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"<{type(value).__name__} {tuple(value.shape)}>"
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor | np.ndarray):
        return f"<{len(value)} arrays>"
    return repr(value) if isinstance(value, Described) or _holds(value) else reprlib.repr(value)


def _holds(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(v, Described) for v in value)


def plain_value(value: Any, what: str) -> Any:
    """Return a value as JSON would give it back: mappings, lists, numbers, words, None; arrays as lists.

    Raises
    ------
    ValueError
        If it is, or holds, anything else; the message begins with ``what``.
    """
    if isinstance(value, Described):
        return value.config()
    if isinstance(value, Mapping):
        return {str(k): plain_value(v, what) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain_value(v, what) for v in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and not math.isnan(value)):
        return value
    raise ValueError(f"{what} is no plain value that a configuration could hold: {type(value).__name__}")


def public_path(made: Callable[..., Any]) -> str:
    """Return the shortest full name of a class or function: that of the outermost package which offers it."""
    module, name = made.__module__, made.__qualname__
    parts = module.split(".")
    for n in range(2, len(parts)):
        if getattr(importlib.import_module(".".join(parts[:n])), name, None) is made:
            return ".".join([*parts[:n], name])
    return f"{module}.{name}"
