"""Names for the few closed sets of words that arguments take."""

from __future__ import annotations

from typing import Literal

CTFMode = Literal["raw", "flip", "abs"]
Contrast = Literal["dark", "bright"]
Axis = Literal["z", "y", "x"]
Region = Literal["box", "mask"]
NoiseStage = Literal["before", "after", "split"]
