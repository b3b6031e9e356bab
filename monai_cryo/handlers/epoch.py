"""Tell a sampler which epoch it is."""

from __future__ import annotations

from typing import Protocol

from ignite.engine import Engine, Events

from monai_cryo._described import Described


class _HasSetEpoch(Protocol):
    def set_epoch(self, epoch: int) -> None: ...


class SetEpoch(Described):
    """Call ``sampler.set_epoch`` at the start of every epoch, counted from 0; right after a resume too."""

    def __init__(self, sampler: _HasSetEpoch) -> None:
        self.sampler = sampler

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e: self.sampler.set_epoch(e.state.epoch - 1))
