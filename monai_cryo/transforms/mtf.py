"""The detector's modulation transfer as a transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_cryo.physics.detector import curve_mtf, sinc_mtf
from monai_cryo.transforms.base import DictTransform, RandDictTransform, RandPhysics, Range, parse_range
from monai_cryo.transforms.fourier import RadialFilter, RandFilter


class MTF(RadialFilter):
    """Damp fine detail as the detector does, by ``sin(x) / x`` or a measured curve.

    Parameters
    ----------
    scale
        Pixel width of the sinc in units of the sampling (:func:`monai_cryo.physics.sinc_mtf`); 0 changes nothing.
    curve
        Measured instead: rows (fraction of Nyquist, value); :func:`monai_cryo.data.read_mtf` reads them from a file.

    Raises
    ------
    ValueError
        On a negative scale or a table that is no curve.
    """

    def __init__(self, scale: float = 1.0, *, curve: Sequence[Sequence[float]] | None = None) -> None:
        super().__init__()
        self.scale = parse_range("scale", scale, low=0.0)[0]
        self.curve = None if curve is None else [[float(v) for v in row] for row in curve]
        self.profile(torch.ones(1), 1.0)  # refuse a bad table now

    def profile(self, frequency: Tensor, nyquist: float) -> Tensor:
        """MTF (1, R)."""
        if self.curve is not None:
            return curve_mtf(frequency, nyquist, self.curve)[None]
        return sinc_mtf(frequency, nyquist, self.scale)[None]


class RandMTF(RandFilter, RadialFilter):
    """Damp fine detail by ``sin(x) / x`` of a random width.

    Parameters
    ----------
    scale
        As for :class:`MTF`; a number or a uniform (min, max).
    prob, channel_wise
        As for :class:`~.base.RandPhysics`.

    Raises
    ------
    ValueError
        On a negative scale or min > max.
    """

    def __init__(self, scale: Range = (0.0, 1.0), prob: float = 1.0, channel_wise: bool = False) -> None:
        RandPhysics.__init__(self, prob, channel_wise)
        RadialFilter.__init__(self)
        self.scale = parse_range("scale", scale, low=0.0)

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw the width."""
        return {"scale": self.uniform(self.scale, n)}

    def profile(self, frequency: Tensor, nyquist: float) -> Tensor:
        """MTF (C or 1, R)."""
        return self.only_active(sinc_mtf(frequency, nyquist, torch.as_tensor(self.params["scale"])))


class MTFd(DictTransform):
    """Dictionary version of :class:`MTF`: ``keys`` and its arguments."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, MTF(**kwargs), allow_missing_keys)


class RandMTFd(RandDictTransform):
    """Dictionary version of :class:`RandMTF`: ``keys`` and its arguments."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, RandMTF(**kwargs), allow_missing_keys)


MTFD = MTFDict = MTFd
RandMTFD = RandMTFDict = RandMTFd
