"""All figures of an evaluation of the two-branch network, from one row a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.metrics import MeanIoU
from monai.utils import evenly_divisible_all_gather
from torch import Tensor

__all__ = ["TwoBranchMetrics", "selected_masks"]

#: metrics that are one number, and so go to TensorBoard and can choose the best model
SCALARS = ("accuracy", "balanced_accuracy", "pixel_accuracy", "mean_iou", "class_mean_iou")


def selected_masks(
    pred: Mapping[str, Tensor], label: Mapping[str, Tensor], threshold: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Masks that MONAI's MeanIoU scores fairly: the predicted one and the true one, each in its class's channel alone.

    With ``ignore_empty=True`` a sample's IoU is then that of its two masks, and 0 where the class is wrong; with
    ``ignore_empty=False`` every class that is neither would count as 1.

    Parameters
    ----------
    pred
        ``logits`` (B, K) and ``masks`` (B, K, D, H, W), mask logits.
    label
        ``class`` (B,) and ``mask`` (B, 1, D, H, W).
    threshold
        Of the predicted mask's probability.

    Returns
    -------
    tuple of Tensor
        Predicted and true masks (B, K, D, H, W), bool.
    """
    logits, masks = pred["logits"], pred["masks"]
    rows = torch.arange(len(logits), device=logits.device)
    predicted, true = logits.argmax(dim=1), label["class"].to(logits.device)
    y_pred = torch.zeros(masks.shape, dtype=torch.bool, device=masks.device)
    y = torch.zeros_like(y_pred)
    y_pred[rows, predicted] = masks[rows, predicted].sigmoid() >= threshold
    y[rows, true] = label["mask"].to(masks.device)[:, 0] > 0.5
    return y_pred, y


class TwoBranchMetrics(Metric):
    """Accuracy, recall, IoU and the confusion matrix, over samples and over classes.

    The metric's own value is the mean IoU over samples; the other scalars are put beside it in
    ``engine.state.metrics`` under their own names, and :attr:`summary` holds everything. Safe under
    ``torch.distributed``.

    Parameters
    ----------
    classes
        Class names.
    threshold
        Of the predicted mask's probability.

    Raises
    ------
    ValueError
        If the threshold is not a probability.
    """

    def __init__(self, classes: Sequence[str], threshold: float = 0.5) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
        self.classes, self.threshold = list(classes), threshold
        self.summary: dict[str, Any] = {}
        super().__init__(output_transform=lambda output: (output["pred"], output["label"]))

    def reset(self) -> None:
        """Forget all samples."""
        self._rows: list[Tensor] = []

    def update(self, output: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]) -> None:
        """Add a batch.

        Parameters
        ----------
        output
            ``pred`` and ``label``, as for :func:`selected_masks` and as MONAI's evaluator has them without decollating;
            where the label has ``has_mask`` (B,), the other samples' masks are not scored.
        """
        pred, label = output
        y_pred, y = selected_masks(pred, label, self.threshold)
        per_channel = MeanIoU(include_background=True, reduction="none", ignore_empty=True)(y_pred=y_pred, y=y)
        iou = torch.as_tensor(per_channel).nanmean(dim=1)
        pixels = (y_pred.any(dim=1) == y.any(dim=1)).flatten(1).double().mean(dim=1)
        has_mask = label.get("has_mask", torch.ones(len(iou), dtype=torch.bool)).to(iou.device)
        nothing = torch.full_like(pixels, math.nan)
        true, predicted = label["class"].to(iou.device), pred["logits"].argmax(dim=1)
        columns = (true, predicted, torch.where(has_mask, iou, nothing), torch.where(has_mask, pixels, nothing))
        self._rows.append(torch.stack([c.double() for c in columns], dim=1).cpu())

    def compute(self) -> float:
        """Compute everything; return the mean IoU over samples, NaN where no sample has a mask.

        Raises
        ------
        ValueError
            If there was no sample.
        """
        if not self._rows:
            raise ValueError("no sample was evaluated")
        rows = evenly_divisible_all_gather(torch.cat(self._rows), concat=True)
        true, predicted, iou, pixels = rows.unbind(dim=1)
        k = len(self.classes)
        confusion = torch.zeros(k, k, dtype=torch.long)
        confusion.index_put_((true.long(), predicted.long()), torch.ones(len(rows), dtype=torch.long), accumulate=True)
        recall = [_mean((predicted == c)[true == c].double()) for c in range(k)]
        class_iou = [_mean(iou[true == c]) for c in range(k)]
        self.summary = {
            "n": len(rows),
            "accuracy": _mean((true == predicted).double()),
            "balanced_accuracy": _mean_of_known(recall),
            "pixel_accuracy": _mean(pixels),
            "mean_iou": _mean(iou),
            "class_mean_iou": _mean_of_known(class_iou),
            "iou": dict(zip(self.classes, class_iou, strict=True)),
            "recall": dict(zip(self.classes, recall, strict=True)),
            "confusion_matrix": confusion.tolist(),
            "classes": self.classes,
            "threshold": self.threshold,
        }
        mean_iou = self.summary["mean_iou"]
        return math.nan if mean_iou is None else mean_iou

    def completed(self, engine: Engine, name: str) -> None:
        """Put the scalars into ``engine.state.metrics``."""
        super().completed(engine, name)
        engine.state.metrics.update({key: self.summary[key] for key in SCALARS if self.summary[key] is not None})


def _mean(values: Tensor) -> float | None:
    """Mean of what is not NaN; None of nothing."""
    known = values[~values.isnan()]
    return float(known.mean()) if len(known) else None


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
