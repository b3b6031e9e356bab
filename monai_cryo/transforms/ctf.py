"""The microscope's contrast transfer function as a transform, raw or as usual processing leaves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from monai_cryo._typing import Contrast, CTFMode, check_word, parse_contrast
from monai_cryo.physics.contrast_transfer import check_ctf_parameters, ctf, wiener_gain
from monai_cryo.transforms.base import Draw, Parameters, RandDrawable, column
from monai_cryo.transforms.dictionary import DictTransform, RandDictTransform
from monai_cryo.transforms.fourier import FourierFilter, rows
from monai_cryo.transforms.plan import FourierPlan, Grid
from monai_cryo.transforms.ranges import Bounds, Choice, Range, choose, parse_choice, parse_number, parse_range, uniform

#: µm; beyond it a value was meant in Å, as RELION writes it
MAX_DEFOCUS_UM = 50.0
MICROSCOPE = ("defocus_um", "cs_mm", "voltage_kv", "amplitude_contrast", "phase_shift_deg", "b_factor_a2")


class CTF(FourierFilter):
    """Image with a given CTF over the whole volume (:func:`monai_cryo.physics.ctf`).

    Parameters
    ----------
    defocus_um
        µm, positive = underfocus, 0..50. A paper's Δz of -6 µm is ``defocus_um=6``, RELION's 60000 Å as well.
    voxel_size
        Å, one number or one for each of the array's axes; None: from the MetaTensor.
    cs_mm, voltage_kv, amplitude_contrast, phase_shift_deg, b_factor_a2
        Spherical aberration in mm, voltage in kV, fraction 0..1, degrees, envelope in Å^2.
    mode
        ``"raw"``; ``"flip"``: as after phase flipping, no contrast inversion between the zeros; ``"squared"``: as
        after multiplication by the CTF; ``"wiener"``: as after Warp's deconvolution, without inversions and with low
        frequencies restored (:func:`monai_cryo.physics.wiener_gain`).
    deconvolution_strength, deconvolution_falloff
        Of mode ``"wiener"``.
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
        deconvolution_strength: float = 1.0,
        deconvolution_falloff: float = 1.0,
        contrast: Contrast = "dark",
    ) -> None:
        check_word("mode", mode, CTFMode)
        values = {
            "defocus_um": defocus_um,
            "cs_mm": cs_mm,
            "voltage_kv": voltage_kv,
            "amplitude_contrast": amplitude_contrast,
            "phase_shift_deg": phase_shift_deg,
            "b_factor_a2": b_factor_a2,
            "deconvolution_strength": deconvolution_strength,
            "deconvolution_falloff": deconvolution_falloff,
        }
        super().__init__(voxel_size)
        self._configure({name: parse_number(name, value) for name, value in values.items()}, mode, contrast)

    def _configure(self, values: Mapping[str, Range], mode: Choice, contrast: str) -> None:
        """Read and check what fixed and random CTFs have in common."""
        self.ranges: dict[str, Bounds] = {name: parse_range(name, value) for name, value in values.items()}
        low, high = self.ranges["defocus_um"]
        if low < 0 or high > MAX_DEFOCUS_UM:
            raise ValueError(
                f"defocus_um must lie in 0..{MAX_DEFOCUS_UM:g} µm of underfocus, got {values['defocus_um']!r}: "
                "a Δz of -12..0 µm is (0, 12), and 30000 Å are 3"
            )
        for end in (0, 1):
            check_ctf_parameters(
                **{k: self.ranges[k][end] for k in ("cs_mm", "voltage_kv", "amplitude_contrast", "b_factor_a2")}
            )
        self.modes = parse_choice("mode", mode, CTFMode)
        self.contrast = parse_contrast(contrast)

    def draw(self, state: np.random.RandomState) -> Draw:
        """Draw every parameter uniformly, and the mode."""
        return self._draw(state)

    def _draw(self, state: np.random.RandomState) -> Parameters:
        drawn: Parameters = {name: uniform(state, self.ranges[name]) for name in MICROSCOPE}
        drawn["mode"] = choose(state, self.modes)
        if drawn["mode"] == "wiener":
            for name in ("deconvolution_strength", "deconvolution_falloff"):
                drawn[name] = uniform(state, self.ranges[name])
        return drawn

    def transfer(self, grid: Grid, parameters: Sequence[Parameters]) -> Tensor:
        """CTF with what processing makes of it, (B, R)."""
        recorded = self.recorded(grid.frequency, parameters)
        gain = self.processing(grid, recorded, parameters)
        return self.sign * (recorded if gain is None else recorded * gain)

    def plan(self, plan: FourierPlan, parameters: Sequence[Draw]) -> None:
        """Put the CTF into the way of the signal, and what processing multiplies with into that of everything."""
        on = [i for i, drawn in enumerate(parameters) if drawn is not None]
        drawn = [p for p in parameters if p is not None]
        if not drawn:
            return
        recorded = self.recorded(plan.grid.frequency, drawn)
        gain = self.processing(plan.grid, recorded, drawn)
        plan.multiply(rows(self.sign * recorded, on, len(parameters)), detector_too=False)
        if gain is not None:
            plan.multiply(rows(gain, on, len(parameters)), detector_too=True)

    def processing(self, grid: Grid, recorded: Tensor, parameters: Sequence[Parameters]) -> Tensor | None:
        """What the recorded image, its noise included, is multiplied with, (B, R); None where with nothing."""
        for p in parameters:
            check_word(f"{type(self).__name__}'s mode", p["mode"], CTFMode)
        if all(p["mode"] == "raw" for p in parameters):
            return None
        gain = torch.ones_like(recorded)
        for i, p in enumerate(parameters):
            if p["mode"] == "flip":
                gain[i] = torch.where(recorded[i] < 0, -1.0, 1.0)
            elif p["mode"] == "squared":
                gain[i] = recorded[i]
            elif p["mode"] == "wiener":
                strength, falloff = p["deconvolution_strength"], p["deconvolution_falloff"]
                voxel_size = max(grid.voxel_size)
                gain[i] = wiener_gain(recorded[i], grid.fraction, voxel_size, strength=strength, falloff=falloff)
        return gain

    @property
    def sign(self) -> float:
        """-1 where density turns dark."""
        return -1.0 if self.contrast == "dark" else 1.0

    def recorded(self, frequency: Tensor, parameters: Sequence[Parameters], defocus_um: Tensor | None = None) -> Tensor:
        """CTF as the microscope records it, before any processing.

        Parameters
        ----------
        frequency
            (R,) in 1/Å.
        parameters
            B draws.
        defocus_um
            (B, T), one a projection, in place of the one drawn.

        Returns
        -------
        Tensor
            (B, R), or (B, T, R).
        """
        values = {name: column(parameters, name, frequency) for name in MICROSCOPE}
        if defocus_um is not None:
            values = {name: value[:, None] for name, value in values.items()}
            values["defocus_um"] = defocus_um
        return ctf(frequency, **values)


class RandCTF(RandDrawable, CTF):
    """Image with a random CTF; every parameter is a number (fixed) or a uniform (min, max).

    The defaults are the ranges of Che et al. (2019): their Δz = -12..0 µm is a defocus of 0..12 µm here. At a voxel
    size of 13.68 Å their Cs range changes the CTF by less than 4e-4 up to Nyquist.

    Parameters
    ----------
    defocus_um, cs_mm, voltage_kv, amplitude_contrast, phase_shift_deg, b_factor_a2
        As for :class:`CTF`, numbers or ranges.
    phase_plate_prob
        Probability of a phase plate, whose shift is ``phase_shift_deg``; else there is none.
    mode
        As for :class:`CTF`; several words, or words with weights: one is drawn.
    deconvolution_strength, deconvolution_falloff
        As for :class:`CTF`, numbers or ranges.
    voxel_size, contrast
        As for :class:`CTF`.
    prob
        Probability that an item is imaged. Items left out keep the contrast they have.

    Raises
    ------
    ValueError
        On impossible parameters, min > max, or where no voxel size is known.
    """

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
        phase_plate_prob: float = 1.0,
        mode: Choice = "raw",
        deconvolution_strength: Range = 1.0,
        deconvolution_falloff: Range = 1.0,
        contrast: Contrast = "dark",
        prob: float = 1.0,
    ) -> None:
        RandDrawable.__init__(self, prob)
        FourierFilter.__init__(self, voxel_size)
        self.phase_plate_prob = parse_number("phase_plate_prob", phase_plate_prob, 0.0, 1.0)
        self._configure(
            {
                "defocus_um": defocus_um,
                "cs_mm": cs_mm,
                "voltage_kv": voltage_kv,
                "amplitude_contrast": amplitude_contrast,
                "phase_shift_deg": phase_shift_deg,
                "b_factor_a2": b_factor_a2,
                "deconvolution_strength": deconvolution_strength,
                "deconvolution_falloff": deconvolution_falloff,
            },
            mode,
            contrast,
        )

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw every parameter uniformly, and the mode."""
        drawn = self._draw(state)
        if not state.rand() < self.phase_plate_prob:
            drawn["phase_shift_deg"] = 0.0
        return drawn


class CTFd(DictTransform, of=CTF):
    """Dictionary version of :class:`CTF`."""


class RandCTFd(RandDictTransform, of=RandCTF):
    """Dictionary version of :class:`RandCTF`."""


CTFD = CTFDict = CTFd
RandCTFD = RandCTFDict = RandCTFd
