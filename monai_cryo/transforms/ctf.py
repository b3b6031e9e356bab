"""The microscope's contrast transfer function as a transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_cryo._typing import Contrast, CTFMode
from monai_cryo.physics.contrast_transfer import check_ctf_parameters, ctf
from monai_cryo.transforms.base import DictTransform, RandDictTransform, RandPhysics, Range, parse_range
from monai_cryo.transforms.fourier import RadialFilter, RandFilter


class CTF(RadialFilter):
    """Image with a given CTF over the whole volume (:func:`monai_cryo.physics.ctf`).

    Parameters
    ----------
    defocus_um
        µm, positive = underfocus. A paper's Δz of -6 µm is ``defocus_um=6``.
    voxel_size
        Å, one number or (z, y, x); None: from the MetaTensor.
    cs_mm, voltage_kv, amplitude_contrast, phase_shift_deg, b_factor_a2
        Spherical aberration in mm, voltage in kV, fraction 0..1, degrees, envelope in Å^2.
    mode
        ``"raw"``; ``"flip"``: as after phase flipping, no contrast inversion between the zeros; ``"abs"``: the
        magnitude alone, which leaves bright what was bright whatever ``contrast`` says.
    contrast
        ``"dark"``: density turns dark under underfocus, as in experimental tomograms; ``"bright"`` keeps it bright.

    Raises
    ------
    ValueError
        On impossible parameters, or where no voxel size is known.
    """

    needs_voxel_size = True

    def __init__(
        self,
        defocus_um: float = 6.0,
        *,
        voxel_size: float | Sequence[float] | None = None,
        cs_mm: float = 2.7,
        voltage_kv: float = 300.0,
        amplitude_contrast: float = 0.07,
        phase_shift_deg: float = 0.0,
        b_factor_a2: float = 0.0,
        mode: CTFMode = "raw",
        contrast: Contrast = "dark",
    ) -> None:
        values = {
            "defocus_um": defocus_um,
            "cs_mm": cs_mm,
            "voltage_kv": voltage_kv,
            "amplitude_contrast": amplitude_contrast,
            "phase_shift_deg": phase_shift_deg,
            "b_factor_a2": b_factor_a2,
        }
        super().__init__(voxel_size)
        ctf(torch.zeros(1), mode=mode, **values)  # refuse bad values now
        self.params = {name: np.array([value]) for name, value in values.items()}
        self.mode = mode
        self.sign = contrast_sign(contrast, mode)

    def profile(self, frequency: Tensor, nyquist: float) -> Tensor:
        """CTF (C or 1, R)."""
        params: dict[str, Any] = {name: torch.as_tensor(value) for name, value in self.params.items()}
        return self.sign * ctf(frequency, mode=self.mode, **params)


class RandCTF(RandFilter, RadialFilter):
    """Image with a random CTF; every parameter is a number (fixed) or a uniform (min, max).

    The defaults are the ranges of Che et al. (2019): their Δz = -12..0 µm is a defocus of 0..12 µm here. At a voxel
    size of 13.68 Å their Cs range changes the CTF by less than 4e-4.

    Parameters
    ----------
    defocus_um, cs_mm, voltage_kv, amplitude_contrast, phase_shift_deg, b_factor_a2
        As for :class:`CTF`, numbers or ranges.
    voxel_size, mode, contrast
        As for :class:`CTF`.
    prob, channel_wise
        As for :class:`~.base.RandPhysics`. Channels left out keep the contrast they have.

    Raises
    ------
    ValueError
        On impossible parameters, min > max, or where no voxel size is known.
    """

    needs_voxel_size = True

    def __init__(
        self,
        defocus_um: Range = (0.0, 12.0),
        *,
        voxel_size: float | Sequence[float] | None = None,
        cs_mm: Range = (1.5, 3.0),
        voltage_kv: Range = 300.0,
        amplitude_contrast: Range = 0.07,
        phase_shift_deg: Range = 0.0,
        b_factor_a2: Range = 0.0,
        mode: CTFMode = "raw",
        contrast: Contrast = "dark",
        prob: float = 1.0,
        channel_wise: bool = False,
    ) -> None:
        RandPhysics.__init__(self, prob, channel_wise)
        RadialFilter.__init__(self, voxel_size)
        self.ranges = {
            "defocus_um": parse_range("defocus_um", defocus_um),
            "cs_mm": parse_range("cs_mm", cs_mm),
            "voltage_kv": parse_range("voltage_kv", voltage_kv),
            "amplitude_contrast": parse_range("amplitude_contrast", amplitude_contrast),
            "phase_shift_deg": parse_range("phase_shift_deg", phase_shift_deg),
            "b_factor_a2": parse_range("b_factor_a2", b_factor_a2),
        }
        for end in (0, 1):
            check_ctf_parameters(
                **{k: v[end] for k, v in self.ranges.items() if k not in ("defocus_um", "phase_shift_deg")}
            )
        ctf(torch.zeros(1), 0.0, mode=mode)
        self.mode = mode
        self.sign = contrast_sign(contrast, mode)

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw every parameter uniformly."""
        return {name: self.uniform(bounds, n) for name, bounds in self.ranges.items()}

    def profile(self, frequency: Tensor, nyquist: float) -> Tensor:
        """CTF (C or 1, R)."""
        return self.only_active(CTF.profile(self, frequency, nyquist))


def contrast_sign(contrast: Contrast, mode: CTFMode) -> float:
    """-1 where density is to turn dark, else 1; refuse other words."""
    if contrast not in get_args(Contrast):
        raise ValueError(f"contrast must be one of {', '.join(get_args(Contrast))}, got {contrast!r}")
    return -1.0 if contrast == "dark" and mode != "abs" else 1.0


class CTFd(DictTransform):
    """Dictionary version of :class:`CTF`: ``keys`` and its arguments."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, CTF(**kwargs), allow_missing_keys)


class RandCTFd(RandDictTransform):
    """Dictionary version of :class:`RandCTF`: ``keys`` and its arguments."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, RandCTF(**kwargs), allow_missing_keys)


CTFD = CTFDict = CTFd
RandCTFD = RandCTFDict = RandCTFd
