"""Scores of the two-branch network over a whole evaluation, as one Ignite metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.handlers import from_engine
from monai.metrics.meaniou import compute_iou
from monai.utils import convert_to_tensor, evenly_divisible_all_gather
from torch import Tensor

from monai_cryo.metrics.masks import selected_masks

__all__ = ["TwoBranchMetrics"]


class TwoBranchMetrics(Metric):
    """Classification and segmentation scores.

    ``engine.state.metrics`` receives ``accuracy``, ``balanced_accuracy``, ``pixel_accuracy``, ``mean_iou``,
    ``class_mean_iou`` and, for each class, ``recall_<class>`` and ``iou_<class>``: floats, nan where nothing was
    scored. Attached under one of these names, as in ``key_val_metric={"mean_iou": TwoBranchMetrics(classes)}``, that
    score is the engine's key metric. All ranks of a distributed evaluation get the scores of all samples.

    - IoU: of the predicted class's mask and the true mask; a wrong class scores 0 (`selected_masks`).
    - `mean_iou`: over samples. Class IoU: over the samples of the true class. `class_mean_iou`: over classes.
    - Pixel accuracy: share of voxels on which the predicted class's mask and the true mask agree, whichever classes
      they belong to; over samples.
    - `balanced_accuracy`: mean recall over classes.

    A sample without a mask, or with an empty one, counts for the classification alone. Classes without samples are
    left out of means over classes.

    Parameters
    ----------
    classes
        Names, in the order of the network's channels.
    threshold
        A voxel belongs to the particle if its probability is at least this.
    output_transform
        From ``engine.state.output`` to prediction and label: by default its entries ``"pred"`` and ``"label"``, as a
        batch or decollated. The prediction holds ``"logits"`` and ``"masks"``, the label ``"class"`` and, optionally,
        ``"mask"``.

    Attributes
    ----------
    summary
        Set by `compute`, ready for JSON: ``n``, the five scores above, ``iou`` and ``recall`` (dictionaries by class),
        ``confusion_matrix`` (rows true, columns predicted), ``classes`` and ``threshold``. None where nothing was
        scored.
    """

    def __init__(
        self,
        classes: Sequence[str],
        threshold: float = 0.5,
        output_transform: Callable[[Any], Any] = from_engine(["pred", "label"]),  # noqa: B008
    ) -> None:
        self.classes = list(classes)
        self.threshold = threshold
        self.summary: dict[str, Any] = {}
        super().__init__(output_transform, skip_unrolling=True)

    def reset(self) -> None:
        """Forget all samples."""
        self._rows: list[Tensor] = []

    def update(self, output: tuple[Any, Any]) -> None:
        """Add the samples of a batch, given as (prediction, label) or as two lists of these per sample.

        Raises
        ------
        ValueError
            If the network has another number of classes or a label is none of them.
        """
        logits, masks, true_class, true_mask = _collate(*output)
        num_classes = len(self.classes)
        if logits.shape[1] != num_classes:
            raise ValueError(f"logits must have {num_classes} classes {self.classes}, got {logits.shape[1]}")
        for index in true_class.tolist():
            if not 0 <= index < num_classes:
                raise ValueError(f"class must lie in 0..{num_classes - 1}, got {index}")
        y_pred, y = selected_masks(logits, masks, true_class, true_mask, self.threshold)
        iou = compute_iou(y_pred, y, ignore_empty=True)[torch.arange(len(y), device=y.device), true_class]
        agreement = (y_pred.any(1) == y.any(1)).float().mean((1, 2, 3))
        agreement = agreement.where(~iou.isnan(), torch.nan)
        self._rows.append(torch.stack([true_class, logits.argmax(1), iou, agreement], 1).cpu().double())

    def compute(self) -> dict[str, float]:
        """Score the samples of all ranks and set `summary`.

        Raises
        ------
        NotComputableError
            If no sample was seen.
        """
        rows = evenly_divisible_all_gather(torch.cat([torch.empty(0, 4, dtype=torch.float64), *self._rows]))
        if len(rows) == 0:
            raise NotComputableError("TwoBranchMetrics needs at least one sample, got none")
        k = len(self.classes)
        true, predicted = rows[:, 0].long(), rows[:, 1].long()
        confusion = torch.bincount(true * k + predicted, minlength=k * k).view(k, k)
        recall = confusion.diagonal().double() / confusion.sum(1)
        iou = torch.stack([rows[true == c, 2].nanmean() for c in range(k)])
        scores = {
            "accuracy": (true == predicted).double().mean(),
            "balanced_accuracy": recall.nanmean(),
            "pixel_accuracy": rows[:, 3].nanmean(),
            "mean_iou": rows[:, 2].nanmean(),
            "class_mean_iou": iou.nanmean(),
        }
        self.summary = {
            "n": len(rows),
            **{name: _or_none(score) for name, score in scores.items()},
            "iou": {name: _or_none(value) for name, value in zip(self.classes, iou, strict=True)},
            "recall": {name: _or_none(value) for name, value in zip(self.classes, recall, strict=True)},
            "confusion_matrix": confusion.tolist(),
            "classes": self.classes,
            "threshold": self.threshold,
        }
        return {
            **{name: float(score) for name, score in scores.items()},
            **{f"recall_{name}": float(value) for name, value in zip(self.classes, recall, strict=True)},
            **{f"iou_{name}": float(value) for name, value in zip(self.classes, iou, strict=True)},
        }

    def completed(self, engine: Engine, name: str) -> None:
        """Put every score into ``engine.state.metrics`` under its own name; `name` is one of them or unused."""
        engine.state.metrics.update(self.compute())


def _collate(pred: Any, label: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return logits, masks, true class and true mask of a batch; samples without a mask get an empty one."""
    if not isinstance(pred, Mapping):
        pred = {key: torch.stack([p[key] for p in pred]) for key in ("logits", "masks")}
        empty = torch.zeros_like(pred["masks"][0, :1])
        true_masks = [empty if sample.get("mask") is None else sample["mask"].to(empty) for sample in label]
        label = {"class": torch.tensor([int(sample["class"]) for sample in label]), "mask": torch.stack(true_masks)}
    logits, masks = (convert_to_tensor(pred[key], track_meta=False) for key in ("logits", "masks"))
    true_class = convert_to_tensor(label["class"], track_meta=False, device=logits.device).long()
    if label.get("mask") is None:
        return logits, masks, true_class, torch.zeros_like(masks[:, :1])
    return logits, masks, true_class, convert_to_tensor(label["mask"], track_meta=False, device=logits.device)


def _or_none(value: Tensor) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number
