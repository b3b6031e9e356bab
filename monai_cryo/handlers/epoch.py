"""What happens once an epoch: a sampler is told which it is, and the network is validated."""

from __future__ import annotations

from typing import Protocol

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler

from monai_cryo._described import Described


class _HasSetEpoch(Protocol):
    world_size: int

    def set_epoch(self, epoch: int, done: int) -> None: ...


class Validation(Described, ValidationHandler):
    """MONAI's ``ValidationHandler`` every so many epochs, and after the last one, whatever its number.

    Parameters
    ----------
    validator
        MONAI evaluator.
    interval
        Epochs.

    Raises
    ------
    ValueError
        If the interval is no whole number from 1 on.
    """

    def __init__(self, validator: Evaluator, interval: int) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f"val_interval must be a whole number >= 1, got {interval!r}")
        super().__init__(interval, validator)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""

        def due(_: Engine, epoch: int) -> bool:
            return epoch % self.interval == 0 or epoch == engine.state.max_epochs

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=due), self)


class SetEpoch(Described):
    """Call ``sampler.set_epoch`` at the start of every epoch, counted from 0, with the items that are done already.

    They are more than none where a run goes on in the middle of an epoch.

    Parameters
    ----------
    sampler
        :class:`monai_cryo.data.CounterSampler` of the trainer's loader.
    """

    def __init__(self, sampler: _HasSetEpoch) -> None:
        self.sampler = sampler

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Choose the epoch."""
        batches = engine.state.iteration % engine.state.epoch_length
        items = batches * engine.state.dataloader.batch_size * self.sampler.world_size if batches else 0
        self.sampler.set_epoch(engine.state.epoch - 1, items)
