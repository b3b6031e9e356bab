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

from monai_cryo._described import Described
from monai_cryo.metrics.detection import jsonable
from monai_cryo.networks.output import check_output

__all__ = ["TwoBranchMetrics"]


class TwoBranchMetrics(Described, Metric):
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

    A sample without a mask, or with an empty one as in a background class, counts for the classification alone. Classes
    without samples are left out of means over classes.

    Parameters
    ----------
    classes
        Names, in the order of the network's channels.
    threshold
        A voxel belongs to the particle if its probability is at least this.
    thresholds
        More of them, for the summary alone: what the masks score at each, and which serves them best.
    output_transform
        From ``engine.state.output`` to prediction and label: by default its entries ``"pred"`` and ``"label"``, as a
        batch or decollated. The prediction holds ``"logits"`` and ``"masks"``, the label ``"class"`` and, optionally,
        ``"mask"``.

    Attributes
    ----------
    summary
        Set by `compute`, ready for JSON: ``n``, the five scores above, ``iou`` and ``recall`` (dictionaries by class),
        ``confusion_matrix`` (rows true, columns predicted), ``classes`` and ``threshold``. None where nothing was
        scored. With `thresholds` also ``by_threshold``, in rising order and `threshold` among them, a list of
        ``threshold``, ``pixel_accuracy``, ``mean_iou``, ``class_mean_iou`` and ``iou``; and ``best_threshold``, that of
        the largest `mean_iou`, the lowest of equals.

    Raises
    ------
    ValueError
        If a threshold lies outside 0..1.
    """

    def __init__(
        self,
        classes: Sequence[str],
        threshold: float = 0.5,
        thresholds: Sequence[float] = (),
        output_transform: Callable[[Any], Any] = from_engine(["pred", "label"]),  # noqa: B008
    ) -> None:
        self.classes = list(classes)
        self.threshold = threshold
        self.thresholds = sorted({threshold, *thresholds})
        for value in self.thresholds:
            if not 0 <= value <= 1:
                raise ValueError(f"threshold must lie in 0..1, got {value}")
        self.summary: dict[str, Any] = {}
        super().__init__(output_transform, skip_unrolling=True)

    def __repr__(self) -> str:
        """Return the parameters."""
        return f"TwoBranchMetrics(classes={self.classes}, threshold={self.threshold}, thresholds={self.thresholds})"

    def reset(self) -> None:
        """Forget all samples."""
        self._rows: list[Tensor] = []

    def update(self, output: tuple[Any, Any]) -> None:
        """Add the samples of a batch, given as (prediction, label) or as two lists of these per sample.

        Raises
        ------
        ValueError
            If the network returns something else than `TwoBranchNet`, has another number of classes or a label is none
            of them.
        """
        logits, masks, true_class, true_mask = _collate(*output)
        num_classes = len(self.classes)
        if logits.shape[1] != num_classes:
            raise ValueError(f"logits must have {num_classes} classes {self.classes}, got {logits.shape[1]}")
        for index in true_class.tolist():
            if not 0 <= index < num_classes:
                raise ValueError(f"class must lie in 0..{num_classes - 1}, got {index}")
        predicted = logits.argmax(1)
        columns = [true_class, predicted]
        # what `selected_masks` puts into a channel a class, in one: the other channels are empty
        drawn = masks[torch.arange(len(masks), device=masks.device), predicted][:, None].sigmoid().contiguous()
        y = (true_mask > 0.5).contiguous()
        right = predicted == true_class
        for threshold in self.thresholds:
            y_pred = drawn >= threshold
            iou = compute_iou(y_pred, y, ignore_empty=True)[:, 0]
            iou = iou.where(right | iou.isnan(), 0)
            agreement = (y_pred == y).float().mean((1, 2, 3, 4))
            columns += [iou, agreement.where(~iou.isnan(), torch.nan)]
        self._rows.append(torch.stack(columns, 1).cpu().double())

    def compute(self) -> dict[str, float]:
        """Score the samples of all ranks and set `summary`.

        Raises
        ------
        NotComputableError
            If no sample was seen.
        """
        nothing = torch.empty(0, 2 + 2 * len(self.thresholds), dtype=torch.float64)
        rows = evenly_divisible_all_gather(torch.cat([nothing, *self._rows]))
        if len(rows) == 0:
            raise NotComputableError("TwoBranchMetrics needs at least one sample, got none")
        k = len(self.classes)
        true, predicted = rows[:, 0].long(), rows[:, 1].long()
        confusion = torch.bincount(true * k + predicted, minlength=k * k).view(k, k)
        recall = self._by_class(confusion.diagonal().double() / confusion.sum(1))
        masks = {
            t: self._mask_scores(true, rows[:, 2 + 2 * i], rows[:, 3 + 2 * i]) for i, t in enumerate(self.thresholds)
        }
        scores = {
            "accuracy": float((true == predicted).double().mean()),
            "balanced_accuracy": float(torch.tensor(list(recall.values())).nanmean()),
            **masks[self.threshold],
        }
        iou = scores.pop("iou")
        self.summary = jsonable(
            {
                "n": len(rows),
                **scores,
                "iou": iou,
                "recall": recall,
                "confusion_matrix": confusion.tolist(),
                "classes": self.classes,
                "threshold": self.threshold,
            }
        )
        if len(self.thresholds) > 1:
            self.summary["by_threshold"] = [jsonable({"threshold": t, **values}) for t, values in masks.items()]
            best = max(masks, key=lambda t: masks[t]["mean_iou"])
            self.summary["best_threshold"] = None if math.isnan(masks[best]["mean_iou"]) else best
        return {
            **scores,
            **{f"recall_{name}": value for name, value in recall.items()},
            **{f"iou_{name}": value for name, value in iou.items()},
        }

    def _mask_scores(self, true: Tensor, iou: Tensor, agreement: Tensor) -> dict[str, Any]:
        """Return what the masks score at one threshold, from each sample's true class, IoU and agreement."""
        by_class = torch.stack([iou[true == c].nanmean() for c in range(len(self.classes))])
        return {
            "pixel_accuracy": float(agreement.nanmean()),
            "mean_iou": float(iou.nanmean()),
            "class_mean_iou": float(by_class.nanmean()),
            "iou": self._by_class(by_class),
        }

    def _by_class(self, values: Tensor) -> dict[str, float]:
        return dict(zip(self.classes, values.tolist(), strict=True))

    def completed(self, engine: Engine, name: str) -> None:
        """Put every score into ``engine.state.metrics`` under its own name; `name` is one of them or unused."""
        engine.state.metrics.update(self.compute())


def _collate(pred: Any, label: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return logits, masks, true class and true mask of a batch; samples without a mask get an empty one."""
    if isinstance(pred, list | tuple) and len(pred) > 0:
        if not all(isinstance(p, Mapping) and {"logits", "masks"} <= set(p) for p in pred):
            check_output(pred[0])
        pred = {key: torch.stack([p[key] for p in pred]) for key in ("logits", "masks")}
        empty = torch.zeros_like(pred["masks"][0, :1])
        true_masks = [empty if sample.get("mask") is None else sample["mask"].to(empty) for sample in label]
        label = {"class": torch.tensor([int(sample["class"]) for sample in label]), "mask": torch.stack(true_masks)}
    logits, masks = (convert_to_tensor(value, track_meta=False) for value in check_output(pred))
    true_class = convert_to_tensor(label["class"], track_meta=False, device=logits.device).long()
    if label.get("mask") is None:
        return logits, masks, true_class, torch.zeros_like(masks[:, :1])
    return logits, masks, true_class, convert_to_tensor(label["mask"], track_meta=False, device=logits.device)
