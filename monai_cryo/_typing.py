"""The closed sets of words that arguments take, and the one place where they are checked."""

from __future__ import annotations

from typing import Any, Literal, get_args

CTFMode = Literal["raw", "flip", "squared", "wiener"]
Contrast = Literal["dark", "bright"]
Axis = Literal["z", "y", "x"]
Region = Literal["box", "mask"]
NoiseStage = Literal["before", "after", "split"]
Split = Literal["train", "validation", "test"]
PickFormat = Literal["csv", "relion5", "relion4", "warp", "copick"]
Precision = Literal["auto", "float32", "bfloat16"]


def check_word(name: str, value: Any, words: Any) -> None:
    """Raise ValueError unless ``value`` is one of the words of a ``Literal``."""
    if not isinstance(value, str) or value not in get_args(words):
        raise ValueError(f"{name} must be one of {', '.join(get_args(words))}, got {value!r}")


def parse_contrast(value: Any, where: str = "contrast") -> Contrast:
    """Read ``dark`` or ``bright``, also as ``protein dark`` and ``protein bright``.

    Raises
    ------
    ValueError
        On other words; the message begins with ``where``.
    """
    word = value.removeprefix("protein ") if isinstance(value, str) else value
    if not isinstance(word, str) or word not in get_args(Contrast):
        raise ValueError(f"{where} must be dark or bright (of the protein), got {value!r}")
    return "dark" if word == "dark" else "bright"
