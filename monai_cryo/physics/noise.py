"""Noise in Fourier space: its radial spectrum, its scale at a given signal-to-noise ratio, its half-grid symmetry."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from monai_cryo.physics.detector import curve_mtf
from monai_cryo.physics.fourier import ROUNDING, centred, multiplicity, spatial_shape


def noise_amplitude(
    frequency: Tensor,
    nyquist: float,
    *,
    power_law: Tensor | float = 0.0,
    lowpass: Tensor | float = float("inf"),
    spectrum: Sequence[Sequence[float]] | Tensor | None = None,
) -> Tensor:
    r"""Relative amplitude of coloured noise, the root of its power spectrum.

    .. math:: P(f) \propto w^{-p} \, e^{-(w / w_c)^2} \, S(w), \qquad w = f / f_\mathrm{Nyquist}

    Parameters
    ----------
    frequency
        (R,) in 1/Å.
    nyquist
        Nyquist frequency in 1/Å.
    power_law
        p: 0 is white, 1 pink; a scalar or a batch of shape P.
    lowpass
        w_c, the fraction of Nyquist at which the power has fallen to 1/e; infinity: no fall-off.
    spectrum
        S, (n, 2) rows of fraction of Nyquist and power, for example measured on an empty patch; None: flat.

    Returns
    -------
    Tensor
        P + (R,), finite and >= 0; 0 at zero frequency unless the noise is white.

    Raises
    ------
    ValueError
        If ``lowpass`` is not positive or ``spectrum`` has a negative power.
    """
    as_tensor = {"device": frequency.device, "dtype": frequency.dtype}
    exponent = torch.as_tensor(power_law, **as_tensor)[..., None]  # type: ignore[arg-type]
    cutoff = torch.as_tensor(lowpass, **as_tensor)[..., None]  # type: ignore[arg-type]
    if not bool((cutoff > 0).all()):
        raise ValueError(f"noise lowpass must be > 0 (a fraction of Nyquist), got {cutoff.flatten().tolist()}")
    w = frequency / nyquist
    smallest = w[w > 0].min() if bool((w > 0).any()) else w.new_ones(())
    w = w.clamp(min=float(smallest))
    # the logarithm, its maximum taken off, stays finite for any colour
    log = -exponent / 2 * w.log() - 0.5 * (w / cutoff).square()
    amplitude = torch.exp(log - log.amax(dim=-1, keepdim=True))
    coloured = (exponent != 0) | cutoff.isfinite()
    if spectrum is not None:
        power = curve_mtf(frequency, nyquist, spectrum, "a noise spectrum")
        if bool((power < 0).any()):
            raise ValueError(f"a noise spectrum's power must be >= 0, found {float(power.min()):g}")
        amplitude = amplitude * power.sqrt()
        coloured = torch.ones_like(coloured)
    # a tomogram's mean is arbitrary, and a power law has none: coloured noise leaves it alone
    return torch.where(coloured & (frequency == 0), torch.zeros_like(amplitude), amplitude)


def half_grid_noise(
    shape: Sequence[int],
    seeds: Sequence[int],
    *,
    transformed: int = 3,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Transforms of white noise of variance 1, drawn directly on the half grid.

    The half grid's first and (on even boxes) last columns hold each frequency twice, once conjugated. They are made so
    here: CPUs' ``irfftn`` keeps only the Hermitian part of what it is given, CUDA's counts on there being no other.

    Parameters
    ----------
    shape
        Of the noise, (C, ..., W).
    seeds
        One for each of the C channels; where they are fewer, the last one's stream goes on through the channels left.
    transformed
        How many trailing axes the transform goes over: 3 for volumes, 2 for stacks of projections.
    dtype
        Real type, float32 or float64.
    device
        Of the result.

    Returns
    -------
    Tensor
        Complex, (C, ..., W // 2 + 1), scaled as ``rfftn`` scales.
    """
    *lead, w = (int(n) for n in shape)
    parts = torch.empty(*lead, w // 2 + 1, 2, dtype=dtype, device=device)
    generator = torch.Generator(device=parts.device)
    # each of the two parts has this deviation, so that |N|^2 averages the number of voxels
    std = math.sqrt(math.prod(shape[-transformed:]) / 2)
    for channel, part in enumerate(parts):
        if channel < len(seeds):
            generator.manual_seed(int(seeds[channel]))
        part.normal_(std=std, generator=generator)
    grain, axes = torch.view_as_complex(parts), tuple(range(1 - transformed, 0))
    for column in single_columns(w):
        plane = grain[..., column]
        # of two independent halves, so that the variance stays
        mirrored = plane.flip(axes).roll([1] * len(axes), axes)
        grain[..., column] = (plane + mirrored.conj()) / math.sqrt(2)
    return grain


def shell_weights(shape: Sequence[int], index: Tensor, shells: int) -> Tensor:
    """Fraction of the full Fourier grid in every shell of :func:`~.fourier.frequency_shells`, (shells,); sums to 1."""
    weight = multiplicity(shape, device=index.device).expand(index.shape)
    total = torch.zeros(shells, device=index.device).index_add_(0, index.flatten(), weight.flatten())
    return total / total.sum()


def spectrum_variance(spectrum: Tensor, shape: Sequence[int], points: Tensor | None = None) -> Tensor:
    """Variance of volumes from their transform (Parseval), the mean left out.

    Parameters
    ----------
    spectrum
        Complex half grid (..., D, H, W // 2 + 1) of volumes of spatial ``shape``.
    shape
        Volume shape; the last three sizes (D, H, W) are used.
    points
        Flat indices into the half grid, such as those of a band (:func:`band_points`): their share of the variance.
        None: all of them.

    Returns
    -------
    Tensor
        Shape (...), real; 0 where it is no more than the rounding of a constant volume.
    """
    d, h, w = spatial_shape(shape)
    power = _power(spectrum, w, points)
    extreme = ~((power > 1e-30) & power.isfinite())  # squares leave float32 long before values do
    if bool(extreme.any()):
        power = power.double()
        power[extreme] = _power(spectrum[extreme].to(torch.complex128), w, points)
    count = float(d * h * w)
    mean = spectrum[..., 0, 0, 0].abs().to(power.dtype) / count
    variance = power / count**2
    rounding = ROUNDING * torch.finfo(spectrum.real.dtype).eps
    return torch.where(variance.sqrt() > rounding * mean, variance, 0)


def _power(spectrum: Tensor, width: int, points: Tensor | None) -> Tensor:
    """Sum of squares over the full grid, or the part of it that half-grid points stand for, zero frequency left out."""
    parts = torch.view_as_real(spectrum)
    if points is not None:
        chosen = parts.flatten(-4, -2).index_select(-2, points).square().sum(dim=-1)
        weight = multiplicity((1, 1, width), device=chosen.device).to(chosen.dtype)
        weight = weight[points % (width // 2 + 1)] * (points != 0)
        return chosen @ weight
    mean = parts[..., 0, 0, 0, :].clone()
    parts[..., 0, 0, 0, :] = 0  # or its rounding would hide a small variance
    power = 2 * torch.linalg.vector_norm(parts.flatten(-4), dim=-1).square()
    for column in single_columns(width):
        power -= torch.linalg.vector_norm(parts[..., column, :].flatten(-3), dim=-1).square()
    parts[..., 0, 0, 0, :] = mean
    return power


def band_points(index: Tensor, inside: Tensor) -> Tensor:
    """Flat half-grid indices of a band of shells.

    Parameters
    ----------
    index
        Shell of every point, from :func:`~.fourier.frequency_shells`, (D, H, W // 2 + 1).
    inside
        (R,) bool: the shells of the band.

    Returns
    -------
    Tensor
        (n,) int64.
    """
    return inside[index.flatten()].nonzero()[:, 0]


def single_columns(width: int) -> tuple[int, ...]:
    """Columns of the half grid that stand for themselves alone: frequency 0 and, on even boxes, Nyquist."""
    return (0, width // 2) if width % 2 == 0 else (0,)


def region_power(volume: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean square of the deviation from the box's mean, over the box (its variance) or over a mask's voxels.

    The box's mean is no signal; a particle of even density still has power inside its mask, where its variance is none.

    Parameters
    ----------
    volume
        (..., D, H, W).
    mask
        Same shape, or None: the whole box.

    Returns
    -------
    Tensor
        Shape (...); 0 where a mask is empty. float64 where float32 cannot hold it.
    """
    deviation, _, std = centred(volume)
    if mask is None:
        return std[..., 0, 0, 0].square()
    inside = (mask > 0).to(volume.dtype)
    count = inside.sum(dim=(-3, -2, -1)).clamp(min=1)
    power = (deviation.square() * inside).sum(dim=(-3, -2, -1)) / count
    extreme = ~((power > 1e-30) & power.isfinite())  # as in spectrum_variance
    if bool(extreme.any()):
        power = power.double()
        power[extreme] = (deviation[extreme].double().square() * inside[extreme]).sum(dim=(-3, -2, -1)) / count[extreme]
    return power
