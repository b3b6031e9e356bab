"""What was drawn for the training samples, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from monai_cryo._described import Described
from monai_cryo.io.atomic import table_text, write_text
from monai_cryo.io.columns import parameter_columns


class DrawnParameters(Described):
    """After every epoch, write what its samples were drawn with: ``parameters.csv``, and histograms under ``drawn/``.

    The file holds one line for each of the first `most` samples of the last epoch, with its iteration and class; an
    empty field means that the transform left the sample alone. The histograms are of the same samples.

    Parameters
    ----------
    classes
        Class names.
    output_dir
        Where ``parameters.csv`` goes.
    writer
        TensorBoard ``SummaryWriter``; None: none.
    most
        Samples of an epoch that are kept, the first ones: a long epoch would fill the disk.
    """

    def __init__(self, classes: Sequence[str], output_dir: str, writer: Any = None, most: int = 10_000) -> None:
        self.classes, self.path, self.writer, self.most = (
            list(classes),
            Path(output_dir) / "parameters.csv",
            writer,
            most,
        )
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer (``decollate=False``) whose labels hold ``class`` and each sample's ``parameters``."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def collect(self, engine: Engine) -> None:
        """Keep the parameters of this batch."""
        output = engine.state.output
        if not isinstance(output, Mapping):
            raise ValueError("DrawnParameters needs the whole batch: give the trainer decollate=False")
        label = output["label"]
        room = self.most - len(self.rows)
        for index, drawn in list(zip(label["class"].tolist(), label["parameters"], strict=True))[: max(0, room)]:
            row = {"iteration": engine.state.iteration, "class": self.classes[index]}
            self.rows.append({**row, **dict(parameter_columns(drawn))})

    def write(self, engine: Engine) -> None:
        """Write the table and the histograms."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, table_text(self.rows))
        if self.writer is None:
            return
        for name in dict.fromkeys(name for row in self.rows for name in row):
            values = [row[name] for row in self.rows if isinstance(row.get(name), float)]
            if values and name != "iteration":
                self.writer.add_histogram(f"drawn/{name}", np.array(values), engine.state.iteration)
