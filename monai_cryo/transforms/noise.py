"""Noise at a signal-to-noise ratio: white or coloured, before the optics, after them, or half and half."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from torch import Tensor

from monai_cryo._typing import NoiseStage, Region
from monai_cryo.physics.fourier import irfft, nyquist, spread
from monai_cryo.physics.noise import half_grid_noise, noise_amplitude, region_power, shell_weights, spectrum_variance
from monai_cryo.transforms.base import (
    RandDictTransform,
    RandPhysics,
    Range,
    parse_range,
    to_volume,
)
from monai_cryo.transforms.fourier import FourierCompose, FourierNoise

#: share of the noise-to-signal ratio that is added before the optics, by stage
_BEFORE = {"before": 1.0, "split": 0.5, "after": 0.0}


class RandSNR(RandPhysics, FourierNoise):
    """Add Gaussian noise so that variance of signal / variance of noise is a random SNR.

    The ratio holds at the point where the noise is added. Alone, the transform adds noise where it stands in the
    pipeline. In a :class:`~.fourier.FourierCompose`, ``stage`` says where: ``"before"`` the filters (the paper: noise
    passes through CTF and MTF as the signal does), ``"after"`` the optical ones (a detector's noise; physically the
    larger part), or ``"split"``, half of the noise-to-signal ratio at each place (Förster et al. 2008, J. Struct.
    Biol. 161:276-286). Several stages: one is drawn. Noise always lies under the missing wedge there.

    Parameters
    ----------
    snr
        A number or a log-uniform (min, max), > 0; infinity adds nothing.
    region
        Voxels over which the signal's power, its mean squared deviation from the box's mean, is taken: the whole
        ``"box"`` (its variance, the paper's reading) or those of the ``"mask"``. For one particle in a box the two
        differ 20 to 70 times. A signal without any power, or with an empty mask,
        counts as 1.
    stage
        ``"before"``, ``"after"``, ``"split"``, or several of them.
    power_law
        Noise power falls as frequency^-power_law; a number or a uniform (min, max); 0 is white.
    lowpass
        Fraction of Nyquist at which the noise power has fallen to 1/e (Gaussian), a number or a uniform (min, max);
        None: no fall-off.
    spectrum
        Radial noise power as rows (fraction of Nyquist, power), on top of the two above: a detector's noise transfer,
        or one measured on an empty patch with :func:`monai_cryo.physics.radial_power_spectrum`.
    prob, channel_wise
        As for :class:`~.base.RandPhysics`.

    Raises
    ------
    ValueError
        If snr <= 0, min > max, a word is unknown, or ``"split"`` is used outside a FourierCompose.
    """

    def __init__(
        self,
        snr: Range = (0.03, 10.0),
        *,
        region: Region = "box",
        stage: NoiseStage | Sequence[NoiseStage] = "before",
        power_law: Range = 0.0,
        lowpass: Range | None = None,
        spectrum: Sequence[Sequence[float]] | None = None,
        prob: float = 1.0,
        channel_wise: bool = False,
    ) -> None:
        super().__init__(prob, channel_wise)
        self.snr = parse_range("snr", snr)
        if self.snr[0] <= 0:
            raise ValueError(f"snr must be > 0, got {snr!r}")
        if region not in get_args(Region):
            raise ValueError(f"region must be one of {', '.join(get_args(Region))}, got {region!r}")
        self.region = region
        self.stages = (stage,) if isinstance(stage, str) else tuple(stage)
        if not self.stages or not set(self.stages) <= set(_BEFORE):
            raise ValueError(f"stage must be one or several of {', '.join(_BEFORE)}, got {stage!r}")
        self.power_law = parse_range("power_law", power_law)
        self.lowpass = parse_range("lowpass", float("inf") if lowpass is None else lowpass, low=1e-3)
        self.spectrum = None if spectrum is None else [[float(v) for v in row] for row in spectrum]
        if self.spectrum is not None:
            noise_amplitude(torch.ones(1), 1.0, spectrum=self.spectrum)  # refuse a bad table now

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw SNR, stage, colour and one seed a channel."""
        return {
            "snr": self.log_uniform(self.snr, n),
            "stage": np.array([self.stages[i] for i in self.R.randint(0, len(self.stages), size=n)]),
            "power_law": self.uniform(self.power_law, n),
            "lowpass": self.uniform(self.lowpass, n),
            "seed": self.R.randint(0, 2**31 - 1, size=n),
        }

    def white_noise(self, volume: Tensor) -> Tensor:
        """Transform of white noise of variance 1 (C, D, H, W // 2 + 1), each channel from its own seed."""
        return half_grid_noise(volume.shape, self.params["seed"].tolist(), dtype=volume.dtype, device=volume.device)

    def amplitude(
        self,
        volume: Tensor,
        spectrum: Tensor,
        optics: Tensor,
        radii: Tensor,
        index: Tensor,
        voxel_size: tuple[float, float, float],
        mask: NdarrayOrTensor | None,
    ) -> tuple[Tensor, bool]:
        """Scale unit white noise to the drawn SNR.

        Parameters
        ----------
        volume, spectrum
            The signal (C, D, H, W) and its transform.
        optics
            Radial filters between the two stages, (C or 1, R or 1).
        radii, index
            Shells of the half grid.
        voxel_size
            (z, y, x) in Å.
        mask
            As the volume; for ``region="mask"``.

        Returns
        -------
        Tensor
            Radial amplitude of the noise, (C, R or 1).
        bool
            True: the noise is white and ahead of the optics, which are still to be applied to it, as to the signal.
            False: they are in the amplitude.
        """
        kind: dict[str, Any] = {"device": volume.device, "dtype": volume.dtype}
        inside = None
        if self.region == "mask":
            if mask is None:
                raise ValueError(
                    "SNR over region 'mask' needs the mask: pass mask=, or mask_key= to a dictionary transform"
                )
            inside = to_volume(mask, "RandSNR's mask").to(volume.device)
            if inside.shape != volume.shape:
                raise ValueError(f"mask shape {tuple(inside.shape)} must equal image shape {tuple(volume.shape)}")
        active = torch.as_tensor(self.active, **kind)
        noise_to_signal = active / torch.as_tensor(self.params["snr"], **kind)
        share = torch.as_tensor([_BEFORE[s] for s in self.params["stage"]], **kind)

        before = after = volume.new_zeros(len(volume))
        if bool((share > 0).any()):
            power = spectrum_variance(spectrum, volume.shape) if inside is None else region_power(volume, inside)
            before = _power_or_one(power) * noise_to_signal * share
        if bool((share < 1).any()):
            imaged = spectrum * (optics[..., None, None] if optics.shape[-1] == 1 else spread(optics, index))
            if inside is None:
                variance = spectrum_variance(imaged, volume.shape)
            else:
                variance = region_power(irfft(imaged, volume.shape), inside)
            after = _power_or_one(variance) * noise_to_signal * (1 - share)

        if not after.any() and self.spectrum is None and self.power_law == (0, 0) and self.lowpass[0] == float("inf"):
            return before.sqrt()[:, None], True
        colour = noise_amplitude(
            radii,
            nyquist(voxel_size),
            power_law=torch.as_tensor(self.params["power_law"], **kind),
            lowpass=torch.as_tensor(self.params["lowpass"], **kind),
            spectrum=self.spectrum,
        )
        weights = shell_weights(volume.shape, index, len(radii)).to(volume.dtype)
        colour = colour / (colour.square() @ weights).sqrt()[:, None]
        # two independent grains add up in power; a single one keeps the sign of its filters
        both = (before[:, None] * optics.square() + after[:, None]).sqrt()
        return torch.where(after[:, None] == 0, before.sqrt()[:, None] * optics, both) * colour, False

    def __call__(
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None, randomize: bool = True
    ) -> NdarrayOrTensor:
        """Add noise to (C, D, H, W); the type, device and floating dtype are kept."""
        if "split" in self.stages:
            raise ValueError("stage='split' has a meaning inside a FourierCompose only: put RandSNR into one")
        return FourierCompose([self])(img, mask=mask, randomize=randomize)


class AddNoise(RandSNR):
    """Add Gaussian noise at one given SNR; the options are those of :class:`RandSNR`, each a single number."""

    def __init__(
        self,
        snr: float = 0.1,
        *,
        region: Region = "box",
        stage: NoiseStage = "before",
        power_law: float = 0.0,
        lowpass: float | None = None,
        spectrum: Sequence[Sequence[float]] | None = None,
        channel_wise: bool = True,
    ) -> None:
        super().__init__(
            snr,
            region=region,
            stage=stage,
            power_law=power_law,
            lowpass=lowpass,
            spectrum=spectrum,
            channel_wise=channel_wise,
        )


def _power_or_one(variance: Tensor) -> Tensor:
    """Let an empty signal count as variance 1, so that noise alone can be asked for."""
    return torch.where(variance > 1e-12, variance, torch.ones_like(variance))


class RandSNRd(RandDictTransform):
    """Dictionary version of :class:`RandSNR`: ``keys``, its arguments, and ``mask_key`` for ``region="mask"``."""

    def __init__(
        self, keys: KeysCollection, mask_key: str | None = None, allow_missing_keys: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(keys, RandSNR(**kwargs), allow_missing_keys, mask_key)


class AddNoised(RandDictTransform):
    """Dictionary version of :class:`AddNoise`: ``keys``, its arguments, and ``mask_key`` for ``region="mask"``."""

    def __init__(
        self, keys: KeysCollection, mask_key: str | None = None, allow_missing_keys: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(keys, AddNoise(**kwargs), allow_missing_keys, mask_key)


RandSNRD = RandSNRDict = RandSNRd
AddNoiseD = AddNoiseDict = AddNoised
