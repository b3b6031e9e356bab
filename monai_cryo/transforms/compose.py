"""A ``Compose`` that also runs over whole batches: drawn item by item, applied once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, Randomizable, Transform
from torch import Tensor

from monai_cryo._described import Described
from monai_cryo.transforms.base import Draw, Drawable, Parameters, RandDrawable
from monai_cryo.transforms.dictionary import DictTransform
from monai_cryo.transforms.fourier import check_names, unique_names
from monai_cryo.transforms.ranges import draw_seed


class BatchCompose(Described, Compose):
    """MONAI's ``Compose`` of dictionary transforms, with two halves more: :meth:`draw` one item, :meth:`apply` a batch.

    Called on one item it is a ``Compose``. On a batch each item gets what its own draw says, whatever the batch, and
    the volumes are touched once for all items. Transforms that are not of this package run item by item, each item
    with a seed of its own.

    Parameters
    ----------
    transforms
        Dictionary transforms, and MONAI's containers (``OneOf``, ``Compose``, ...) of them.

    Raises
    ------
    ValueError
        On other members.

    Examples
    --------
    >>> pipeline = BatchCompose([RandPosed(["image", "mask"], mode=["bilinear", "nearest"]), RandSNRd("image")])
    >>> draws = [pipeline.draw(numpy.random.RandomState(seed)) for seed in range(32)]
    >>> batch = pipeline.apply({"image": images, "mask": masks}, draws)  # (32, 1, D, H, W) each
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        for t in transforms:
            _check_member(t)
        Compose.__init__(self, list(transforms))
        self.members = [t if isinstance(t, DictTransform) else PerItem(t) for t in self.flatten().transforms]
        self.names = unique_names([t.transform if isinstance(t, PerItem) else t for t in self.members])

    def draw(self, state: np.random.RandomState) -> Parameters:
        """Draw for one item: name of the transform -> its draw, ready for JSON."""
        return {name: t.draw(state) for name, t in zip(self.names, self.members, strict=True)}

    def apply(self, data: Mapping[str, Any], parameters: Sequence[Parameters]) -> dict[str, Any]:
        """Apply draws to a batch.

        Parameters
        ----------
        data
            Entries (B, C, D, H, W), and others with B items.
        parameters
            B draws, as :meth:`draw` gave them or as they were saved.

        Returns
        -------
        dict
            A copy with the entries transformed.

        Raises
        ------
        ValueError
            If an entry has not one item a draw, or a draw is none of this pipeline.
        """
        for key, value in data.items():
            if len(value) != len(parameters):
                raise ValueError(f"BatchCompose.apply got {len(parameters)} draws for {len(value)} items of {key!r}")
        drawn = [check_names(p, self.names) for p in parameters]
        result: dict[Any, Any] = dict(data)
        for name, transform in zip(self.names, self.members, strict=True):
            result = transform.apply(result, [p[name] for p in drawn])
        return result


def fixed_parts(transform: Transform | None) -> list[Drawable]:
    """Return the transforms that normalise images, in order: one, or those of a MONAI ``Compose``; none for None.

    Raises
    ------
    ValueError
        On a part that is not of this package's kind, without which a batch could not go through it, or is random.
    """
    parts: list[Any] = [] if transform is None else [transform]
    if isinstance(transform, Compose):
        parts = list(transform.flatten().transforms)
    for part in parts:
        if not isinstance(part, Drawable) or isinstance(part, RandDrawable):
            raise ValueError(
                "images are normalised by transforms of monai_cryo.transforms that are not random, or a Compose of "
                f"them, got {type(part).__name__}"
            )
    return parts


def apply_parts(batch: Tensor, parts: Sequence[Drawable]) -> Tensor:
    """Take a batch (B, C, D, H, W) through the transforms of :func:`fixed_parts`."""
    for part in parts:
        batch = part.apply(batch, [part.draw(np.random.RandomState(0))] * len(batch))  # the same from any state
    return batch


def _check_member(transform: Any) -> None:
    if isinstance(transform, Compose):
        for inner in transform.transforms:
            _check_member(inner)
    elif not isinstance(transform, MapTransform):
        raise ValueError(f"BatchCompose takes dictionary transforms, got {type(transform).__name__}")


class PerItem:
    """Any MONAI dictionary transform, run item by item over a batch, each from a seed of its own.

    Parameters
    ----------
    transform
        A dictionary transform.
    """

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def draw(self, state: np.random.RandomState) -> Draw:
        """Draw the seed, where the transform is random."""
        return {"seed": draw_seed(state)} if isinstance(self.transform, Randomizable) else {}

    def apply(self, data: Mapping[str, Any], parameters: Sequence[Draw]) -> dict[str, Any]:
        """Run over the items; entries are batches of B, and are stacked again."""
        results = []
        for i, drawn in enumerate(parameters):
            if drawn:
                self.transform.set_random_state(seed=drawn["seed"])
            results.append(self.transform({key: value[i] for key, value in data.items()}))
        return {key: _stack([r[key] for r in results]) for key in results[0]}


def _stack(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Tensor | np.ndarray):
        return torch.stack([v.as_tensor() if isinstance(v, MetaTensor) else torch.as_tensor(v) for v in values])
    return list(values)
