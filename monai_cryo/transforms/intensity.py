"""Grey values: the paper's intensity augmentation, and the standardisation that simulated and real volumes share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import Transform

from monai_cryo.physics.fourier import AXES, centred
from monai_cryo.transforms.base import (
    DictTransform,
    RandDictTransform,
    RandPhysics,
    Range,
    like,
    parse_range,
    to_volume,
)


class RandIntensity(RandPhysics):
    r"""Change brightness and contrast by random amounts measured in the volume's own mean and variance.

    The paper names "an intensity augmentation based on its variance and mean" and no more. Read here as

    .. math:: y = \mu + b\,\sigma + a\,(x - \mu)

    with the volume's own mean and standard deviation: contrast a, brightness b in standard deviations. A per-volume
    standardisation afterwards undoes it; the paper's standardisation over a whole batch does not.

    Parameters
    ----------
    contrast
        a, a number or a uniform (min, max), > 0.
    brightness
        b, a number or a uniform (min, max).
    prob, channel_wise
        As for :class:`~.base.RandPhysics`.

    Raises
    ------
    ValueError
        If contrast <= 0 or min > max.
    """

    def __init__(
        self,
        contrast: Range = (0.8, 1.2),
        brightness: Range = (-0.2, 0.2),
        prob: float = 1.0,
        channel_wise: bool = False,
    ) -> None:
        super().__init__(prob, channel_wise)
        self.contrast = parse_range("contrast", contrast)
        if self.contrast[0] <= 0:
            raise ValueError(f"contrast must be > 0, got {contrast!r}")
        self.brightness = parse_range("brightness", brightness)

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw contrast and brightness."""
        return {"contrast": self.uniform(self.contrast, n), "brightness": self.uniform(self.brightness, n)}

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Change (C, D, H, W); the type, device and floating dtype are kept."""
        volume = to_volume(img, "RandIntensity")
        if randomize:
            self.randomize(volume)
        if not self.active.any():
            return img
        a = np.where(self.active, self.params["contrast"], 1.0)
        b = np.where(self.active, self.params["brightness"], 0.0)
        scale, shift = (torch.as_tensor(v, dtype=volume.dtype, device=volume.device).view(-1, 1, 1, 1) for v in (a, b))
        difference, mean, std = centred(volume)
        return like(difference.mul_(scale).add_(mean + shift * std), img)


class Standardize(Transform):
    """Subtract the mean and divide by the standard deviation.

    Parameters
    ----------
    channel_wise
        True: each channel (each sample, where a batch is passed as channels) by its own. False: all channels by one
        global mean and standard deviation, as the paper standardises its batches.

    Raises
    ------
    ValueError
        On a volume with NaN or infinite values. A constant volume becomes zero.
    """

    def __init__(self, channel_wise: bool = True) -> None:
        self.channel_wise = channel_wise

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Standardise (C, D, H, W); the type, device and floating dtype are kept."""
        volume = to_volume(img, "Standardize")
        difference, mean, std = centred(volume, AXES if self.channel_wise else (-4, *AXES))
        if not bool(std.isfinite().all()):
            raise ValueError(f"Standardize expects finite values, found NaN or infinity in shape {tuple(volume.shape)}")
        # rounding noise on a constant volume must not be blown up to variance 1
        constant = std <= 1e-6 * mean.abs() + torch.finfo(volume.dtype).tiny
        factor = torch.where(constant, torch.zeros_like(std), 1 / std)
        return like(difference.mul_(factor), img)


class RandIntensityd(RandDictTransform):
    """Dictionary version of :class:`RandIntensity`: ``keys`` and its arguments."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, RandIntensity(**kwargs), allow_missing_keys)


class Standardized(DictTransform):
    """Dictionary version of :class:`Standardize`: ``keys`` and its arguments."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, Standardize(**kwargs), allow_missing_keys)


RandIntensityD = RandIntensityDict = RandIntensityd
StandardizeD = StandardizeDict = Standardized
