"""Contrast transfer function of the electron microscope, radial, and what usual processing makes of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch_ctf import calculate_total_phase_shift


def ctf(
    frequency: Tensor,
    defocus_um: Tensor | float,
    *,
    cs_mm: Tensor | float = 2.7,
    voltage_kv: Tensor | float = 300.0,
    amplitude_contrast: Tensor | float = 0.07,
    phase_shift_deg: Tensor | float = 0.0,
    b_factor_a2: Tensor | float = 0.0,
) -> Tensor:
    r"""Contrast transfer function at the given spatial frequencies.

    .. math::

        \mathrm{CTF}(f) = \sin\bigl(\pi\lambda\,\Delta f^2 - \tfrac{\pi}{2} C_s\lambda^3 f^4 + \varphi + \arcsin A
        \bigr)\; e^{-B f^2 / 4}

    with the relativistic wavelength :math:`\lambda`, the defocus :math:`\Delta` (positive = underfocus), the amplitude
    contrast :math:`A`, a phase plate's shift :math:`\varphi` and the envelope's B-factor :math:`B`. The first lobe of
    an underfocused image is positive: what was bright stays bright. The transforms turn it dark where wanted.

    Parameters
    ----------
    frequency
        Any shape F, in 1/Å.
    defocus_um
        µm, positive = underfocus; a scalar or a batch of shape P.
    cs_mm, voltage_kv, amplitude_contrast, phase_shift_deg, b_factor_a2
        Spherical aberration in mm, voltage in kV, a fraction 0..1, degrees, Å^2; each a scalar or of shape P.

    Returns
    -------
    Tensor
        Shape P + F, in the frequency's dtype.

    Raises
    ------
    ValueError
        If a parameter is impossible, or a pair of defoci is given: astigmatism has no meaning for a radial CTF.

    References
    ----------
    Erickson & Klug (1971) Phil. Trans. R. Soc. B 261:105-118; Rohou & Grigorieff (2015) J. Struct. Biol. 192:216-221,
    eq. 5; the phase comes from torch-ctf, the envelope is Relion's ``exp(-B f^2 / 4)``.
    """
    if isinstance(defocus_um, tuple | list):
        raise ValueError(
            f"a radial 3D CTF takes one defocus_um a volume, got {defocus_um}: astigmatism belongs to single "
            "projections; pass the mean defocus"
        )
    as_tensor: dict[str, Any] = {"device": frequency.device, "dtype": frequency.dtype}
    defocus, cs, kv, contrast, shift, b_factor = torch.broadcast_tensors(
        *(
            torch.as_tensor(p, **as_tensor)
            for p in (defocus_um, cs_mm, voltage_kv, amplitude_contrast, phase_shift_deg, b_factor_a2)
        )
    )
    check_ctf_parameters(cs_mm=cs, voltage_kv=kv, amplitude_contrast=contrast, b_factor_a2=b_factor)
    extra = (...,) + (None,) * frequency.ndim
    squared = frequency.square()
    phase = calculate_total_phase_shift(
        defocus_um=defocus[extra],
        voltage_kv=kv[extra],
        spherical_aberration_mm=cs[extra],
        phase_shift_degrees=shift[extra],
        amplitude_contrast_fraction=contrast[extra],
        fftfreq_grid_angstrom_squared=squared,
    )
    value = -torch.sin(phase)
    if bool((b_factor != 0).any()):
        value = value * torch.exp(-0.25 * b_factor[extra] * squared)
    return value


def wiener_gain(
    transfer: Tensor,
    fraction: Tensor,
    voxel_size: float,
    *,
    strength: Tensor | float = 1.0,
    falloff: Tensor | float = 1.0,
    highpass: float = 0.02,
) -> Tensor:
    r"""Wiener-like deconvolution of a CTF with an assumed, falling signal-to-noise ratio, as Warp filters tomograms.

    .. math::

        \frac{\mathrm{CTF}}{\mathrm{CTF}^2 + 1/S(w)}, \qquad
        S(w) = 10^{3 s} \, e^{-100\, q\, w / a} \, \bigl(1 - \cos(\pi \min(1, w/h))\bigr)

    with the strength :math:`s`, the falloff :math:`q`, the voxel size :math:`a` in Å, the fraction of Nyquist
    :math:`w` and the high-pass :math:`h`, a fraction of Nyquist too.

    Parameters
    ----------
    transfer
        CTF, P + F.
    fraction
        Spatial frequency as a fraction of Nyquist, F.
    voxel_size
        Å.
    strength, falloff
        Scalars or batches of shape P; 1 and 1 are the programs' defaults.
    highpass
        Fraction of Nyquist below which the assumed ratio falls to 0.

    Returns
    -------
    Tensor
        P + F: what multiplies the recorded image. The specimen has then passed ``transfer`` times this.

    References
    ----------
    Tegunov & Cramer (2019) Nat. Methods 16:1146-1152, Methods (deconvolution for display).
    """
    kind: dict[str, Any] = {"device": transfer.device, "dtype": transfer.dtype}
    extra = (...,) + (None,) * fraction.ndim
    s, q = (torch.as_tensor(v, **kind)[extra] for v in (strength, falloff))
    rise = 1 - torch.cos(math.pi * (fraction / highpass).clamp(max=1))
    log_ratio = (3 * math.log(10) * s - 100 * q * fraction / voxel_size).clamp(-60, 80)
    ratio = torch.exp(log_ratio) * rise
    # CTF / (CTF^2 + 1/S) = CTF S / (CTF^2 S + 1) has no division by zero
    return transfer * ratio / (transfer.square() * ratio + 1)


def check_ctf_parameters(
    *,
    cs_mm: Tensor | float,
    voltage_kv: Tensor | float,
    amplitude_contrast: Tensor | float,
    b_factor_a2: Tensor | float,
) -> None:
    """Raise ValueError on values no microscope has."""
    for name, value, low, high in (
        ("cs_mm", cs_mm, 0.0, 100.0),
        ("voltage_kv", voltage_kv, 1.0, 5000.0),
        ("amplitude_contrast", amplitude_contrast, 0.0, 1.0),
        ("b_factor_a2", b_factor_a2, 0.0, float("inf")),
    ):
        tensor = torch.as_tensor(value, dtype=torch.float64)
        if not bool(((tensor >= low) & (tensor <= high)).all()):
            raise ValueError(f"{name} must lie in {low:g}..{high:g}, got {tensor.tolist()}")
