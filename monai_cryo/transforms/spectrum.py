"""Radial spectra: one common spectrum for simulated and real volumes, and random ones as unknown processing leaves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_cryo._typing import Axis
from monai_cryo.physics.detector import curve_mtf
from monai_cryo.physics.fourier import ROUNDING, irfft, multiplicity, rfft
from monai_cryo.physics.noise import band_points
from monai_cryo.physics.wedge import missing_wedge
from monai_cryo.transforms.base import Drawable, Parameters, RandDrawable, column
from monai_cryo.transforms.dictionary import DictTransform, RandDictTransform
from monai_cryo.transforms.fourier import FourierFilter
from monai_cryo.transforms.geometry import ZYX
from monai_cryo.transforms.plan import Grid, grid_of
from monai_cryo.transforms.ranges import (
    Range,
    parse_number,
    parse_range,
    parse_table,
    parse_tilt_range,
    parse_whole,
    uniform,
)

#: standard deviation of a gain's logarithm where a walk ends: float32 holds exp(88), six times as far
_FARTHEST = 15.0


class NormalizeSpectrum(Drawable):
    r"""Give every volume the same radial amplitude spectrum, mean 0 and variance 1.

    Tomograms of one specimen look different after different reconstruction, CTF treatment and filtering: their radial
    spectra differ, and little else. Divided by its own radial amplitude and multiplied with a common target,

    .. math:: \frac{1}{w} \, e^{-(w / c)^2 / 2}, \qquad 0 < w \le h,

    with w the fraction of Nyquist, a box becomes nearly the same however it was processed: a ribosome's boxes
    back-projected and deconvolved correlate 0.985 after it, 0.84 before. What it cannot undo are sign changes of the
    CTF and non-linear denoising.

    Parameters
    ----------
    cutoff
        c, a fraction of Nyquist.
    highest
        h, a fraction of Nyquist: nothing is left above it, nor at zero frequency.
    target
        Rows (fraction of Nyquist, amplitude) in place of the formula; up to ``highest``.
    spectrum
        Rows (fraction of Nyquist, power) to divide by, measured on a whole tomogram
        (:func:`monai_cryo.io.measure_noise_spectrum`); None: each volume's own.
    smooth_shells
        Shells over which a volume's own power is averaged; a shell is 1 / (half the smallest axis) of Nyquist wide.
    gain_cap
        A shell is raised at most this many times more than the strongest one, so that what was filtered away is not
        made of rounding.
    tilt_range_deg
        (min, max): measure the power where these tilts sample Fourier space, as RandMissingWedge has it; None:
        everywhere. Over all shells alike the missing part only scales the power, and the variance undoes that. Of a
        whole tomogram the power is measured everywhere.

    Raises
    ------
    ValueError
        On impossible numbers or tables. A constant volume becomes zero.
    """

    def __init__(
        self,
        cutoff: float = 0.2,
        *,
        highest: float = 0.6,
        target: Sequence[Sequence[float]] | None = None,
        spectrum: Sequence[Sequence[float]] | None = None,
        smooth_shells: int = 3,
        gain_cap: float = 1000.0,
        tilt_range_deg: Sequence[float] | None = None,
    ) -> None:
        self.cutoff = parse_number("cutoff", cutoff, low=1e-3)
        self.highest = parse_number("highest", highest, 1e-3, 1.0)
        self.target, self.spectrum = _curve("target", target), _curve("spectrum", spectrum)
        self.smooth_shells = parse_whole("smooth_shells", smooth_shells)
        if self.smooth_shells % 2 == 0:
            raise ValueError(f"smooth_shells must be an odd whole number, got {smooth_shells!r}")
        self.gain_cap = parse_number("gain_cap", gain_cap, low=1.0)
        self.tilt_range_deg = None if tilt_range_deg is None else parse_tilt_range("tilt_range_deg", tilt_range_deg)

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Normalise a batch (B, C, D, H, W), each channel by its own spectrum."""
        z, y, x = context.get("voxel_size") or (1.0, 1.0, 1.0)
        largest = max(z, y, x)  # only ratios count, and the rounding of the rest must not decide otherwise
        grid = grid_of(batch, (z / largest, y / largest, x / largest), context.get("axes", ZYX))
        points, fraction, measure, spread = _shells(
            grid.shape,
            grid.voxel_size,
            grid.axes,
            self.highest,
            self.smooth_shells,
            self.tilt_range_deg,
            str(batch.device),
        )
        if not len(points):  # a box so small that no frequency is kept
            return torch.zeros_like(batch)
        spectrum = rfft(batch).flatten(-3)
        inside = spectrum.index_select(-1, points)
        # the variance is set at the end: until then squares stay within range
        inside = inside / inside.abs().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(batch.dtype).tiny)
        target = self.target_at(fraction).to(batch)
        if self.spectrum is not None:
            power = curve_mtf(fraction, 1.0, self.spectrum).to(batch)
        else:
            own = torch.view_as_real(inside).square().sum(dim=-1) @ measure.to(batch)
            power = own @ spread.to(batch)
        floor = power.amax(dim=-1, keepdim=True) / self.gain_cap**2
        inside = inside * (target / power.maximum(floor).clamp(min=1e-30).sqrt())
        result = irfft(
            torch.zeros_like(spectrum).index_copy_(-1, points, inside).unflatten(-1, grid.index.shape), grid.shape
        )
        norm = torch.linalg.vector_norm(result.flatten(-3), dim=-1)[..., None, None, None]
        count = float(np.prod(grid.shape)) ** 0.5
        largest = batch.abs().amax(dim=(-3, -2, -1), keepdim=True)
        differs = batch.amax(dim=(-3, -2, -1), keepdim=True) - batch.amin(dim=(-3, -2, -1), keepdim=True)
        # rounding noise on a constant volume must not be blown up to variance 1
        constant = (differs <= ROUNDING * torch.finfo(batch.dtype).eps * largest) | (norm == 0)
        return result * torch.where(constant, torch.zeros_like(norm), count / norm)

    def target_at(self, fraction: Tensor) -> Tensor:
        """Return the amplitude aimed at, at fractions of Nyquist above 0."""
        if self.target is not None:
            return curve_mtf(fraction, 1.0, self.target)
        return torch.exp(-0.5 * (fraction / self.cutoff).square()) / fraction


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must serve training too
def _shells(
    shape: tuple[int, int, int],
    voxel_size: tuple[float, float, float],
    axes: tuple[Axis, Axis, Axis],
    highest: float,
    smooth: int,
    tilt_range_deg: tuple[float, float] | None,
    device: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points of the half grid that are kept, their fractions of Nyquist, and two matrices.

    The first (n, S) averages the points' power over shells and their neighbours, the second (S, n) interpolates the
    shells' values at the points, linearly in the frequency.
    """
    grid = Grid(shape, voxel_size)
    kept = (grid.fraction > 0) & (grid.fraction <= highest)
    points = band_points(grid.index, kept)
    fraction = grid.fraction[grid.index.flatten()[points]].double()
    bins = min(shape) // 2
    shells = max(1, int(np.ceil(highest * bins)))
    position = fraction * bins - 0.5  # 0 at the centre of the first shell
    # the slack keeps frequencies that lie between two shells together
    shell = (position + 0.5 + 1e-4).long().clamp(0, shells - 1)
    weight = multiplicity(shape)[points % (shape[2] // 2 + 1)].double()
    if tilt_range_deg is not None:
        # the physics calls the array's axes z, y, x
        axis = dict(zip(axes, ZYX, strict=True))
        options: dict[str, Any] = {"tilt_axis": axis["y"], "beam_axis": axis["z"], "voxel_size": voxel_size}
        wedge = missing_wedge(shape, *tilt_range_deg, **options).expand(grid.index.shape)
        weight = weight * wedge.flatten()[points]
    near = (torch.arange(shells)[:, None] - torch.arange(shells)).abs() <= smooth // 2
    measure = (shell[:, None] == torch.arange(shells)).double() * weight[:, None]
    measure = measure @ near.double()
    total = measure.sum(dim=0)
    # a shell that nothing was measured in has the power of the nearest
    distance = (torch.arange(shells)[:, None] - torch.arange(shells)).abs() + shells * (total == 0)
    measure = (measure / total.clamp(min=1e-12))[:, distance.argmin(dim=1)]
    spread = (1 - (position - torch.arange(shells)[:, None]).abs()).clamp(min=0)
    # before the first and behind the last centre the end's value holds
    spread[0, position < 0] = 1
    spread[-1, position > shells - 1] = 1
    return tuple(t.to(device) for t in (points, fraction, measure, spread))  # type: ignore[return-value]


class RandRadialGain(RandDrawable, FourierFilter):
    """Multiply the spectrum, that of the noise too, with a random smooth radial gain: processing nobody wrote down.

    Parameters
    ----------
    walk
        Standard deviation of the gain's logarithm from one node to the next, a number or a uniform (min, max), from 0
        to 15 / sqrt(nodes); the gain is a random walk over ``nodes``, linear between them.
    nodes
        Steps of the walk from zero frequency to the corner of Fourier space.
    lowpass
        Fraction of Nyquist at which a Gaussian low-pass has fallen to exp(-1/2), a number or a uniform (min, max);
        None: no low-pass.
    prob
        Probability that an item is filtered.

    Raises
    ------
    ValueError
        On an impossible range.
    """

    filters_detector_noise = True

    def __init__(self, walk: Range = (0.0, 0.5), *, nodes: int = 8, lowpass: Range | None = None, prob: float = 1.0):
        RandDrawable.__init__(self, prob)
        FourierFilter.__init__(self)
        self.nodes = parse_whole("nodes", nodes)
        self.walk = parse_range("walk", walk, 0.0, _FARTHEST / self.nodes**0.5)
        self.lowpass = None if lowpass is None else parse_range("lowpass", lowpass, low=1e-2)

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw the walk and the low-pass."""
        steps = state.normal(size=self.nodes) * uniform(state, self.walk)
        return {
            "log_gain": [0.0, *np.cumsum(steps).tolist()],
            "lowpass": None if self.lowpass is None else uniform(state, self.lowpass),
        }

    def transfer(self, grid: Grid, parameters: Sequence[Parameters]) -> Tensor:
        """Gain (B, R), 1 at zero frequency."""
        log_gain = column(parameters, "log_gain", grid.frequency)
        at = grid.fraction / grid.fraction.max().clamp(min=1e-12) * self.nodes
        left = at.floor().long().clamp(max=self.nodes - 1)
        gain = torch.lerp(log_gain[:, left], log_gain[:, left + 1], at - left)
        cutoff = [{"lowpass": float("inf") if p["lowpass"] is None else p["lowpass"]} for p in parameters]
        width = column(cutoff, "lowpass", grid.frequency)[:, None]
        return torch.exp(gain - 0.5 * (grid.fraction / width).square())


def _curve(name: str, rows: Sequence[Sequence[float]] | None) -> list[list[float]] | None:
    table = parse_table(name, rows)
    if table is not None and float(curve_mtf(torch.linspace(0, 1, 9), 1.0, table, f"the {name}").min()) < 0:
        raise ValueError(f"{name}: values must be >= 0, got {rows!r}")
    return table


class NormalizeSpectrumd(DictTransform, of=NormalizeSpectrum):
    """Dictionary version of :class:`NormalizeSpectrum`."""


class RandRadialGaind(RandDictTransform, of=RandRadialGain):
    """Dictionary version of :class:`RandRadialGain`."""


NormalizeSpectrumD = NormalizeSpectrumDict = NormalizeSpectrumd
RandRadialGainD = RandRadialGainDict = RandRadialGaind
