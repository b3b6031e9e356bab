"""From what a DataLoader yields to (image, label) on the training device."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import PrepareBatch
from monai.transforms import Transform
from torch import Tensor

from monai_cryo._described import Described
from monai_cryo.data.seeding import item_state
from monai_cryo.transforms import BatchCompose, RandPosed, apply_parts, fixed_parts

ITEM = "item"
"""Entry of an item's parameters that says which item it is; the others are draws of the pipeline."""


class SimulateBatch(Described, PrepareBatch):
    """Image a batch of clean particles on the training device: drawn item by item, applied once.

    Parameters
    ----------
    pipeline
        Dictionary transforms over ``image`` and ``mask``; ``class``, ``posed`` and ``radius_vox`` are beside them.
    normalize
        Array transform over the finished images, or a ``Compose`` of some, the one that real input goes through as
        well; None: none.
    keep
        Keep every batch in memory and hand it out again: for a validation that sees the same samples every time.

    Raises
    ------
    ValueError
        If `normalize` is random, or none of this package's transforms.
    """

    def __init__(self, pipeline: BatchCompose, normalize: Transform | None = None, keep: bool = False) -> None:
        self.pipeline, self.normalize, self.keep = pipeline, normalize, keep
        self._parts = fixed_parts(normalize)
        self._kept: dict[tuple[Any, ...], tuple[Tensor, dict[str, Any]]] = {}

    def draw(self, batchdata: dict[str, Any]) -> list[dict[str, Any]]:
        """Draw for every item of a collated batch, each from its own stream of (seed, split, index).

        Returns
        -------
        list
            For each item what the pipeline draws, None for a pose that it has already, and under ``item`` which one it
            is: ``seed``, ``split``, ``index``, ``class``, ``structure`` and ``amplitude``. All else about the particle,
            such as a membrane's curvature, follows from the first three.
        """
        drawn = []
        for i, item in enumerate(_items(batchdata)):
            # another stream than the one that drew the particle
            values = self.pipeline.draw(item_state(item["seed"], item["split"], item["index"], stream=1))
            for name, member in zip(self.pipeline.names, self.pipeline.members, strict=True):
                if isinstance(member, RandPosed) and member.posed_key is not None and bool(batchdata["posed"][i]):
                    values[name] = None
            drawn.append({ITEM: item, **values})
        return drawn

    @torch.no_grad()
    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        parameters: list[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Simulate.

        Parameters
        ----------
        batchdata
            A collated batch of :class:`~monai_cryo.data.TemplateDataset`.
        device, non_blocking
            Where to, and how.
        parameters
            Draws to apply, such as saved ones; None: drawn here.
        **kwargs
            Ignored.

        Returns
        -------
        tuple
            Images (B, 1, D, H, W) float32, and ``{"class": (B,), "mask": (B, 1, D, H, W) float32, "parameters": B
            dictionaries as :meth:`draw` gives them, ready for JSON}``.
        """
        if not self.keep or parameters is not None:
            return self._simulate(batchdata, {"device": device, "non_blocking": non_blocking}, parameters)
        key = tuple((item["seed"], item["split"], item["index"]) for item in _items(batchdata))
        if key not in self._kept:
            self._kept[key] = self._simulate(batchdata, {"device": device, "non_blocking": non_blocking}, None)
        return self._kept[key]

    def _simulate(
        self, batchdata: dict[str, Any], to: dict[str, Any], parameters: list[dict[str, Any]] | None
    ) -> tuple[Tensor, dict[str, Any]]:
        drawn = self.draw(batchdata) if parameters is None else parameters
        data = self.pipeline.apply(
            {
                **{k: batchdata[k].tolist() for k in ("class", "posed", "radius_vox")},
                "image": batchdata["image"].to(**to),
                "mask": batchdata["mask"].to(**to),
            },
            [{name: values for name, values in p.items() if name != ITEM} for p in drawn],
        )
        label = {"class": batchdata["class"].to(**to), "mask": data["mask"].float(), "parameters": drawn}
        return apply_parts(data["image"], self._parts), label


class PrepareImages(Described, PrepareBatch):
    """Hand over real subtomograms: no simulation, only the normalisation that the model was trained with.

    Parameters
    ----------
    normalize
        Array transform over the whole batch (B, C, D, H, W), such as :class:`~.transforms.Standardize`, or a
        ``Compose`` of some; None: none.

    Raises
    ------
    ValueError
        If it is random, or none of this package's transforms.
    """

    def __init__(self, normalize: Transform | None) -> None:
        self.normalize = normalize
        self._parts = fixed_parts(normalize)

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Any]:
        """Move images (B, 1, D, H, W) to the device and normalise them; there is no label.

        A MetaTensor keeps its history, so that a mask can be taken back to the image's own grid.
        """
        loaded = batchdata["image"]
        image = _as_tensor(loaded).to(device=device, non_blocking=non_blocking).float()
        # what stands in for a refused file takes no part in a mean over the batch
        whole = [i for i, reason in enumerate(batchdata.get("refused") or [""] * len(image)) if not reason]
        if len(whole) == len(image):
            image = apply_parts(image, self._parts)
        elif whole:
            image[whole] = apply_parts(image[whole], self._parts)
        if isinstance(loaded, MetaTensor):
            image = MetaTensor(image)
            image.copy_meta_from(loaded)
            image.is_batch = loaded.is_batch
        return image, None


class PrepareLabelled(PrepareImages):
    """As :class:`PrepareImages`, with the labels ``class``, ``mask`` and ``has_mask``."""

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Move images and labels to the device and normalise the images."""
        image, _ = super().__call__(batchdata, device, non_blocking)
        return image, {
            k: _as_tensor(batchdata[k]).to(device=device, non_blocking=non_blocking)
            for k in ("class", "mask", "has_mask")
        }


def _items(batchdata: dict[str, Any]) -> list[dict[str, Any]]:
    """Which items a collated batch holds, in plain values."""
    names = ("seed", "split", "index", "class", "structure", "amplitude")
    columns = [v.tolist() if isinstance(v := batchdata[name], Tensor) else v for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _as_tensor(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
