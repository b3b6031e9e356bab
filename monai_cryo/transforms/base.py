"""What all transforms here share: a draw is a value, applying it holds no state, types are kept."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, RandomizableTransform
from torch import Tensor

from monai_cryo._described import Described
from monai_cryo.transforms.arrays import like, to_volume
from monai_cryo.transforms.geometry import array_geometry, batch_geometry
from monai_cryo.transforms.ranges import parse_number

Parameters = dict[str, Any]
"""Drawn values of one item: numbers, words, None and lists of them, ready for JSON."""

Draw = Parameters | None
"""What a transform draws for one item; None leaves the item alone."""


class Drawable(Described, InvertibleTransform):
    """Base of all array transforms: :meth:`draw` the values of an item, :meth:`apply` them to a batch.

    A subclass implements :meth:`apply_to`, and :meth:`draw` where it has values to draw. Called on one channel-first
    array the transform is the two in a row. What was drawn stands in ``parameters``, and in the
    ``applied_operations`` of a MetaTensor.
    """

    parameters: Draw
    voxel_size: Any = None

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
            What :meth:`apply_to` of the transform takes besides, such as ``mask``. Tensors have B items as well.

        Returns
        -------
        Tensor
            A batch of the same type, the very same one where nothing is to be done.

        Raises
        ------
        ValueError
            If batch and parameters do not fit, or a draw is none of this transform.
        """
        parameters = self._checked(batch, parameters)
        on = [i for i, drawn in enumerate(parameters) if drawn is not None]
        drawn = [p for p in parameters if p is not None]
        if not on:
            return batch
        context = batch_geometry(batch, self.voxel_size) | context
        if len(on) == len(batch):
            return self.apply_to(batch, drawn, **context)
        context = {k: v[on] if isinstance(v, Tensor) else v for k, v in context.items()}
        result = batch.clone()
        result[on] = self.apply_to(batch[on], drawn, **context)
        return result

    def _checked(self, batch: Tensor, parameters: Sequence[Draw]) -> list[Draw]:
        """Return the draws, ready to refuse what they lack; refuse another number of them than items."""
        name = type(self).__name__
        if batch.ndim != 5 or len(batch) != len(parameters):
            raise ValueError(
                f"{name}.apply expects a batch (B, C, D, H, W) and B draws, got shape "
                f"{tuple(batch.shape)} and {len(parameters)}"
            )
        for drawn in parameters:
            if drawn is not None and not isinstance(drawn, Mapping):
                raise ValueError(f"{name}: a draw must be a dictionary of its values or None, got {drawn!r}")
        return [None if p is None else _Draw(name, p) for p in parameters]

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
        """What :meth:`apply_to` is told of the array: its voxel size, unless one was given, and its axes."""
        return array_geometry(img, self.voxel_size)

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
        RandomizableTransform.__init__(self, parse_number("prob", prob, 0.0, 1.0))
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


class _Draw(dict[str, Any]):
    """A draw, which may have been edited: what it lacks is refused."""

    def __init__(self, owner: str, values: Mapping[str, Any]) -> None:
        inner = {k: _Draw(f"{owner}'s {k}", v) if isinstance(v, Mapping) else v for k, v in values.items()}
        super().__init__(inner)
        self.owner = owner

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"{self.owner}: a draw lacks {key!r}; it has {', '.join(map(str, self)) or 'nothing'}")


def column(parameters: Sequence[Parameters], name: str, like: Tensor) -> Tensor:
    """Stack one drawn value of all items, (B, ...), on the device and in the dtype of ``like``.

    Raises
    ------
    ValueError
        If the values are no numbers, or not of one shape.
    """
    values = [p[name] for p in parameters]
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if np.isnan(numbers).any():
        owner = getattr(parameters[0], "owner", "draws")
        raise ValueError(f"{owner}: {name} must be numbers, of one shape for all items, got {reprlib.repr(values)}")
    return torch.from_numpy(numbers).to(like)


_NO_RANDOMNESS = np.random.RandomState(0)  # handed to transforms that have nothing to draw
