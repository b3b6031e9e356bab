"""The end of a run: metrics.json, a table, and where everything lies."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_cryo.metrics import TwoBranchMetrics


class Report:
    """Write ``metrics.json`` and print the table when an evaluation is done.

    Parameters
    ----------
    metrics
        Of the evaluator.
    output_dir
        Folder of ``metrics.json``.
    skipped
        Unknown class -> number of items left out.
    title
        Line above the table; ``{epoch}`` in it is filled in.
    """

    def __init__(
        self,
        metrics: TwoBranchMetrics,
        output_dir: str,
        skipped: Mapping[str, int] | None = None,
        title: str = "",
    ) -> None:
        self.metrics, self.output_dir, self.skipped = metrics, Path(output_dir), dict(skipped or {})
        self.title = title

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator, after the metrics."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write and print."""
        metrics = {**self.metrics.summary, "skipped": self.skipped}
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / "metrics.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(metrics, indent=1) + "\n")
        os.replace(part, path)
        print(f"\n{self.title.format(epoch=engine.state.epoch)}\n{metrics_table(metrics)}", flush=True)


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Lay out metrics.json as a table a person reads."""

    def show(value: float | None) -> str:
        return "    -" if value is None else f"{value:5.3f}"

    classes, recall, iou = metrics["classes"], metrics["recall"], metrics["iou"]
    width = max(len(name) for name in [*classes, "all samples"])
    lines = [f"{'class':<{width}}      n  recall    IoU   called (in the order of the rows)"]
    for name, row in zip(classes, metrics["confusion_matrix"], strict=True):
        called = " ".join(f"{v:5d}" for v in row)
        lines.append(f"{name:<{width}}  {sum(row):5d}   {show(recall[name])}  {show(iou[name])}   {called}")
    lines += [
        f"{'all samples':<{width}}  {metrics['n']:5d}   {show(metrics['accuracy'])}  {show(metrics['mean_iou'])}",
        f"accuracy {show(metrics['accuracy'])}, balanced {show(metrics['balanced_accuracy'])}",
        f"mean IoU over samples {show(metrics['mean_iou'])}, over classes {show(metrics['class_mean_iou'])}",
        f"pixel accuracy {show(metrics['pixel_accuracy'])}; masks cut at probability {metrics['threshold']:g}",
    ]
    if metrics["skipped"]:
        left_out = ", ".join(f"{n} {name}" for name, n in metrics["skipped"].items())
        lines.append(f"left out, of classes the model does not know: {left_out}")
    return "\n".join(lines)
