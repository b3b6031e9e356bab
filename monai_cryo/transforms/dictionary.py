"""Dictionary versions of the array transforms: explicit signatures, everything but ``keys`` by keyword."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from monai.config import KeysCollection
from monai.transforms import InvertibleTransform, MapTransform, Randomizable

from monai_cryo._described import Described
from monai_cryo.transforms.base import Draw, Drawable


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
        for key in self.key_iterator(d):
            d[key] = self.transform.apply(d[key], parameters, **self._mask(data))
        return d

    def _mask(self, data: Mapping[Hashable, Any]) -> dict[str, Any]:
        if self.mask_key is None:
            return {}
        if self.mask_key not in data:
            name = type(self).__name__
            raise KeyError(f"{name}: no {self.mask_key!r} (mask_key) among {', '.join(map(str, data))}")
        return {"mask": data[self.mask_key]}

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the entries transformed; ``randomize=False``: by what was drawn last."""
        d = dict(data)
        for i, key in enumerate(self.key_iterator(d)):
            d[key] = self.transform(d[key], randomize=randomize and i == 0, **self._mask(data))
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
