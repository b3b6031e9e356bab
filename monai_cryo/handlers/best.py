"""The best model of a training, and one event for all that belongs to it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, EventEnum, Events
from torch import nn

from monai_cryo._described import Described
from monai_cryo.io.atomic import flush_to_disk, replacing
from monai_cryo.io.digest import sha256


class ModelEvents(EventEnum):
    """Fired by an evaluator.

    - BEST_SAVED: its model was the best so far and has been saved; what describes it is written now.
    """

    BEST_SAVED = "best_saved"


def results_event(engine: Engine, best_only: bool) -> Events | ModelEvents:
    """Return the event on which an evaluator's results are written: when it is done, or when its model was saved."""
    if not best_only:
        return Events.COMPLETED
    engine.register_events(*ModelEvents)
    return ModelEvents.BEST_SAVED


def save_whole(content: Any, path: Path) -> None:
    """Save with ``torch.save``, whole and on the disk, or not at all: the file that was there stays until then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        with part.open("wb") as file:
            torch.save(content, file)
        flush_to_disk(part)


class KeepBest(Described):
    """Save the model whenever an evaluation beats all before it, and fire `ModelEvents.BEST_SAVED`.

    Parameters
    ----------
    network
        Whose state dict becomes ``model.pt``.
    output_dir
        Where to.
    metric
        Name of the score, larger is better.
    """

    def __init__(self, network: nn.Module, output_dir: str, metric: str = "mean_iou") -> None:
        self.network, self.path, self.metric = network, Path(output_dir) / "model.pt", metric
        self.score, self.epoch, self.digest = math.nan, 0, ""

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator, after its metrics and tables."""
        engine.register_events(*ModelEvents)
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compare, and save; the comparison alone on ranks other than 0."""
        score = float(engine.state.metrics[self.metric])
        if math.isnan(self.score) or score > self.score:
            self.score, self.epoch = score, engine.state.epoch
            if idist.get_rank() == 0:
                state = self.network.state_dict()
                for name, value in state.items():  # kept where every machine can read it
                    state[name] = value.cpu()
                save_whole(state, self.path)
                self.digest = sha256(self.path)
                print(f"best so far by {self.metric}: saved to {self.path}", flush=True)
            engine.fire_event(ModelEvents.BEST_SAVED)
        elif idist.get_rank() == 0:
            print(f"{self.path} stays that of epoch {self.epoch}, {self.metric} {self.score:.3f}", flush=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, its epoch and its file: a resumed run must not let a worse model replace the best."""
        return {"score": self.score, "epoch": self.epoch, "digest": self.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back where that very model is still there; else the next validation is the best so far."""
        if self.path.is_file() and sha256(self.path) == state["digest"]:
            self.score, self.epoch, self.digest = state["score"], int(state["epoch"]), state["digest"]
