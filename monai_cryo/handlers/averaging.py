"""The moving average of the weights, which is validated, saved and shipped as the model."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import nn

from monai_cryo._described import Described


class AverageWeights(Described):
    """Exponential moving average of a network's weights, by Ignite's ``EMAHandler``.

    After n iterations the decay is min(`decay`, (1 + n) / (10 + n)), as TensorFlow's ``ExponentialMovingAverage`` has
    it, so that the untrained weights are forgotten at once. Running statistics of normalisation layers are averaged
    too.

    Parameters
    ----------
    network
        What is trained; no wrapper of it.
    decay
        Share of the average that stays at each iteration, such as 0.99; None: no average.

    Attributes
    ----------
    network
        The averaged network; without an average, the trained one.

    Raises
    ------
    ValueError
        If `decay` does not lie between 0 and 1.
    """

    def __init__(self, network: nn.Module, decay: float | None = None) -> None:
        if decay is not None and not 0 < decay < 1:
            raise ValueError(f"ema, the decay of the average of the weights, must lie between 0 and 1, got {decay}")
        self.decay = decay
        self._average = None
        self.network = network
        if decay is not None:
            self._average = EMAHandler(network, momentum=1 - decay, handle_buffers="update")
            self.network = self._average.ema_model

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, before what validates."""
        if self._average is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._set_momentum)
            self._average.attach(engine)

    def _set_momentum(self, engine: Engine) -> None:
        n = engine.state.iteration
        engine.state.ema_momentum = 1 - min(self.decay or 0.0, (1 + n) / (10 + n))

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights; nothing without an average."""
        return {} if self._average is None else self.network.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take averaged weights back; an average that the checkpoint lacks begins at its trained weights.

        The trained network must have been loaded before.
        """
        if self._average is not None:
            self.network.load_state_dict(state or self._average.model.state_dict())
