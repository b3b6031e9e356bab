"""What radiation damage takes from the images of a tilt series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from monai_cryo._typing import check_word
from monai_cryo.physics.tilt_series import tilts_tensor

TiltOrder = Literal["dose_symmetric", "sequential"]


def cumulative_dose(
    tilts_deg: Tensor | Sequence[float], dose_per_tilt: Tensor | float, order: TiltOrder = "dose_symmetric"
) -> Tensor:
    """Dose the specimen has taken at the middle of each exposure.

    Parameters
    ----------
    tilts_deg
        (..., T) in degrees.
    dose_per_tilt
        e/Å^2, a scalar or one for each series.
    order
        ``"dose_symmetric"``: from the smallest tilt outwards (Hagen, Wan & Briggs 2017); ``"sequential"``: from the
        lowest angle to the highest.

    Returns
    -------
    Tensor
        (..., T) in e/Å^2.

    Raises
    ------
    ValueError
        On an unknown order.
    """
    check_word("tilt order", order, TiltOrder)
    tilts = tilts_tensor(tilts_deg)
    key = tilts.abs() if order == "dose_symmetric" else tilts
    rank = key.argsort(dim=-1, stable=True).argsort(dim=-1)
    return (rank + 0.5) * torch.as_tensor(dose_per_tilt, dtype=tilts.dtype, device=tilts.device)[..., None]


def dose_attenuation(frequency: Tensor, dose_e_a2: Tensor | float) -> Tensor:
    r"""What radiation damage leaves of the amplitude.

    .. math:: e^{-N / 2 N_c}, \qquad N_c = 0.245 \, f^{-1.665} + 2.81

    Parameters
    ----------
    frequency
        Any shape F, in 1/Å.
    dose_e_a2
        Dose N taken so far in e/Å^2 at 300 kV; a scalar or a batch of shape P, >= 0.

    Returns
    -------
    Tensor
        Shape P + F; 1 at zero frequency.

    Raises
    ------
    ValueError
        If a dose is negative.

    References
    ----------
    Grant & Grigorieff (2015) eLife 4:e06980, eq. 3.
    """
    dose = torch.as_tensor(dose_e_a2, device=frequency.device, dtype=frequency.dtype)
    if not bool((dose >= 0).all()):
        raise ValueError(f"dose_e_a2 must be >= 0, got {dose.tolist()}")
    critical = 0.245 * frequency.pow(-1.665) + 2.81  # infinite at zero frequency
    return torch.exp(-0.5 * dose[(...,) + (None,) * frequency.ndim] / critical)
