"""How the detector damps fine detail: modulation transfer functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sinc_mtf(frequency: Tensor, nyquist: float, scale: Tensor | float = 1.0) -> Tensor:
    """Modulation transfer of square pixels, ``sin(x) / x`` at ``x = pi * scale * w / 2``.

    ``w`` is the fraction of Nyquist; at scale 1 the value there is 2/pi = 0.637. ``scale`` is the pixel's width in
    units of the sampling; 0 is a perfect detector.

    Parameters
    ----------
    frequency
        Any shape F, in 1/Å.
    nyquist
        Nyquist frequency in 1/Å.
    scale
        Scalar or a batch of shape P, >= 0.

    Returns
    -------
    Tensor
        Shape P + F.

    Raises
    ------
    ValueError
        If ``scale`` is negative.

    References
    ----------
    McMullan et al. (2009) Ultramicroscopy 109:1126-1143; the paper of Che et al. (2019) uses it at scale 1.
    """
    width = torch.as_tensor(scale, device=frequency.device, dtype=frequency.dtype)
    if bool((width < 0).any()):
        raise ValueError(f"MTF scale must be >= 0, got {width.tolist()}")
    return torch.sinc(width[(...,) + (None,) * frequency.ndim] * (frequency / nyquist) / 2)


def curve_mtf(
    frequency: Tensor, nyquist: float, curve: Sequence[Sequence[float]] | Tensor, name: str = "an MTF curve"
) -> Tensor:
    """Radial values from a measured curve, such as a modulation transfer function, linearly interpolated.

    Parameters
    ----------
    frequency
        Any shape F, in 1/Å.
    nyquist
        Nyquist frequency in 1/Å.
    curve
        (n, 2): spatial frequency as a fraction of Nyquist (ascending) and the value there. Beyond either end the
        end's value holds.
    name
        What a refusal calls the curve.

    Returns
    -------
    Tensor
        Shape F.

    Raises
    ------
    ValueError
        If the curve is not two ascending columns of finite numbers.
    """
    table = torch.as_tensor(curve, dtype=frequency.dtype, device=frequency.device)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] != 2 or not bool(table.isfinite().all()):
        raise ValueError(f"{name} must be n >= 2 rows of (fraction of Nyquist, value), got {tuple(table.shape)}")
    x, y = table[:, 0].contiguous(), table[:, 1]
    if not bool((x.diff() > 0).all()):
        raise ValueError(f"the first column (fraction of Nyquist) of {name} must ascend")
    w = (frequency / nyquist).clamp(x[0], x[-1]).contiguous()
    right = torch.searchsorted(x, w).clamp(1, len(x) - 1)
    x0, x1 = x[right - 1], x[right]
    return torch.lerp(y[right - 1], y[right], (w - x0) / (x1 - x0))
