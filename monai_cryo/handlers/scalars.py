"""Scalars of training and validation for TensorBoard, on one axis: iterations."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events

from monai_cryo._described import Described


class TrainingScalars(Described):
    """Write the loss, its parts and the learning rate after every iteration, under ``train/``.

    Parameters
    ----------
    writer
        TensorBoard ``SummaryWriter``.
    optimizer
        Whose learning rate is written.
    """

    def __init__(self, writer: Any, optimizer: Any) -> None:
        self.writer, self.optimizer = writer, optimizer

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer that has a :class:`~.losses.TrainingLoss`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write."""
        step = engine.state.iteration
        for name, value in engine.state.output["losses"].items():
            self.writer.add_scalar("train/loss" if name == "loss" else f"train/loss_{name}", value, step)
        self.writer.add_scalar("train/learning_rate", self.optimizer.param_groups[0]["lr"], step)


class ValidationScalars(Described):
    """Write every metric of a validation under ``validation/``, at the training's iteration.

    Parameters
    ----------
    writer
        TensorBoard ``SummaryWriter``.
    epoch_length
        Iterations of a training epoch.
    """

    def __init__(self, writer: Any, epoch_length: int) -> None:
        self.writer, self.epoch_length = writer, epoch_length

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator that a ``ValidationHandler`` runs."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write."""
        for name, value in engine.state.metrics.items():
            self.writer.add_scalar(f"validation/{name}", float(value), engine.state.epoch * self.epoch_length)
