"""From what a DataLoader yields to (image, label) on the training device."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import PrepareBatch
from monai.transforms import Compose, Randomizable, Transform
from torch import Tensor

from monai_cryo.data.seeding import ItemRandomState, item_state


class SimulateBatch(PrepareBatch):
    """Image a batch of clean particles on the training device, each item from its own random stream.

    Parameters
    ----------
    pipeline
        Dictionary transforms over ``image`` and ``mask``, with ``channel_wise=True``: the batch is passed as channels
        (B, D, H, W), with ``radius_vox`` and ``class`` beside it. A ``Compose`` or one transform.
    """

    def __init__(self, pipeline: Compose) -> None:
        self.pipeline = pipeline if isinstance(pipeline, Compose) else Compose([pipeline])

    @torch.no_grad()
    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Simulate.

        Parameters
        ----------
        batchdata
            A collated batch of :class:`~monai_cryo.data.TemplateDataset`.
        device, non_blocking
            Where to, and how.
        **kwargs
            Ignored.

        Returns
        -------
        tuple
            Images (B, 1, D, H, W) float32, and ``{"class": (B,), "mask": (B, 1, D, H, W) float32}``.
        """
        to: dict[str, Any] = {"device": device, "non_blocking": non_blocking}
        keys = zip(batchdata["seed"].tolist(), batchdata["index"].tolist(), strict=True)
        # the third part of the key keeps these streams apart from those that drew the particles
        state = ItemRandomState([item_state(seed, index, 1) for seed, index in keys])
        for transform in self.pipeline.flatten().transforms:
            if isinstance(transform, Randomizable):
                transform.set_random_state(state=state)
        data = self.pipeline(
            {
                **{k: batchdata[k] for k in ("radius_vox", "class")},
                "image": batchdata["image"][:, 0].to(**to),
                "mask": batchdata["mask"][:, 0].to(**to).float(),
            }
        )
        label = {"class": batchdata["class"].to(**to), "mask": data["mask"][:, None]}
        return data["image"][:, None], label


class PrepareImages(PrepareBatch):
    """Hand over real subtomograms: no simulation, only the standardisation that the model was trained with.

    Parameters
    ----------
    standardize
        Array transform over the whole batch as channels (B, D, H, W), such as :class:`~.transforms.Standardize`.
    """

    def __init__(self, standardize: Transform) -> None:
        self.standardize = standardize

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Any]:
        """Move images (B, 1, D, H, W) to the device and standardise them; there is no label.

        A MetaTensor keeps its history, so that a mask can be taken back to the image's own grid.
        """
        loaded = batchdata["image"]
        image = _plain(loaded).to(device=device, non_blocking=non_blocking).float()
        image = self.standardize(image[:, 0])[:, None]
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
        """Move images and labels to the device and standardise the images."""
        image, _ = super().__call__(batchdata, device, non_blocking)
        return image, {
            k: _plain(batchdata[k]).to(device=device, non_blocking=non_blocking) for k in ("class", "mask", "has_mask")
        }


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
