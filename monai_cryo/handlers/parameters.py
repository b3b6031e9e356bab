"""What was drawn for the training samples, to be looked at."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from monai_cryo.io.atomic import replacing

# numbers of a range, a position or a shift are shown; matrices, curves and fields are not
_LONGEST = 3


class DrawnParameters:
    """After every epoch, write what its samples were drawn with: ``parameters.csv``, and histograms under ``drawn/``.

    The file holds one line a sample of the last epoch, with its iteration and class; an empty field means that the
    transform left the sample alone.

    Parameters
    ----------
    classes
        Class names.
    output_dir
        Where ``parameters.csv`` goes.
    writer
        TensorBoard ``SummaryWriter``; None: none.
    most
        Samples an epoch that are kept, the first ones.
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
        """Attach to a trainer whose labels hold ``class`` and ``parameters``, a nested dictionary a sample."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def collect(self, engine: Engine) -> None:
        """Keep the parameters of this batch."""
        label = engine.state.output["label"]
        room = self.most - len(self.rows)
        for index, drawn in list(zip(label["class"].tolist(), label["parameters"], strict=True))[: max(0, room)]:
            row = {"iteration": engine.state.iteration, "class": self.classes[index]}
            self.rows.append({**row, **dict(flatten(drawn))})

    def write(self, engine: Engine) -> None:
        """Write the table and the histograms."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as part, part.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(self.rows)
        if self.writer is None:
            return
        for name in columns:
            values = [row[name] for row in self.rows if isinstance(row.get(name), float)]
            if values and name != "iteration":
                self.writer.add_histogram(f"drawn/{name}", np.array(values), engine.state.iteration)


def flatten(drawn: Mapping[str, Any] | None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and value of every number, word and short list of nested parameters; names joined by points."""
    for key, value in (drawn or {}).items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            if len(value) <= _LONGEST and not any(isinstance(v, list | tuple) for v in value):
                yield from flatten({str(i): v for i, v in enumerate(value)}, f"{name}.")
        elif value is not None:
            yield name, value
