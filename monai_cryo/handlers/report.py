"""The end of a run: metrics.json, a table, and where everything lies."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events


class Report:
    """Write ``metrics.json`` and print the table when an evaluation is done.

    Parameters
    ----------
    summary
        Callable that returns the metrics' dictionary (:class:`monai_cryo.metrics.TwoBranchMetrics`).
    output_dir
        Folder of ``metrics.json``.
    skipped
        Unknown class -> number of items left out.
    quiet
        Write, but print nothing.
    """

    def __init__(self, summary: Any, output_dir: str, skipped: Mapping[str, int] | None = None, quiet: bool = False) -> None:
        self.summary, self.output_dir, self.skipped, self.quiet = summary, Path(output_dir), dict(skipped or {}), quiet

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator, after the metrics."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write and print."""
        metrics = {**self.summary(), "skipped": self.skipped}
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / "metrics.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(metrics, indent=1) + "\n")
        os.replace(part, path)
        if not self.quiet:
            print("\n" + metrics_table(metrics), flush=True)


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Lay out metrics.json as a table a person reads."""

    def number(value: float | None) -> str:
        return "    -" if value is None else f"{value:5.3f}"

    width = max(len(name) for name in [*metrics["classes"], "all samples"])
    counts = [sum(row) for row in metrics["confusion_matrix"]]
    lines = [f"{'class':<{width}}      n  recall    IoU   called (in the order of the rows)"]
    for name, count, row in zip(metrics["classes"], counts, metrics["confusion_matrix"], strict=True):
        called = " ".join(f"{v:5d}" for v in row)
        lines.append(f"{name:<{width}}  {count:5d}   {number(metrics['recall'][name])}  {number(metrics['iou'][name])}   {called}")
    lines.append(f"{'all samples':<{width}}  {metrics['n']:5d}   {number(metrics['accuracy'])}  {number(metrics['mean_iou'])}")
    lines.append(
        f"accuracy {number(metrics['accuracy'])}, balanced {number(metrics['balanced_accuracy'])}; mean IoU over samples "
        f"{number(metrics['mean_iou'])}, over classes {number(metrics['class_mean_iou'])}; pixel accuracy "
        f"{number(metrics['pixel_accuracy'])} (mask threshold {metrics['threshold']:g})"
    )
    if metrics["skipped"]:
        left_out = ", ".join(f"{n} {name}" for name, n in metrics["skipped"].items())
        lines.append(f"left out, of classes the model does not know: {left_out}")
    return "\n".join(lines)
