"""Pictures of predictions, in a file and in TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from monai_cryo._described import Described
from monai_cryo.handlers.best import results_event
from monai_cryo.io.atomic import replacing
from monai_cryo.visualize.predictions import Example, draw_predictions, figure_to_array


class PredictionGallery(Described):
    """Keep the first samples of each class in an evaluation; draw them when it is done.

    Parameters
    ----------
    classes
        Class names.
    path
        PNG to write; None: none.
    writer
        TensorBoard ``SummaryWriter``; None: none.
    per_class
        Samples of each true class.
    threshold
        Of the mask's probability.
    best_only
        Write the PNG only when the evaluated model has been saved as the best one (:class:`~.best.KeepBest`).
    voxel_size
        Å, for the scale; None: none is drawn.
    epoch_length
        Iterations of an epoch: the picture stands at the iteration, as scalars do.
    """

    def __init__(
        self,
        classes: list[str],
        path: str | None = None,
        writer: Any = None,
        per_class: int = 2,
        threshold: float = 0.5,
        best_only: bool = False,
        voxel_size: float | None = None,
        epoch_length: int = 1,
    ) -> None:
        self.classes, self.path, self.writer, self.voxel_size = classes, path, writer, voxel_size
        self.per_class, self.threshold, self.best_only = per_class, threshold, best_only
        self.epoch_length = epoch_length
        self.examples: dict[int, list[Example]] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator that does not decollate its output."""
        engine.add_event_handler(Events.STARTED, lambda _: self.examples.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        if self.path is not None:
            engine.add_event_handler(results_event(engine, self.best_only), self.save)
        if self.writer is not None:
            engine.add_event_handler(Events.COMPLETED, self.log)

    def collect(self, engine: Engine) -> None:
        """Take the samples that are still wanted from this batch."""
        output = engine.state.output
        image, label, pred = output["image"], output["label"], output["pred"]
        probability, predicted = pred["logits"].softmax(dim=1).max(dim=1)
        has_mask = label.get("has_mask", torch.ones(len(image), dtype=torch.bool))
        for i, true in enumerate(label["class"].tolist()):
            kept = self.examples.setdefault(true, [])
            if len(kept) < self.per_class:
                guess = int(predicted[i])
                kept.append(
                    Example(
                        _array(image[i, 0]),
                        _array(label["mask"][i, 0] > 0.5) if bool(has_mask[i]) else None,
                        _array(pred["masks"][i, guess].sigmoid() >= self.threshold),
                        self.classes[true],
                        self.classes[guess],
                        float(probability[i]),
                        self.voxel_size,
                    )
                )

    def save(self, engine: Engine) -> None:
        """Write the picture, whole or not at all; none where there was no sample."""
        if self.path is not None and self.examples:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as part:
                self._draw().savefig(part, dpi=130)

    def log(self, engine: Engine) -> None:
        """Give the picture to TensorBoard."""
        if self.writer is not None and self.examples:
            step = engine.state.epoch * self.epoch_length
            self.writer.add_image("predictions", figure_to_array(self._draw()), step, dataformats="HWC")

    def _draw(self) -> Any:
        return draw_predictions([e for true in sorted(self.examples) for e in self.examples[true]])


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()
