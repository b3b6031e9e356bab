"""What happens to a batch in Fourier space, kept as one plan: a path of the signal, one of the detector, and the noise.

    density ── noise of the specimen ── optics ──┬── everything ── image
                                detector's noise ┘

The optics (CTF, MTF) act on what comes from the specimen; what comes after them (missing wedge) acts on everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from monai_cryo._typing import Axis
from monai_cryo.physics.fourier import frequency_shells, irfft, nyquist, rfft, spatial_shape, spread
from monai_cryo.physics.noise import band_points, half_grid_noise, region_power, shell_weights, spectrum_variance


@dataclass(frozen=True)
class Grid:
    """The half grid of a batch's Fourier space.

    Attributes
    ----------
    shape
        Spatial shape (D, H, W).
    voxel_size
        Å along the three axes.
    axes
        Which direction each array axis is: z, y, x for volumes from MRC files.
    device, dtype
        Of the batch.
    """

    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    axes: tuple[Axis, Axis, Axis] = ("z", "y", "x")
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a constant
    dtype: torch.dtype = torch.float32

    @cached_property
    def _shells(self) -> tuple[Tensor, Tensor]:
        return frequency_shells(self.shape, self.voxel_size, device=self.device, dtype=self.dtype)

    @property
    def frequency(self) -> Tensor:
        """Distinct radial frequencies (R,) in 1/Å, ascending from 0: what radial filters are evaluated on."""
        return self._shells[0]

    @property
    def index(self) -> Tensor:
        """Which of them each point of the half grid has, (D, H, W // 2 + 1)."""
        return self._shells[1]

    @property
    def nyquist(self) -> float:
        """Nyquist frequency in 1/Å, of the coarsest axis."""
        return nyquist(self.voxel_size)

    @property
    def fraction(self) -> Tensor:
        """Radial frequencies (R,) as fractions of Nyquist."""
        return self.frequency / self.nyquist

    @cached_property
    def weights(self) -> Tensor:
        """Share of the full grid that each radial frequency has, (R,); they sum to 1."""
        return shell_weights(self.shape, self.index, len(self.frequency)).to(self.dtype)

    def band(self, low: float, high: float) -> Tensor:
        """Return which radial frequencies lie within two fractions of Nyquist, (R,) bool."""
        return (self.fraction >= low) & (self.fraction <= high)


class Path:
    """Product of transfer functions on the way of a signal: radial ones on the shells, others on the half grid."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.radial: Tensor | None = None
        self.factors: list[Tensor] = []

    def multiply(self, transfer: Tensor) -> None:
        """Take one more: radial (B or 1, R) or on the half grid (B or 1, D, H, W // 2 + 1)."""
        if transfer.ndim == 2:
            self.radial = transfer if self.radial is None else self.radial * transfer
        else:
            self.factors.append(transfer)

    def on_half_grid(self, profile: Tensor | None = None) -> Tensor | None:
        """Return the product on the half grid, with a radial profile (B, R) more; None where there is nothing."""
        radial = self.radial
        if profile is not None:
            radial = profile if radial is None else radial * profile
        result = None if radial is None else spread(radial, self.grid.index)
        for factor in self.factors:  # real products cost less than complex ones
            result = factor if result is None else result * factor
        return result


class FourierPlan:
    """A batch between its two transforms: filters multiply, noise adds, :meth:`image` carries it all out.

    Parameters
    ----------
    volume
        (B, C, D, H, W).
    grid
        Its half grid.
    mask
        As the volume; for noise relative to a particle.

    Attributes
    ----------
    optics, everything
        The two :class:`Path` s.
    """

    def __init__(self, volume: Tensor, grid: Grid, mask: Tensor | None = None) -> None:
        self.volume, self.grid, self.mask = volume, grid, mask
        self.spectrum = rfft(volume)
        self.optics, self.everything = Path(grid), Path(grid)
        self._grain: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None] | None = None

    def __repr__(self) -> str:
        return f"FourierPlan(volume of shape {tuple(self.volume.shape)}, {self.grid!r})"

    def multiply(self, transfer: Tensor, *, detector_too: bool) -> None:
        """Put a transfer function into the way of everything, the detector's noise too, or of the optics alone."""
        (self.everything if detector_too else self.optics).multiply(transfer)

    def power(self, stage: str, *, in_mask: bool = False, band: tuple[float, float] | None = None) -> Tensor:
        """Return the signal's power where noise comes in, (B, C): its mean squared deviation from the box's mean.

        Parameters
        ----------
        stage
            ``"before"`` or ``"after"`` the optics.
        in_mask
            Over the mask's voxels instead of the whole box.
        band
            The part between two fractions of Nyquist, instead of all frequencies.

        Returns
        -------
        Tensor
            (B, C); 0 where there is no signal at all.
        """
        spectrum, shape = self.spectrum, self.grid.shape
        if stage == "after" and (optics := self.optics.on_half_grid()) is not None:
            spectrum = spectrum * optics[:, None]
        if in_mask:
            assert self.mask is not None
            volume = self.volume if spectrum is self.spectrum else irfft(spectrum, shape)
            return region_power(volume, self.mask)
        return spectrum_variance(spectrum, shape, self._points(band))

    def passed(self, band: tuple[float, float] | None = None) -> Tensor:
        """Return the share of a white signal's power that the optics pass, (B,), in a band or at all frequencies."""
        optics = self.optics.on_half_grid()
        if optics is None:
            return self.volume.new_ones(len(self.volume))
        white = torch.ones_like(self.spectrum[:, 0])
        passed, every = (spectrum_variance(s, self.grid.shape, self._points(band)) for s in (white * optics, white))
        return passed / every

    def _points(self, band: tuple[float, float] | None) -> Tensor | None:
        return None if band is None else band_points(self.grid.index, self.grid.band(*band))

    def add_noise(self, seeds: Sequence[int], before: Tensor, after: Tensor, colour: Tensor | None = None) -> None:
        """Add Gaussian noise, one stream an item.

        Parameters
        ----------
        seeds
            B integers.
        before, after
            Variance of the noise ahead of the optics and behind them, (B, C), over the whole box.
        colour
            Radial amplitude, (B, R), of mean square 1 over the full grid; None: white.
        """
        grain = half_grid_noise(self.volume.shape, seeds, dtype=self.volume.dtype, device=self.volume.device)
        largest = before.maximum(after).double().sqrt()  # variances leave float32 long before deviations do
        unit = torch.where(largest > 0, largest, 1).square()
        shares = [(variance.double() / unit).to(self.volume) for variance in (before, after)]
        self._grain = grain, largest.to(self.volume), shares[0], shares[1], colour

    def image(self) -> Tensor:
        """Carry the plan out: the imaged batch (B, C, D, H, W)."""
        spectrum, noise = self.spectrum, None
        if self._grain is not None:
            grain, largest, before, after, colour = self._grain
            if colour is None and not bool(after.any()):
                # white and ahead of everything: it passes through the same filters as the signal
                scale = (largest * before.sqrt())[..., None, None, None, None]
                torch.view_as_real(spectrum).addcmul_(torch.view_as_real(grain), scale)
            else:
                noise = grain.mul_(self._noise_transfer(largest, before, after, colour))
        optics = self.optics.on_half_grid(self.everything.radial)
        for factor in self.everything.factors:
            optics = factor if optics is None else optics * factor
        if optics is not None:
            spectrum = spectrum.mul_(optics[:, None])
        return irfft(spectrum if noise is None else spectrum.add_(noise), self.grid.shape)

    def _noise_transfer(self, largest: Tensor, before: Tensor, after: Tensor, colour: Tensor | None) -> Tensor:
        """Amplitude of the noise on the half grid, (B, C, ...), all filters it meets included.

        ``before`` and ``after`` are the variances in units of the square of ``largest``.
        """
        both = bool(before.any()) and bool(after.any())
        ahead, behind = (v[..., None] if not self.optics.factors else v[..., None, None, None] for v in (before, after))
        if self.optics.factors:
            optics = self.optics.on_half_grid()
            assert optics is not None
            optics = optics[:, None]
        else:
            optics = before.new_ones(1, 1, 1) if self.optics.radial is None else self.optics.radial[:, None]
        if not both:  # a single grain keeps the sign of its filters
            amplitude = torch.where(behind > 0, behind.sqrt(), ahead.sqrt() * optics)
        else:  # two independent grains add up in power
            power = ahead * optics.abs().square() + behind
            amplitude = torch.where(behind > 0, power.sqrt().to(optics.dtype), ahead.sqrt() * optics)
        amplitude = amplitude * largest[(..., *(None,) * (amplitude.ndim - 2))]
        if amplitude.ndim > 3:  # on the half grid already
            rest = self.everything.on_half_grid(colour)
            return amplitude if rest is None else amplitude * rest[:, None]
        for radial in (self.everything.radial, colour):
            amplitude = amplitude if radial is None else amplitude * radial[:, None]
        amplitude = amplitude[..., None, None] if amplitude.shape[-1] == 1 else spread(amplitude, self.grid.index)
        for factor in self.everything.factors:
            amplitude = amplitude * factor[:, None]
        return amplitude


def grid_of(batch: Tensor, voxel_size: tuple[float, float, float], axes: tuple[Axis, Axis, Axis]) -> Grid:
    """Return the half grid of a batch (..., D, H, W)."""
    return Grid(spatial_shape(batch.shape), voxel_size, axes, batch.device, batch.dtype)
