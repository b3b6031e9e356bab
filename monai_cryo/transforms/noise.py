"""Noise at a signal-to-noise ratio: white or coloured, before the optics, after them, or split between the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from torch import Tensor

from monai_cryo._typing import NoiseStage, Region, check_word
from monai_cryo.physics.noise import noise_amplitude
from monai_cryo.transforms.arrays import to_mask
from monai_cryo.transforms.base import Draw, Parameters, RandDrawable, column
from monai_cryo.transforms.dictionary import RandDictTransform
from monai_cryo.transforms.fourier import FourierStep
from monai_cryo.transforms.plan import FourierPlan
from monai_cryo.transforms.ranges import (
    Choice,
    Range,
    choose,
    draw_seed,
    log_uniform,
    parse_choice,
    parse_number,
    parse_positive,
    parse_range,
    parse_table,
    uniform,
)

#: share of the noise-to-signal ratio that is added before the optics, by stage
BEFORE = {"before": 1.0, "split": 0.5, "after": 0.0}


class RandSNR(RandDrawable, FourierStep):
    """Add Gaussian noise so that variance of signal / variance of noise is a random SNR.

    The ratio holds at the point where the noise is added. Alone, the transform adds noise where it stands in the
    pipeline. In a :class:`~.fourier.FourierCompose`, ``stage`` says where: ``"before"`` the filters (the paper: noise
    passes through CTF and MTF as the signal does), ``"after"`` the optical ones (a detector's noise; physically the
    larger part), or ``"split"``, half of the noise-to-signal ratio at each place (Förster et al. 2008, J. Struct.
    Biol. 161:276-286). Noise always lies under the missing wedge there.

    Parameters
    ----------
    snr
        A number or a log-uniform (min, max), > 0; infinity adds nothing.
    region
        Voxels over which the signal's power, its mean squared deviation from the box's mean, is taken: the whole
        ``"box"`` (its variance, the paper's reading) or those of the ``"mask"``. For one particle in a box the two
        differ 20 to 70 times. A signal without any power, or with an empty mask, counts as white and of variance 1
        ahead of the optics.
    band
        (low, high) in fractions of Nyquist: compare signal and noise at these frequencies alone, where the signal is.
        An SNR over all frequencies says little where the noise's spectrum differs from the signal's. None: all.
    signal_power
        (min, max), what the power of the clean volume counts as at least and at most, in the region or band: a box that
        holds little is not imaged with less noise than one that holds much, nor one with a gold bead with more. Where
        the mean density of a template is 1, half of all crowded boxes have 0.05 to 0.1 in the band (0, 0.4), a lone
        TRiC 0.01. A box that holds nothing counts as the least. None: as it is.
    stage
        ``"before"``, ``"after"``, ``"split"``; several of them, or words with weights: one is drawn.
    power_law
        Noise power falls as frequency^-power_law; a number or a uniform (min, max); 0 is white.
    lowpass
        Fraction of Nyquist at which the noise power has fallen to 1/e (Gaussian), a number or a log-uniform
        (min, max); None: no fall-off.
    spectrum
        Radial noise power as rows (fraction of Nyquist, power), on top of the two above: a detector's noise transfer,
        or one measured on an empty patch with :func:`monai_cryo.io.measure_noise_spectrum`.
    prob
        Probability that an item gets noise.

    Raises
    ------
    ValueError
        If snr or signal_power <= 0, min > max, lowpass < 0.001, a word is unknown, the spectrum is no curve of powers
        >= 0, band and region ``"mask"`` are both asked for, the band is no (low, high), the mask is missing where the
        region is ``"mask"``, or ``"split"`` is used outside a FourierCompose.
    """

    def __init__(
        self,
        snr: Range = (0.03, 10.0),
        *,
        region: Region = "box",
        band: Sequence[float] | None = None,
        signal_power: Sequence[float] | None = None,
        stage: Choice = "before",
        power_law: Range = 0.0,
        lowpass: Range | None = None,
        spectrum: Sequence[Sequence[float]] | None = None,
        prob: float = 1.0,
    ) -> None:
        RandDrawable.__init__(self, prob)
        FourierStep.__init__(self)
        self.snr = parse_positive("snr", snr, infinite=True)
        check_word("region", region, Region)
        self.region = region
        self.band = None if band is None else parse_range("band", band, 0.0, 2.0)
        if self.band is not None and (region == "mask" or self.band[0] == self.band[1]):
            raise ValueError(f"band must be (low, high) with low < high and region 'box', got {band!r} and {region!r}")
        self.signal_power = None if signal_power is None else parse_positive("signal_power", signal_power)
        self.stages = parse_choice("stage", stage, NoiseStage)
        self.power_law = parse_range("power_law", power_law)
        self.lowpass = None if lowpass is None else parse_range("lowpass", lowpass, low=1e-3, infinite=True)
        self.spectrum = parse_table("spectrum", spectrum)
        noise_amplitude(torch.ones(1), 1.0, spectrum=self.spectrum)  # refuse a bad table now

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw SNR, stage, colour and the noise's seed."""
        return {
            "snr": log_uniform(state, self.snr),
            "stage": choose(state, self.stages),
            "power_law": uniform(state, self.power_law),
            "lowpass": None if self.lowpass is None else log_uniform(state, self.lowpass),
            "seed": draw_seed(state),
        }

    def plan(self, plan: FourierPlan, parameters: Sequence[Draw]) -> None:
        """Scale noise to what was drawn; items without a draw get none."""
        if self.region == "mask" and plan.mask is None:
            raise ValueError(
                "SNR over region 'mask' needs the mask: pass mask=, or mask_key= to a dictionary transform"
            )
        if all(p is None for p in parameters):
            return
        silent: Parameters = {"snr": float("inf"), "stage": "before", "power_law": 0.0, "lowpass": None, "seed": 0}
        drawn = [silent if p is None else p for p in parameters]
        for p in drawn:
            check_word(f"{type(self).__name__}'s stage", p["stage"], NoiseStage)
        noise_to_signal = 1 / column(drawn, "snr", plan.volume)[:, None]
        share = column([{"share": BEFORE[p["stage"]]} for p in drawn], "share", plan.volume)[:, None]
        colour, whole = self._colour(plan, drawn)
        # the plan's noise has its variance over all frequencies
        before = after = plan.volume.new_zeros(plan.volume.shape[:2])
        if bool((share > 0).any()):
            before = self._power(plan, "before").double() * noise_to_signal * share / whole
        if bool((share < 1).any()):
            after = self._power(plan, "after").double() * noise_to_signal * (1 - share) / whole
        plan.add_noise([p["seed"] for p in drawn], before, after, colour)

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Add noise to a batch where the transform stands; arguments as for :meth:`apply`."""
        if "split" in self.stages or any(p["stage"] == "split" for p in parameters):
            raise ValueError("stage='split' has a meaning inside a FourierCompose only: put RandSNR into one")
        return super().apply_to(batch, parameters, **context)

    def _power(self, plan: FourierPlan, stage: str) -> Tensor:
        """Power that noise is measured by, (B, C): the signal's within its limits, or what stands for one of none."""
        masked = self.region == "mask"
        power = plan.power(stage, in_mask=masked, band=self.band)
        if self.signal_power is None and bool((power > 0).all()):
            return power
        own = power if stage == "before" else plan.power("before", in_mask=masked, band=self.band)
        counted = torch.where(own > 0, own, 1) if self.signal_power is None else own.clamp(*self.signal_power)
        passed = torch.where(power > 0, power / own, 1 if stage == "before" else plan.passed(self.band)[:, None])
        return counted * passed

    def _colour(self, plan: FourierPlan, drawn: Sequence[Parameters]) -> tuple[Tensor | None, Tensor | float]:
        """Radial amplitude (B, R) of mean square 1, None where white, and the share of its power in the band (B, 1)."""
        grid = plan.grid
        inside = None if self.band is None else grid.weights * grid.band(*self.band)
        if inside is not None:
            inside[0] = 0  # the mean is no signal
            if not bool((inside > 0).any()):
                raise ValueError(
                    f"{type(self).__name__}: a box of {grid.shape} has no frequency in the band {self.band}"
                )
        if self.spectrum is None and all(p["power_law"] == 0 and p["lowpass"] is None for p in drawn):
            return None, 1.0 if inside is None else inside.sum()
        lowpass = [{"lowpass": float("inf") if p["lowpass"] is None else p["lowpass"]} for p in drawn]
        colour = noise_amplitude(
            grid.frequency,
            grid.nyquist,
            power_law=column(drawn, "power_law", plan.volume),
            lowpass=column(lowpass, "lowpass", plan.volume),
            spectrum=self.spectrum,
        )
        power = colour.square() @ grid.weights
        if self.spectrum is not None and not bool((power > 0).all()):
            raise ValueError(
                f"{type(self).__name__}: the noise spectrum is 0 at every frequency of a box of {grid.shape}"
            )
        colour = colour / power.sqrt()[:, None]
        share = 1.0 if inside is None else (colour.square() @ inside)[:, None].clamp(min=1e-12)
        return colour, share

    def __call__(  # type: ignore[override]
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None, randomize: bool = True
    ) -> NdarrayOrTensor:
        """Add noise to (C, D, H, W); the type, device and floating dtype are kept."""
        return self._on_array(img, randomize, mask=to_mask(mask, img, "RandSNR"))


class AddNoise(RandSNR):
    """Add Gaussian noise at one given SNR; options as of :class:`RandSNR`, without its limits, each a single value."""

    def __init__(
        self,
        snr: float = 0.1,
        *,
        region: Region = "box",
        band: Sequence[float] | None = None,
        stage: NoiseStage = "before",
        power_law: float = 0.0,
        lowpass: float | None = None,
        spectrum: Sequence[Sequence[float]] | None = None,
    ) -> None:
        check_word("stage", stage, NoiseStage)
        super().__init__(
            parse_number("snr", snr, infinite=True),
            region=region,
            band=band,
            stage=stage,
            power_law=parse_number("power_law", power_law),
            lowpass=None if lowpass is None else parse_number("lowpass", lowpass, infinite=True),
            spectrum=spectrum,
        )


class RandSNRd(RandDictTransform, of=RandSNR):
    """Dictionary version of :class:`RandSNR`; ``mask_key`` names the mask for ``region="mask"``."""


class AddNoised(RandDictTransform, of=AddNoise):
    """Dictionary version of :class:`AddNoise`; ``mask_key`` names the mask for ``region="mask"``."""


RandSNRD = RandSNRDict = RandSNRd
AddNoiseD = AddNoiseDict = AddNoised
