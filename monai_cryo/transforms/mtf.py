"""The detector's modulation transfer as a transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from monai_cryo.physics.detector import curve_mtf, sinc_mtf
from monai_cryo.transforms.base import Draw, Parameters, RandDrawable, column
from monai_cryo.transforms.dictionary import DictTransform, RandDictTransform
from monai_cryo.transforms.fourier import FourierFilter
from monai_cryo.transforms.plan import Grid
from monai_cryo.transforms.ranges import Range, parse_number, parse_range, parse_table, uniform


class MTF(FourierFilter):
    """Damp fine detail as the detector does, by ``sin(x) / x`` or a measured curve.

    Parameters
    ----------
    scale
        Pixel width of the sinc in units of the sampling (:func:`monai_cryo.physics.sinc_mtf`); 0 changes nothing.
    curve
        Measured instead: rows (fraction of Nyquist, value); :func:`monai_cryo.io.read_mtf` reads them from a file.

    Raises
    ------
    ValueError
        On a negative scale or a table that is no curve.
    """

    def __init__(self, scale: float = 1.0, *, curve: Sequence[Sequence[float]] | None = None) -> None:
        super().__init__()
        self.scale = (parse_number("scale", scale, low=0.0),) * 2
        self.curve = parse_table("curve", curve)
        if self.curve is not None:
            curve_mtf(torch.ones(1), 1.0, self.curve)  # refuse a bad table now

    def draw(self, state: np.random.RandomState) -> Draw:
        """Draw the width; none where there is a measured curve."""
        return {"scale": uniform(state, self.scale)} if self.curve is None else {}

    def transfer(self, grid: Grid, parameters: Sequence[Parameters]) -> Tensor:
        """MTF (B or 1, R)."""
        if self.curve is not None:
            return curve_mtf(grid.frequency, grid.nyquist, self.curve)[None]
        return sinc_mtf(grid.frequency, grid.nyquist, column(parameters, "scale", grid.frequency))


class RandMTF(RandDrawable, MTF):
    """Damp fine detail by ``sin(x) / x`` of a random width.

    Parameters
    ----------
    scale
        As for :class:`MTF`; a number or a uniform (min, max).
    prob
        Probability that an item is filtered.

    Raises
    ------
    ValueError
        On a negative scale or min > max.
    """

    def __init__(self, scale: Range = (0.0, 1.0), prob: float = 1.0) -> None:
        RandDrawable.__init__(self, prob)
        MTF.__init__(self)
        self.scale = parse_range("scale", scale, low=0.0)

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw the width."""
        return {"scale": uniform(state, self.scale)}


class MTFd(DictTransform, of=MTF):
    """Dictionary version of :class:`MTF`."""


class RandMTFd(RandDictTransform, of=RandMTF):
    """Dictionary version of :class:`RandMTF`."""


MTFD = MTFDict = MTFd
RandMTFD = RandMTFDict = RandMTFd
