"""Scores of an evaluation: a table for a person, metrics.json for a program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_cryo._described import Described
from monai_cryo.handlers.best import results_event
from monai_cryo.io.atomic import write_text
from monai_cryo.metrics import TwoBranchMetrics


class Report(Described):
    """Print the table when an evaluation is done, and write ``metrics.json``.

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
    best_only
        Write only when the evaluated model has been saved as the best one (:class:`~.best.KeepBest`).
    provenance
        What the run is made with (:func:`monai_cryo.bundle.find_provenance`), kept in the file; None: nothing.
    """

    def __init__(
        self,
        metrics: TwoBranchMetrics,
        output_dir: str,
        skipped: Mapping[str, int] | None = None,
        title: str = "",
        best_only: bool = False,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.metrics, self.output_dir, self.skipped = metrics, Path(output_dir), dict(skipped or {})
        self.title, self.best_only = title, best_only
        self.provenance = {} if provenance is None else {"provenance": dict(provenance)}

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator, after the metrics."""
        engine.add_event_handler(Events.COMPLETED, self.show)
        engine.add_event_handler(results_event(engine, self.best_only), self.write)

    def show(self, engine: Engine) -> None:
        """Print the table."""
        print(f"\n{self.title.format(epoch=engine.state.epoch)}\n{metrics_table(self._content())}", flush=True)

    def write(self, engine: Engine) -> None:
        """Write the file, whole or not at all."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_text(
            self.output_dir / "metrics.json", json.dumps({**self._content(), **self.provenance}, indent=1) + "\n"
        )

    def _content(self) -> dict[str, Any]:
        return {**self.metrics.summary, "skipped": self.skipped}


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
