"""Labelled real subtomograms: a folder with a MONAI datalist, checked before anything long begins."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from monai_cryo._described import Described
from monai_cryo._typing import Contrast, parse_contrast
from monai_cryo.io.confine import named_file
from monai_cryo.physics.fourier import voxel_size_zyx

__all__ = ["CheckMaskd", "FillMaskd", "LabelledData", "load_labelled"]


@dataclass(frozen=True)
class LabelledData:
    """What a ``dataset.json`` holds.

    Attributes
    ----------
    items
        Dicts with ``image`` (a path), ``class`` (an index), ``file`` (the image's name in the list) and, where there
        is one, ``mask`` (a path).
    skipped
        Unknown class -> number of items left out.
    voxel_size
        Å, or None: the files' own.
    contrast
        ``"dark"`` or ``"bright"``.
    """

    items: list[dict[str, Any]]
    skipped: dict[str, int]
    voxel_size: float | None
    contrast: Contrast


def load_labelled(
    dataset_dir: str, classes: Sequence[str], *, image_key: str = "image", skip_unknown: bool = False
) -> LabelledData:
    """Read ``dataset.json`` (key ``test``) and check every item.

    Parameters
    ----------
    dataset_dir
        The folder; paths in the list are relative to it.
    classes
        The model's classes.
    image_key
        Entry of each item that names its image.
    skip_unknown
        Leave out items of classes the model does not know, instead of refusing them.

    Raises
    ------
    FileNotFoundError
        If the list or a file in it is missing.
    ValueError
        If the list is malformed, a class is unknown, a file lies elsewhere (`named_file`), or nothing is left.
    """
    folder = Path(dataset_dir) if dataset_dir else None
    if folder is None or not (folder / "dataset.json").is_file():
        raise FileNotFoundError(
            f"no {folder or '<dataset_dir>'}/dataset.json: pass --dataset_dir a folder with a MONAI datalist"
        )
    path = folder / "dataset.json"
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        raw = head.get("test")
        if not isinstance(raw, list) or not raw or not all(isinstance(item, dict) for item in raw):
            raise TypeError(f"{reprlib.repr(raw)}, expected a list of mappings")
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} must be a MONAI datalist with items under 'test', found: {reason}") from error
    contrast = parse_contrast(head.get("contrast", "protein dark"), f"{path}: contrast")
    voxel_size = head.get("voxel_size")
    if voxel_size is not None:
        sizes = set(voxel_size_zyx(voxel_size, f"{path}: voxel_size"))
        if len(sizes) > 1:
            raise ValueError(f"{path}: voxel_size must be that of cubes, got {voxel_size!r}")
        voxel_size = sizes.pop()

    items: list[dict[str, Any]] = []
    skipped: dict[str, int] = {}
    for number, given in enumerate(raw):
        missing = [key for key in (image_key, "class") if key not in given]
        if missing:
            raise ValueError(f"{path}: item {number} has no {missing[0]!r}; it has {', '.join(given)}")
        name = given["class"]
        for key in (image_key, "label", "class"):
            if not isinstance(given.get(key, ""), str) and (key, given[key]) != ("label", None):
                raise ValueError(f"{path}: item {number}: {key} must be text, got {given[key]!r}")
        if name not in classes:
            if not skip_unknown:
                raise ValueError(
                    f"{path}: item {number} is of class {name!r}, but the model knows {', '.join(classes)}; "
                    "pass --skip_unknown true to leave such items out"
                )
            skipped[name] = skipped.get(name, 0) + 1
            continue
        item = {"class": classes.index(name), "file": given[image_key]}
        for key, source in (("image", image_key), ("mask", "label")):
            if key == "image" or given.get(source):
                file = named_file(given[source], path)
                if not file.is_file():
                    raise FileNotFoundError(f"{path}: item {number} names {file}, which does not exist")
                item[key] = str(file)
        items.append(item)
    if not items:
        raise ValueError(f"{path} has no item of the classes {', '.join(classes)}")
    return LabelledData(items, skipped, voxel_size, contrast)


class CheckMaskd(Described, MapTransform):
    """Refuse a mask of another box than its image: it belongs to another particle, or to another copy of this one.

    Parameters
    ----------
    keys
        Masks; they may be missing.
    image_key
        Whose shape they must have, before anything is resampled.
    """

    def __init__(self, keys: KeysCollection = "mask", image_key: str = "image") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data``, unchanged."""
        d = dict(data)
        image = d[self.image_key]
        for key in self.key_iterator(d):
            if d[key].shape != image.shape:
                names = [getattr(v, "meta", {}).get("filename_or_obj", k) for k, v in ((key, d[key]), ("image", image))]
                shapes = [" x ".join(map(str, v.shape[1:])) for v in (d[key], image)]
                raise ValueError(
                    f"{names[0]}: the mask has {shapes[0]} voxels, expected {shapes[1]} as its image {names[1]} has"
                )
        return d


class FillMaskd(Described, MapTransform):
    """Give items without a mask an empty one, and mark in ``has_mask`` which ones have their own.

    Parameters
    ----------
    keys
        The mask's key.
    image_key
        Whose shape an empty mask takes.
    """

    def __init__(self, keys: KeysCollection = "mask", image_key: str = "image") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with mask and mark."""
        d = dict(data)
        for key in self.keys:
            d["has_mask"] = key in d
            mask = d[key] if key in d else torch.zeros(d[self.image_key].shape)
            mask = mask.as_tensor() if isinstance(mask, MetaTensor) else torch.as_tensor(mask)
            d[key] = (mask > 0.5).to(torch.float32)
        return d
