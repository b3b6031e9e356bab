"""What all transforms here share: a draw is a value, applying it holds no state, types are kept."""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Randomizable, RandomizableTransform
from monai.utils import convert_to_dst_type
from torch import Tensor

from monai_cryo.physics.fourier import spatial_shape

Parameters = dict[str, Any]
"""Drawn values of one item: numbers, words, None and lists of them, ready for JSON."""

Draw = Parameters | None
"""What a transform draws for one item; None leaves the item alone."""


class Described:
    """Remember the constructor's arguments, for a ``repr`` that shows them and a configuration that makes another."""

    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Note the arguments; the constructor says what is wrong with them."""
        self = super().__new__(cls)
        self._arguments = {}
        try:
            bound = inspect.signature(cls).bind(*args, **kwargs)
        except TypeError:  # also when unpickled, without arguments: the state brings them
            return self
        bound.apply_defaults()
        self._arguments = dict(bound.arguments)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={_short(v)}' for k, v in self._arguments.items())})"

    def config(self) -> dict[str, Any]:
        """Return ``{"_target_": ..., **arguments}``, plain values from which MONAI's ConfigParser makes its equal.

        Raises
        ------
        ValueError
            If an argument, such as a tensor, is no plain value.
        """
        room = ".".join(type(self).__module__.split(".")[:2])
        values = {k: _plain(v, f"{type(self).__name__}'s {k}") for k, v in self._arguments.items()}
        return {"_target_": f"{room}.{type(self).__name__}", **values}


class Drawable(Described, InvertibleTransform):
    """Base of all array transforms: :meth:`draw` the values of an item, :meth:`apply` them to a batch.

    A subclass implements :meth:`apply_to`, and :meth:`draw` where it has values to draw. Called on one channel-first
    array the transform is the two in a row. What was drawn stands in ``parameters``, and in the
    ``applied_operations`` of a MetaTensor.
    """

    parameters: Draw

    def draw(self, state: np.random.RandomState) -> Draw:
        """Draw the values of one item.

        Parameters
        ----------
        state
            Source of all randomness.

        Returns
        -------
        dict or None
            Plain values, ready for JSON; None leaves the item alone.
        """
        return {}

    def apply(self, batch: Tensor, parameters: Sequence[Draw], **context: Any) -> Tensor:
        """Apply drawn values to a batch; no randomness, no state.

        Parameters
        ----------
        batch
            (B, C, D, H, W), float32 or float64. It is left as it is.
        parameters
            One draw an item.
        **context
            What :meth:`apply_to` of the transform takes besides, such as ``mask``; batches as well.

        Returns
        -------
        Tensor
            A batch of the same type, the very same one where nothing is to be done.

        Raises
        ------
        ValueError
            If batch and parameters do not fit.
        """
        self._check_fit(batch, parameters)
        on = [i for i, drawn in enumerate(parameters) if drawn is not None]
        drawn = [p for p in parameters if p is not None]
        if not on:
            return batch
        if len(on) == len(batch):
            return self.apply_to(batch, drawn, **context)
        context = {k: v[on] if isinstance(v, Tensor) else v for k, v in context.items()}
        result = batch.clone()
        result[on] = self.apply_to(batch[on], drawn, **context)
        return result

    def _check_fit(self, batch: Tensor, parameters: Sequence[Draw]) -> None:
        if batch.ndim != 5 or len(batch) != len(parameters):
            raise ValueError(
                f"{type(self).__name__}.apply expects a batch (B, C, D, H, W) and B draws, got shape "
                f"{tuple(batch.shape)} and {len(parameters)}"
            )

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Apply to a batch whose items are all to be transformed; arguments as for :meth:`apply`."""
        raise NotImplementedError

    def _settle(self, randomize: bool) -> Draw:
        """Return the draw to apply: of a transform without randomness, always the same."""
        self.parameters = self.draw(_NO_RANDOMNESS)
        return self.parameters

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Transform one channel-first array.

        Parameters
        ----------
        img
            (C, D, H, W); all channels share the draw.
        randomize
            False: apply what was drawn last.

        Returns
        -------
        NdarrayOrTensor
            Type, device and floating dtype are kept.
        """
        return self._on_array(img, randomize)

    def _context(self, img: NdarrayOrTensor) -> dict[str, Any]:
        """What the array itself tells :meth:`apply_to`, such as its voxel size."""
        return {}

    def _on_array(self, img: NdarrayOrTensor, randomize: bool, **context: Any) -> NdarrayOrTensor:
        volume = to_volume(img, type(self).__name__)
        drawn = self._settle(randomize)
        if drawn is None:
            return self._record(img)
        context = {k: None if v is None else v[None] for k, v in context.items()}
        result = self.apply(volume[None], [drawn], **context, **self._context(img))[0]
        return self._record(like(result, img))

    def _record(self, result: NdarrayOrTensor) -> NdarrayOrTensor:
        if isinstance(result, MetaTensor):
            if self.parameters is None:  # the caller's own array: the record must not enter its history
                result = result.view_as(result)
            result = self.push_transform(result, extra_info={"parameters": self.parameters})
        return result

    def inverse(self, data: NdarrayOrTensor) -> NdarrayOrTensor:
        """Take the record of this transform away, so that those before it can be inverted; imaging is not undone."""
        if isinstance(data, MetaTensor):
            self.pop_transform(data)
        return data


class RandDrawable(RandomizableTransform, Drawable):
    """Base of the random array transforms; a subclass implements :meth:`draw_values` and :meth:`apply_to`.

    Parameters
    ----------
    prob
        Probability that an item is transformed.
    """

    def __init__(self, prob: float = 1.0) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie in 0..1, got {prob}")
        RandomizableTransform.__init__(self, prob)
        self._drawn = False
        self.parameters: Draw = None

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw the values of an item that is to be transformed."""
        raise NotImplementedError

    def draw(self, state: np.random.RandomState) -> Draw:
        """Draw whether the item is transformed, and with which values."""
        return self.draw_values(state) if state.rand() < self.prob else None

    def randomize(self, data: Any = None) -> None:
        """Draw from ``self.R`` into ``parameters``."""
        self.parameters = self.draw(self.R)
        self._drawn, self._do_transform = True, self.parameters is not None

    def _settle(self, randomize: bool) -> Draw:
        if randomize:
            self.randomize()
        elif not self._drawn:
            raise ValueError(f"{type(self).__name__}: nothing was drawn yet that randomize=False could apply again")
        return self.parameters


class DictTransform(Described, MapTransform, InvertibleTransform):
    """Base of the dictionary versions: ``class CTFd(DictTransform, of=CTF)``.

    The signature is ``keys``, then the array version's arguments and ``allow_missing_keys`` by keyword, and
    ``mask_key``, the entry with the mask, where the array version takes a mask (and ``masked`` is not false). All keys
    share one draw.
    """

    of: ClassVar[type[Drawable]]

    def __init_subclass__(cls, of: type[Drawable] | None = None, masked: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if of is None:
            return
        cls.of = of
        own = inspect.signature(cls.__init__).parameters
        by_keyword = [p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(of).parameters.values()]
        if masked and "mask" in inspect.signature(of.__call__).parameters:
            by_keyword.append(
                inspect.Parameter("mask_key", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="str | None")
            )
        by_keyword += [p for p in own.values() if p.kind is p.KEYWORD_ONLY]
        by_keyword.sort(key=lambda p: p.default is not p.empty)
        cls.__signature__ = inspect.Signature([own["keys"], *by_keyword])
        if cls.__doc__ is None:
            cls.__doc__ = f"Dictionary version of :class:`{of.__name__}`: ``keys``, then its arguments by keyword."

    def __init__(self, keys: KeysCollection, *, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.mask_key: str | None = None
        if "mask_key" in inspect.signature(type(self)).parameters:
            self.mask_key = kwargs.pop("mask_key", None)
        self.transform: Any = self.of(**kwargs)

    def draw(self, state: np.random.RandomState) -> Draw:
        """Draw the values of one item, as the array version does."""
        drawn: Draw = self.transform.draw(state)
        return drawn

    def apply(self, data: Mapping[Hashable, Any], parameters: Sequence[Draw]) -> dict[Hashable, Any]:
        """Return a copy of a dictionary of batches (B, C, D, H, W) with the entries transformed."""
        d = dict(data)
        mask = {} if self.mask_key is None else {"mask": d[self.mask_key]}
        for key in self.key_iterator(d):
            d[key] = self.transform.apply(d[key], parameters, **mask)
        return d

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the entries transformed."""
        d = dict(data)
        mask = {} if self.mask_key is None else {"mask": d[self.mask_key]}
        for i, key in enumerate(self.key_iterator(d)):
            d[key] = self.transform(d[key], randomize=i == 0, **mask)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the entries as the array version's ``inverse`` gives them back."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform.inverse(d[key])
        return d


class RandDictTransform(Randomizable, DictTransform):
    """Base of the random dictionary versions; what was drawn stands in ``transform.parameters``."""

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Any:
        """Set the state that the array version draws from."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(state=self.R)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw the array version's values."""
        self.transform.randomize(data)


def to_volume(img: NdarrayOrTensor, name: str) -> Tensor:
    """Return channel-first input as a plain float tensor (C, D, H, W): float64 stays, all else becomes float32.

    Raises
    ------
    ValueError
        If it has not four dimensions, or holds NaN or infinity.
    """
    if isinstance(img, np.ndarray):  # torch takes neither negative strides nor foreign byte orders
        img = np.ascontiguousarray(img, dtype=img.dtype.newbyteorder("="))
    tensor = img.as_tensor() if isinstance(img, MetaTensor) else torch.as_tensor(img)
    if tensor.ndim != 4:
        raise ValueError(f"{name} expects a channel-first volume (C, D, H, W), got shape {tuple(tensor.shape)}")
    spatial_shape(tensor.shape)
    tensor = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.to(torch.float32)
    if not bool(tensor.isfinite().all()):
        bad = int((~tensor.isfinite()).sum())
        raise ValueError(f"{name} expects finite values, found NaN or infinity in {bad} of {tensor.numel()} voxels")
    return tensor


def to_mask(mask: NdarrayOrTensor | None, volume: NdarrayOrTensor, name: str) -> Tensor | None:
    """Return a mask as a volume on the device of the image it belongs to; refuse another shape."""
    if mask is None:
        return None
    inside = to_volume(mask, f"{name}'s mask")
    if inside.shape != volume.shape:
        raise ValueError(f"{name}: mask shape {tuple(inside.shape)} must equal image shape {tuple(volume.shape)}")
    return inside.to(volume.device) if isinstance(volume, Tensor) else inside


def like(result: Tensor, img: NdarrayOrTensor) -> NdarrayOrTensor:
    """Give ``result`` the type of ``img``; its dtype too where that is a floating one (integers would be cut)."""
    if type(img) is Tensor and img.dtype == result.dtype:
        return result
    if isinstance(img, np.ndarray):
        kept: np.ndarray = result.detach().cpu().numpy()
        return kept.astype(img.dtype.newbyteorder("="), copy=False) if img.dtype.kind == "f" else kept
    dtype = img.dtype if img.is_floating_point() else result.dtype
    out: NdarrayOrTensor = convert_to_dst_type(result.to(dtype), img, dtype=dtype)[0]
    return out


def column(parameters: Sequence[Parameters], name: str, like: Tensor) -> Tensor:
    """Stack one drawn value of all items, (B, ...), on the device and in the dtype of ``like``."""
    return torch.from_numpy(np.array([p[name] for p in parameters], dtype=np.float64)).to(like)


_NO_RANDOMNESS = np.random.RandomState(0)  # handed to transforms that have nothing to draw


def _short(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"<{type(value).__name__} {tuple(value.shape)}>"
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor | np.ndarray):
        return f"<{len(value)} arrays>"
    return repr(value) if isinstance(value, Described) or _holds(value) else reprlib.repr(value)


def _holds(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(v, Described) for v in value)


def _plain(value: Any, what: str) -> Any:
    if isinstance(value, Described):
        return value.config()
    if isinstance(value, Mapping):
        return {str(k): _plain(v, what) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, what) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and not math.isnan(value)):
        return value
    raise ValueError(f"{what} is no plain value that a configuration could hold: {type(value).__name__}")
