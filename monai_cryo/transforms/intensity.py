"""Grey values: the paper's intensity augmentation, and the standardisation that simulated and real volumes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from monai_cryo._typing import check_word
from monai_cryo.physics.fourier import ROUNDING, centred
from monai_cryo.transforms.base import Drawable, Parameters, RandDrawable, column
from monai_cryo.transforms.dictionary import DictTransform, RandDictTransform
from monai_cryo.transforms.ranges import Range, parse_positive, parse_range, uniform

Scope = Literal["item", "batch"]


class RandIntensity(RandDrawable):
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
    prob
        Probability that an item is changed.

    Raises
    ------
    ValueError
        If contrast <= 0 or min > max.
    """

    def __init__(self, contrast: Range = (0.8, 1.2), brightness: Range = (-0.2, 0.2), prob: float = 1.0) -> None:
        super().__init__(prob)
        self.contrast = parse_positive("contrast", contrast)
        self.brightness = parse_range("brightness", brightness)

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw contrast and brightness."""
        return {"contrast": uniform(state, self.contrast), "brightness": uniform(state, self.brightness)}

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Change a batch (B, C, D, H, W), each channel by its own mean and deviation."""
        scale, shift = (column(parameters, k, batch).view(-1, 1, 1, 1, 1) for k in ("contrast", "brightness"))
        difference, mean, std = centred(batch)
        return difference.mul_(scale).add_(mean + shift * std)


class Standardize(Drawable):
    """Subtract the mean and divide by the standard deviation.

    Parameters
    ----------
    scope
        ``"item"``: each item, and each of its channels, by its own. ``"batch"``: all items of a batch by one global
        mean and deviation, as the paper standardises; what stands alone is a batch of one.

    Raises
    ------
    ValueError
        On an unknown scope, or a volume with NaN or infinite values. A constant volume becomes zero.
    """

    def __init__(self, scope: Scope = "item") -> None:
        check_word("scope", scope, Scope)
        self.scope = scope

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Standardise a batch (B, C, D, H, W)."""
        axes = (-3, -2, -1) if self.scope == "item" else (-5, -4, -3, -2, -1)
        difference, mean, std = centred(batch, axes)
        if not bool(std.isfinite().all()):
            raise ValueError(f"Standardize expects finite values, found NaN or infinity in shape {tuple(batch.shape)}")
        # rounding noise on a constant volume must not be blown up to variance 1
        constant = std <= ROUNDING * torch.finfo(std.dtype).eps * mean.abs() + torch.finfo(batch.dtype).tiny
        return difference.mul_(torch.where(constant, torch.zeros_like(std), 1 / std))


class RandIntensityd(RandDictTransform, of=RandIntensity):
    """Dictionary version of :class:`RandIntensity`."""


class Standardized(DictTransform, of=Standardize):
    """Dictionary version of :class:`Standardize`."""


RandIntensityD = RandIntensityDict = RandIntensityd
StandardizeD = StandardizeDict = Standardized
