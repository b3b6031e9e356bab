"""From what a DataLoader yields to (image, label) on the training device."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import PrepareBatch
from torch import Tensor

from monai_cryo.data.seeding import item_state
from monai_cryo.transforms import BatchCompose
from monai_cryo.transforms.base import Drawable, Parameters


class SimulateBatch(PrepareBatch):
    """Image a batch of clean particles on the training device: drawn item by item, applied once.

    Parameters
    ----------
    pipeline
        Dictionary transforms over ``image`` and ``mask``; ``class``, ``posed`` and ``radius_vox`` are beside them.
    normalize
        Array transform over the finished images, the one that real input goes through as well; None: none.
    keep
        Keep every batch in memory and hand it out again: for a validation that sees the same samples every time.
    """

    def __init__(self, pipeline: BatchCompose, normalize: Drawable | None = None, keep: bool = False) -> None:
        self.pipeline, self.normalize, self.keep = pipeline, normalize, keep
        self._kept: dict[tuple[Any, ...], tuple[Tensor, dict[str, Any]]] = {}

    def draw(self, batchdata: dict[str, Any]) -> list[Parameters]:
        """Draw for every item of a collated batch, each from its own stream of (seed, split, index)."""
        keys = zip(batchdata["seed"].tolist(), batchdata["split"], batchdata["index"].tolist(), strict=True)
        # another stream than the one that drew the particle
        return [self.pipeline.draw(item_state(seed, split, index, stream=1)) for seed, split, index in keys]

    @torch.no_grad()
    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        parameters: list[Parameters] | None = None,
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
            dictionaries of what was drawn, ready for JSON}``.
        """
        if not self.keep or parameters is not None:
            return self._simulate(batchdata, {"device": device, "non_blocking": non_blocking}, parameters)
        key = tuple(zip(batchdata["seed"].tolist(), batchdata["split"], batchdata["index"].tolist(), strict=True))
        if key not in self._kept:
            self._kept[key] = self._simulate(batchdata, {"device": device, "non_blocking": non_blocking}, None)
        return self._kept[key]

    def _simulate(
        self, batchdata: dict[str, Any], to: dict[str, Any], parameters: list[Parameters] | None
    ) -> tuple[Tensor, dict[str, Any]]:
        drawn = self.draw(batchdata) if parameters is None else parameters
        data = self.pipeline.apply(
            {
                **{k: batchdata[k].tolist() for k in ("class", "posed", "radius_vox")},
                "image": batchdata["image"].to(**to),
                "mask": batchdata["mask"].to(**to),
            },
            drawn,
        )
        label = {"class": batchdata["class"].to(**to), "mask": data["mask"].float(), "parameters": drawn}
        return _normalized(data["image"], self.normalize), label


class PrepareImages(PrepareBatch):
    """Hand over real subtomograms: no simulation, only the normalisation that the model was trained with.

    Parameters
    ----------
    normalize
        Array transform over the whole batch (B, C, D, H, W), such as :class:`~.transforms.Standardize`; None: none.
    """

    def __init__(self, normalize: Drawable | None) -> None:
        self.normalize = normalize

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
        image = _plain(loaded).to(device=device, non_blocking=non_blocking).float()
        image = _normalized(image, self.normalize)
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
            k: _plain(batchdata[k]).to(device=device, non_blocking=non_blocking) for k in ("class", "mask", "has_mask")
        }


def _normalized(image: Tensor, normalize: Drawable | None) -> Tensor:
    return image if normalize is None else normalize.apply(image, [{}] * len(image))


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
