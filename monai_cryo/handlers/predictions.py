"""Predictions for unlabelled files, as a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_cryo.io.atomic import replacing


class PredictionsWriter:
    """Write ``predictions.csv`` (``file,class,p_<class>...``) when an inference is done.

    Parameters
    ----------
    classes
        Class names.
    output_dir
        Where to.
    """

    def __init__(self, classes: Sequence[str], output_dir: str) -> None:
        self.classes, self.output_dir = list(classes), Path(output_dir)
        self.rows: list[list[Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose postprocessing ends in :class:`monai_cryo.data.DecodePredictiond`'s entries."""
        engine.add_event_handler(Events.STARTED, lambda _: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def collect(self, engine: Engine) -> None:
        """Keep the decoded predictions of this batch."""
        for item, out in zip(engine.state.batch, engine.state.output, strict=True):
            probability = out["probability"].tolist()
            self.rows.append([item["file"], self.classes[out["class"]], *(f"{p:.4f}" for p in probability)])

    def write(self, engine: Engine) -> None:
        """Write the table, whole or not at all."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / "predictions.csv"
        with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "class", *(f"p_{name}" for name in self.classes)])
            writer.writerows(self.rows)
