"""Objects that remember how they were made: a repr that shows it, a configuration that makes their equal."""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Mapping
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
        room = ".".join(type(self).__module__.split(".")[:2])
        values = {k: _plain(v, f"{type(self).__name__}'s {k}") for k, v in self._arguments.items()}
        return {"_target_": f"{room}.{type(self).__name__}", **values}


def _short(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"<{type(value).__name__} {tuple(value.shape)}>"
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor | np.ndarray):
        return f"<{len(value)} arrays>"
    return repr(value) if isinstance(value, Described) or _holds(value) else reprlib.repr(value)


def _holds(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(v, Described) for v in value)


def _plain(value: Any, what: str) -> Any:
    if isinstance(value, Described):
        return value.config()
    if isinstance(value, Mapping):
        return {str(k): _plain(v, what) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, what) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and not math.isnan(value)):
        return value
    raise ValueError(f"{what} is no plain value that a configuration could hold: {type(value).__name__}")
