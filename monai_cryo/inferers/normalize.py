"""Whole tomograms brought to what a network was trained on: measured once, applied piece by piece."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from monai_cryo.inferers.dense import Prepare, standardize_whole
from monai_cryo.io.tomogram import cut_region, new_map, release_pages
from monai_cryo.physics.detector import curve_mtf
from monai_cryo.physics.fourier import apply_transfer, radial_frequency, radial_power_spectrum
from monai_cryo.transforms import NormalizeSpectrum, Standardize, apply_parts, fixed_parts

__all__ = ["NormalizedTomogram", "SpectrumFilter", "cut_mirrored", "normalize_tomogram"]

_MARGIN = 24  # voxels read around a piece: what the filter carries from farther away is lost in the noise
_PIECE = 112  # with two margins 160, a size that transforms fast
_BOXES, _SCALED = 512, 48  # boxes measured for the spectrum, and for the one scale


class SpectrumFilter:
    r"""`NormalizeSpectrum` for a whole tomogram: one gain and one scale, from the spectra of its boxes.

    The power is the median over boxes as large as the network's, so that gold and empty corners do not count, of shells
    about multiples of 2 / box of Nyquist, averaged over as many as the transform averages. Below the lowest frequency
    of such a box, w\ :sub:`1` = 2 / box of Nyquist, the gain falls as :math:`1 - \mathrm{sinc}(w / w_1)`: what taking a
    box's mean away leaves of slow waves. The scale brings the median variance of boxes to 1.

    Parameters
    ----------
    volume
        [z, y, x], an array or a memory map.
    transform
        What the network was trained with.
    box
        Of the network, voxels.

    Raises
    ------
    ValueError
        If the volume holds values that are not finite, or one value everywhere.
    """

    def __init__(self, volume: NDArray[Any], transform: NormalizeSpectrum, box: int) -> None:
        standardize_whole(volume)  # refuses what cannot be measured
        self.transform, self.box, self.scale = transform, box, 1.0
        self.spectrum = transform.spectrum or self._measure(volume)
        self._gains: dict[tuple[int, ...], Tensor] = {}
        variances = []
        for start in _starts(volume.shape, box, _SCALED):
            inner = self.filtered(volume, start, (box,) * 3)
            variances.append(float(inner.var(correction=0)))
            release_pages(volume)
        positive = [v for v in variances if v > 0]
        self.scale = 1 / math.sqrt(float(np.median(positive))) if positive else 1.0

    def filtered(self, volume: NDArray[Any], start: Sequence[int], size: Sequence[int]) -> Tensor:
        """Return a piece of the volume, normalised; beyond its faces the volume counts as mirrored."""
        wide = cut_mirrored(volume, [s - _MARGIN for s in start], [n + 2 * _MARGIN for n in size])
        gain = self._gain(tuple(wide.shape))
        return self.scale * F.pad(apply_transfer(wide - wide.mean(), gain), [-_MARGIN] * 6)

    def _measure(self, volume: NDArray[Any]) -> list[list[float]]:
        powers, fraction = [], torch.empty(0)
        for start in _starts(volume.shape, self.box, _BOXES):
            part = cut_mirrored(volume, start, (self.box,) * 3)
            part = part - part.mean()
            if float(part.abs().max()) > 0:
                frequency, power = radial_power_spectrum(part, 1.0)
                fraction = frequency * 2
                powers.append(power.double())
            release_pages(volume)
        if not powers:
            raise ValueError(f"expected an image, found one value in each box of {self.box} voxels that was looked at")
        median = torch.stack(powers).median(0).values
        weight = fraction.double().square()  # as a shell has points
        reach = self.transform.smooth_shells // 2
        near = [slice(max(0, n - reach), n + reach + 1) for n in range(len(median))]
        smooth = [float((median[s] * weight[s]).sum() / weight[s].sum().clamp(min=1e-12)) for s in near]
        return [[float(f), p] for f, p in zip(fraction, smooth, strict=True)]

    def _gain(self, shape: tuple[int, ...]) -> Tensor:
        if shape not in self._gains:
            t = self.transform
            w = radial_frequency(shape, 1.0).double() * 2
            first = 2 / self.box
            held = w.clamp(first, t.highest)
            power = curve_mtf(held, 1.0, self.spectrum)
            power = power.clamp(min=max(float(power.max()) / t.gain_cap**2, 1e-30))
            slow = torch.where(w < first, 1 - torch.sinc(w / first), 1.0)
            self._gains[shape] = (t.target_at(held) * slow * (w <= t.highest) / power.sqrt()).float()
        return self._gains[shape]


@dataclass(frozen=True, eq=False)
class NormalizedTomogram:
    """A tomogram, and what brings it to what the network was trained on.

    Attributes
    ----------
    volume
        [z, y, x] at the network's voxel size, in the file's own contrast.
    block
        For a part of the volume, whatever its size: the `prepare` of `DenseInferer`, measured.
    window
        For windows (B, 1, 40, 40, 40) of the volume.
    """

    volume: NDArray[Any]
    block: Prepare
    window: Prepare


def check_normalization(transform: Transform) -> None:
    """Refuse what cannot be measured on a whole tomogram.

    Raises
    ------
    ValueError
        If the transform is neither `Standardize` nor `NormalizeSpectrum`.
    """
    if not isinstance(transform, Standardize | NormalizeSpectrum):
        raise ValueError(f"tomograms can be read with Standardize or NormalizeSpectrum, the model has {transform!r}")


def normalize_tomogram(
    volume: NDArray[Any],
    transform: Transform,
    box: int,
    scratch: str | os.PathLike[str],
    *,
    negate: bool = False,
) -> NormalizedTomogram:
    """Return a volume as the network was trained to see it.

    Parameters
    ----------
    volume
        [z, y, x] at the network's voxel size.
    transform
        The model's own: `Standardize` is applied while the volume is read; of `NormalizeSpectrum` a volume is written,
        because its filter reaches farther than a block does. Windows are standardised each, but for a model that was
        trained on whole batches standardised.
    box
        Of the network, voxels.
    scratch
        A file of plain float32 values to write where one is needed.
    negate
        The volume's contrast is the opposite of the model's.

    Raises
    ------
    ValueError
        If the volume holds values that are not finite, or one value everywhere, or the transform is another one.
    """
    check_normalization(transform)
    sign = -1.0 if negate else 1.0
    each = fixed_parts(Standardize("item"))

    def window(windows: Tensor) -> Tensor:
        return apply_parts(sign * windows, each)

    if isinstance(transform, Standardize):
        standard = standardize_whole(volume)

        def block(part: Tensor) -> Tensor:
            return sign * standard(part)

        return NormalizedTomogram(volume, block, block if transform.scope == "batch" else window)
    assert isinstance(transform, NormalizeSpectrum)
    spectrum = SpectrumFilter(volume, transform, box)
    result = new_map(scratch, np.float32, volume.shape)
    for start in product(*(range(0, n, _PIECE) for n in volume.shape)):
        size = [min(_PIECE, n - s) for s, n in zip(start, volume.shape, strict=True)]
        target = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
        result[target] = spectrum.filtered(volume, start, size).numpy()
        for array in (volume, result):
            release_pages(array)
    result.flush()
    return NormalizedTomogram(np.memmap(scratch, np.float32, "r", shape=volume.shape), lambda part: sign * part, window)


def _starts(shape: Sequence[int], box: int, most: int) -> Iterator[tuple[int, ...]]:
    """Corners of boxes side by side about the middle of a volume, evenly thinned out to at most `most`."""
    axes = []
    for n in shape:
        count = max(1, n // box)
        first = (n - count * box) // 2
        axes.append(range(first, first + count * box, box))
    corners = list(product(*axes))
    return (corners[n] for n in np.unique(np.linspace(0, len(corners) - 1, most).round().astype(int)))


def cut_mirrored(volume: NDArray[Any], first: Sequence[int], length: Sequence[int]) -> Tensor:
    """Return a part of a volume from an index on, mirrored where it lies outside."""
    part, beyond = cut_region(volume, first, length)
    return torch.from_numpy(np.pad(part, beyond, mode="symmetric"))
