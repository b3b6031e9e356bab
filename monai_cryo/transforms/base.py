"""What all transforms here share: ranges, drawing apart from applying, types kept, dictionary versions."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform, Transform
from monai.utils import convert_to_dst_type
from torch import Tensor

from monai_cryo.physics.fourier import spatial_shape, voxel_size_zyx

Range = float | Sequence[float]
T = TypeVar("T", bound=type)


def parse_range(name: str, value: Range, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
    """Read a number (fixed) or a pair (uniform range).

    Raises
    ------
    ValueError
        If it is neither, min > max, or an end lies outside ``low``..``high``.
    """
    pair = (value, value) if isinstance(value, int | float) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int | float) and not math.isnan(v) for v in pair):
        raise ValueError(f"{name} must be a number or a (min, max) pair of numbers, got {value!r}")
    if pair[0] > pair[1]:
        raise ValueError(f"{name} must have min <= max, got {value!r}")
    if pair[0] != pair[1] and not all(math.isfinite(v) for v in pair):
        raise ValueError(f"{name} can be infinite only as a fixed value, got {value!r}")
    if pair[0] < low or pair[1] > high:
        raise ValueError(f"{name} must lie in {low:g}..{high:g}, got {value!r}")
    return float(pair[0]), float(pair[1])


def to_volume(img: NdarrayOrTensor, name: str) -> Tensor:
    """Return channel-first input as a plain float tensor (C, D, H, W): float64 stays, all else becomes float32.

    Raises
    ------
    ValueError
        If it has not four dimensions.
    """
    tensor = img.as_tensor() if isinstance(img, MetaTensor) else torch.as_tensor(img)
    if tensor.ndim != 4:
        raise ValueError(f"{name} expects a channel-first volume (C, D, H, W), got shape {tuple(tensor.shape)}")
    spatial_shape(tensor.shape)
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.to(torch.float32)


def like(result: Tensor, img: NdarrayOrTensor) -> NdarrayOrTensor:
    """Give ``result`` the type of ``img``; its dtype too where that is a floating one (integers would be cut)."""
    if type(img) is Tensor and img.dtype == result.dtype:
        return result
    template = torch.as_tensor(img)
    dtype = template.dtype if template.is_floating_point() else result.dtype
    out: NdarrayOrTensor = convert_to_dst_type(result.to(dtype), img, dtype=dtype)[0]
    return out


def image_voxel_size(img: NdarrayOrTensor) -> tuple[float, float, float] | None:
    """Voxel size (z, y, x) in Å that a MetaTensor carries; None for other types and for an identity affine."""
    if not isinstance(img, MetaTensor):
        return None
    size = voxel_size_zyx([float(p) for p in img.pixdim[:3]])
    return None if size == (1.0, 1.0, 1.0) else size


class RandPhysics(RandomizableTransform):
    """Base of the random transforms: ``randomize`` draws every parameter, applying uses what was drawn.

    After a call the values stand in ``params`` (name -> array) and which channels were transformed in ``active``;
    ``transform(img, randomize=False)`` applies the same values again.

    Parameters
    ----------
    prob
        Probability that a channel (``channel_wise``) or the whole array is transformed.
    channel_wise
        Draw for each channel on its own, so that a batch of volumes can be passed as channels.
    """

    def __init__(self, prob: float = 1.0, channel_wise: bool = False) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie in 0..1, got {prob}")
        RandomizableTransform.__init__(self, prob)
        self.channel_wise = channel_wise
        self.params: dict[str, np.ndarray] = {}
        self.active: np.ndarray = np.zeros(0, dtype=bool)

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw ``n`` values of every parameter from ``self.R``."""
        raise NotImplementedError

    def randomize(self, data: Any = None) -> None:
        """Draw the parameters for ``data``, a channel-first array (or anything with its ``shape``)."""
        n = data.shape[0] if self.channel_wise else 1
        self.active = self.R.rand(n) < self.prob
        self._do_transform = bool(self.active.any())
        self.params = self.draw(n)

    def uniform(self, bounds: tuple[float, float], n: int, *more: int) -> np.ndarray:
        """Draw uniform numbers of shape (n, *more)."""
        if bounds[0] == bounds[1]:
            return np.full((n, *more), bounds[0])
        return self.R.uniform(*bounds, size=(n, *more))

    def log_uniform(self, bounds: tuple[float, float], n: int) -> np.ndarray:
        """Draw ``n`` log-uniform numbers."""
        if bounds[0] == bounds[1]:
            return np.full(n, bounds[0])
        return np.exp(self.R.uniform(math.log(bounds[0]), math.log(bounds[1]), size=n))


class DictTransform(MapTransform):
    """Base of the dictionary versions: one array transform, drawn once, applied to every key.

    Parameters
    ----------
    keys
        Entries to transform.
    transform
        The array transform.
    allow_missing_keys
        Do not raise where a key is missing.
    """

    def __init__(self, keys: KeysCollection, transform: Transform, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform: Callable[..., Any] = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the entries transformed."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


class RandDictTransform(Randomizable, DictTransform):
    """Base of the random dictionary versions; the drawn values stand in ``transform.params``.

    Parameters
    ----------
    keys, transform, allow_missing_keys
        As for :class:`DictTransform`.
    mask_key
        Entry that is handed to the array transform as ``mask=``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        transform: Transform,
        allow_missing_keys: bool = False,
        mask_key: str | None = None,
    ) -> None:
        super().__init__(keys, transform, allow_missing_keys)
        self.mask_key = mask_key

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Any:
        """Set the state of the array transform, which does all the drawing."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)  # type: ignore[attr-defined]
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the entries transformed."""
        d = dict(data)
        options = {} if self.mask_key is None else {"mask": d[self.mask_key]}
        for i, key in enumerate(self.key_iterator(d)):
            d[key] = self.transform(d[key], randomize=i == 0, **options)
        return d
