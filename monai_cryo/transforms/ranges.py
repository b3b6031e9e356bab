"""How arguments of transforms are read and drawn: a number is fixed, a pair a range, words have weights."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, get_args

import numpy as np

Range = float | Sequence[float]
Choice = str | Sequence[str] | Mapping[str, float]
Bounds = tuple[float, float]


def parse_range(
    name: str, value: Range, low: float = -math.inf, high: float = math.inf, *, infinite: bool = False
) -> Bounds:
    """Read a number (fixed) or a pair (uniform range); numpy's numbers too.

    Raises
    ------
    ValueError
        If it is neither, min > max, an end lies outside ``low``..``high``, or is infinite, unless ``infinite`` allows
        it for a number.
    """
    pair = _numbers(value)
    if len(pair) not in (1, 2):
        raise ValueError(f"{name} must be a number or a (min, max) pair of numbers, got {value!r}")
    first, last = pair[0], pair[-1]
    if first > last:
        raise ValueError(f"{name} must have min <= max, got {value!r}")
    if not (math.isfinite(first) and math.isfinite(last)) and (first != last or not infinite):
        expected = "can be infinite only as a fixed value" if infinite else "must be finite"
        raise ValueError(f"{name} {expected}, got {value!r}")
    if first < low or last > high:
        raise ValueError(f"{name} must lie in {low:g}..{high:g}, got {value!r}")
    return first, last


def parse_number(
    name: str, value: float, low: float = -math.inf, high: float = math.inf, *, infinite: bool = False
) -> float:
    """Read one number where no range is meant.

    Raises
    ------
    ValueError
        If it is none, outside ``low``..``high``, or infinite, unless that is allowed.
    """
    numbers = _numbers(value)
    if len(numbers) != 1 or isinstance(value, Sequence) or np.ndim(value):
        raise ValueError(f"{name} must be one number, got {value!r}")
    return parse_range(name, value, low, high, infinite=infinite)[0]


def parse_whole(name: str, value: float, low: int = 1) -> int:
    """Read one whole number.

    Raises
    ------
    ValueError
        If it is none, or below ``low``.
    """
    number = parse_number(name, value)
    if not number.is_integer() or number < low:
        raise ValueError(f"{name} must be a whole number >= {low}, got {value!r}")
    return int(number)


def parse_tilt_range(name: str, value: Sequence[float]) -> Bounds:
    """Read (min, max) tilt in degrees.

    Raises
    ------
    ValueError
        Unless -90 <= min < max <= 90.
    """
    pair = _numbers(value)
    if len(pair) != 2 or not -90 <= pair[0] < pair[1] <= 90:
        raise ValueError(f"{name} must be (min, max) with -90 <= min < max <= 90 degrees, got {value!r}")
    return pair[0], pair[1]


def parse_positive(name: str, value: Range, *, infinite: bool = False) -> Bounds:
    """Read a number or a range that must lie above 0."""
    bounds = parse_range(name, value, infinite=infinite)
    if bounds[0] <= 0:
        raise ValueError(f"{name} must be > 0, got {value!r}")
    return bounds


def parse_table(name: str, rows: Any) -> list[list[float]] | None:
    """Read rows of numbers, such as a measured curve; None stays None.

    Raises
    ------
    ValueError
        If they are no rows of numbers, all equally long.
    """
    if rows is None:
        return None
    given = rows.tolist() if isinstance(rows, np.ndarray) else rows
    table = [_numbers(row) for row in given] if isinstance(given, Sequence) and not isinstance(given, str) else []
    if not table or not all(row and len(row) == len(table[0]) for row in table):
        raise ValueError(f"{name} must be rows of numbers, got {reprlib.repr(rows)}")
    return table


def parse_choice(name: str, value: Choice, words: Any) -> dict[str, float]:
    """Read one word, several (equally likely), or words with weights: word -> probability.

    Raises
    ------
    ValueError
        On a word that is not of ``words``, a ``Literal``, or weights that are not >= 0 with a positive sum.
    """
    if isinstance(value, Mapping):
        weights = dict(value)
    else:
        given = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        weights = {word if isinstance(word, str) else None: 1.0 for word in given}
    known = get_args(words)
    if not weights or not all(word in known for word in weights):
        raise ValueError(f"{name} must be one or several of {', '.join(known)}, got {value!r}")
    numbers = [_numbers(weight) for weight in weights.values()]
    if not all(len(n) == 1 and 0 <= n[0] < math.inf for n in numbers) or not sum(n[0] for n in numbers) > 0:
        raise ValueError(f"the weights of {name} must be numbers >= 0 with a positive sum, got {value!r}")
    total = sum(n[0] for n in numbers)
    return {word: n[0] / total for word, n in zip(weights, numbers, strict=True)}


def uniform(state: np.random.RandomState, bounds: Bounds, *size: int) -> Any:
    """Draw a uniform number, or a (nested) list of them of the given size."""
    fixed = bounds[0] == bounds[1]
    if not size:
        return bounds[0] if fixed else float(state.uniform(*bounds))
    return np.full(size, bounds[0]).tolist() if fixed else state.uniform(*bounds, size=size).tolist()


def log_uniform(state: np.random.RandomState, bounds: Bounds) -> float:
    """Draw a log-uniform number."""
    if bounds[0] == bounds[1]:
        return bounds[0]
    return float(np.exp(state.uniform(math.log(bounds[0]), math.log(bounds[1]))))


def choose(state: np.random.RandomState, options: Mapping[str, float]) -> str:
    """Draw one of the words of :func:`parse_choice`."""
    words = list(options)
    if len(words) == 1:
        return words[0]
    at = np.searchsorted(np.cumsum(list(options.values())), state.rand(), side="right")
    return words[min(int(at), len(words) - 1)]


def draw_seed(state: np.random.RandomState) -> int:
    """Draw the seed of a generator that makes what is too large to be a parameter, such as noise."""
    return int(state.randint(0, 2**31 - 1))


def _numbers(value: Any) -> list[float]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not all(isinstance(v, Real) and not isinstance(v, bool) and not math.isnan(v) for v in items):
        return []
    return [float(v) for v in items]
