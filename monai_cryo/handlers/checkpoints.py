"""A training that goes on where it was cut off."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from monai_cryo._described import Described
from monai_cryo.handlers.best import save_whole
from monai_cryo.handlers.resuming import check_parts, differing_options, differing_surroundings, read_checkpoint
from monai_cryo.io.folder import hold_folder
from monai_cryo.io.saved import read_saved
from monai_cryo.networks import facts_in

_NAME = "checkpoint.pt"
#: what belongs to a checkpoint
_RESULTS = ("model.pt", "metrics.json", "predictions.png")


class Checkpoints(Described):
    """Save the run after every epoch and every few minutes, and go on from an earlier one where asked.

    A resumed run is the one it would have been: its weights, averages, moments, best score and random streams are the
    checkpoint's. Options are those given now: the learning rate, momentum and weight decay of the optimizer, and the
    schedule, which is stepped as often as there were iterations. With a larger ``max_epochs`` a schedule that spans
    the whole training therefore goes on as in a training of the new length, and the rate can rise again. Random streams
    are alike on all ranks, and those of the first are kept for all: torch's own, and that of its GPU.

    One process at a time holds the folder (:func:`monai_cryo.io.hold_folder`).

    Parameters
    ----------
    state
        Name -> what is saved and loaded; ``network`` and ``optimizer`` are among them.
    output_dir
        Where ``checkpoint.pt`` goes.
    lr_scheduler
        Schedule that is stepped after every iteration; None: none.
    resume
        Checkpoint to go on from; ``auto``: that of `output_dir`, where there is one, and where it is complete the
        program ends well; None: a new run.
    seed
        Of the training: a run goes on with its own.
    minutes
        Save in the middle of an epoch too, where the last save is that long ago; 0: after every iteration; None: never.
        The loader's sampler must then be told what is done, by :class:`~.epoch.SetEpoch`.
    writer
        :class:`~.writer.LazySummaryWriter` of the run: its log is whole up to every checkpoint, and a run that goes on
        logs no iteration twice; None: none.
    provenance
        What the run is made with (:func:`monai_cryo.bundle.find_provenance`), kept in the file; None: nothing.

    Raises
    ------
    ValueError
        If `resume` or `minutes` is none of these.
    """

    def __init__(
        self,
        state: Mapping[str, Any],
        output_dir: str,
        lr_scheduler: Any = None,
        resume: str | None = None,
        seed: int = 0,
        minutes: float | None = None,
        writer: Any = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(resume, str | None):
            raise ValueError(f"resume must be a checkpoint, auto or null, got {resume!r}")
        if minutes is not None and (isinstance(minutes, bool | str) or not minutes >= 0):
            raise ValueError(f"checkpoint_minutes must be a number >= 0 or null, got {minutes!r}")
        self.state, self.lr_scheduler, self.seed = dict(state), lr_scheduler, seed
        self.minutes, self.writer, self._saved = minutes, writer, time.monotonic()
        self.provenance = dict(provenance or {})
        self.path, self.auto = Path(output_dir) / _NAME, resume == "auto"
        self.resume = Path(resume) if resume is not None and resume != "auto" else None
        if self.auto and self.path.is_file():
            self.resume = self.path

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer, after what validates; an earlier run is loaded now.

        Raises
        ------
        FileNotFoundError
            If there is nothing to resume from.
        ValueError
            If that is no checkpoint, has trained for something else, or is complete; or if another process is at work
            in the folder.
        SystemExit
            With ``resume: auto``, if it is complete: all is done, the exit code is 0.
        """
        if self.path.parent.is_dir():
            self._hold()  # before anything is read that another run may be about to replace
        if self.resume is not None:
            self.load(engine, self.resume)
        self._hold()
        if (self.resume is None or self.resume.resolve() != self.path.resolve()) and idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._set_aside)
        if self.minutes is not None:
            # where all handlers of the last iteration, whatever their order, have had their turn
            engine.add_event_handler(Events.GET_BATCH_STARTED, self._save_if_due)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def _set_aside(self) -> None:
        """Keep what an earlier run left under other names: `--resume auto` is to go on with this one.

        Of two earlier runs the longer one is kept, the later one where both are as long.
        """
        if not self.path.is_file():
            return
        if _iterations(self.path.with_stem(f"{self.path.stem}_before")) > _iterations(self.path):
            self.path.unlink()
            return
        for name in (*_RESULTS, _NAME):  # the checkpoint last: a kill on the way leaves the rest to the next run
            path = self.path.with_name(name)
            if path.is_file():
                path.replace(path.with_stem(f"{path.stem}_before"))

    def _hold(self) -> None:
        if idist.get_rank() == 0:
            hold_folder(self.path.parent)

    def save(self, engine: Engine) -> None:
        """Replace the checkpoint by one of now."""
        if idist.get_rank() != 0:
            return
        if self.writer is not None:
            self.writer.flush()
        iteration = engine.state.iteration
        save_whole(
            {
                **{name: part.state_dict() for name, part in self.state.items()},
                "done": {"epoch": iteration // engine.state.epoch_length, "iteration": iteration},
                "epoch_size": _epoch_size(engine),
                "seed": self.seed,
                "provenance": self.provenance,
                "random": _random_state(self._device()),
            },
            self.path,
        )
        self._saved = time.monotonic()

    def _device(self) -> torch.device:
        return next(iter(self.state["network"].parameters())).device

    def _save_if_due(self, engine: Engine) -> None:
        begun = engine.state.iteration % engine.state.epoch_length > 0
        if begun and time.monotonic() - self._saved >= 60 * (self.minutes or 0):
            self.save(engine)

    def load(self, engine: Engine, path: Path) -> None:
        """Bring everything to where the checkpoint was."""
        if not path.is_file():
            raise FileNotFoundError(f"no checkpoint {path} to resume from")
        found = read_checkpoint(path, self.state)
        done, seed = found["done"], found["seed"]
        self._check(engine, path, done, found["epoch_size"], found["network"])
        if seed != self.seed:
            raise ValueError(f"{path} was trained with seed {seed}: pass --seed {seed}, got {self.seed}")
        if done["epoch"] >= engine.state.max_epochs:
            already = f"{path} has {done['epoch']} epochs already: --max_epochs must be larger"
            if not self.auto:
                raise ValueError(f"{already}, got {engine.state.max_epochs}")
            if idist.get_rank() == 0:
                print(f"the run is finished, {already} to go on", flush=True)
            idist.barrier()  # none leaves while another still needs it
            # whatever a config does next, as to train, would change what the finished run left
            raise SystemExit(0)
        check_parts(path, found, self.state)
        options = self.state["optimizer"].state_dict()["param_groups"]  # those given now
        found["optimizer"] = {"state": found["optimizer"]["state"], "param_groups": options}
        for name, part in self.state.items():
            part.load_state_dict(found[name])
        for what, differing in (("options", differing_options), ("surroundings", differing_surroundings)):
            changed = differing(found["provenance"], self.provenance)
            if changed and idist.get_rank() == 0:
                print(f"goes on with other {what} than it began with: {changed}", flush=True)
        if self.lr_scheduler is not None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # the optimizer's are past
                for _ in range(done["iteration"]):
                    self.lr_scheduler.step()
        engine.state.epoch, engine.state.iteration = done["epoch"], done["iteration"]
        # the loader, made anew, draws a seed; in the middle of an epoch that has been drawn before
        begun = done["iteration"] % engine.state.epoch_length > 0
        first = Events.GET_BATCH_STARTED if begun else Events.STARTED

        def restore() -> None:
            handle.remove()
            _set_random_state(found["random"], self._device())

        handle = engine.add_event_handler(first, restore)
        if self.writer is not None:
            self.writer.purge_step = done["iteration"] + 1

    def _check(self, engine: Engine, path: Path, done: Mapping[str, int], size: list[int], network: Any) -> None:
        wanted = facts_in(self.state["network"].state_dict()) or {}
        try:
            facts = (facts_in(network) if isinstance(network, dict) else None) or {}
        except ValueError as error:
            raise ValueError(f"{path} is no checkpoint of this bundle's training: {error}") from error
        for key in wanted:
            if facts.get(key) != wanted.get(key):
                raise ValueError(f"{path} was trained with {key} {facts.get(key)!r:.300}, not {wanted.get(key)!r}")
        if size != _epoch_size(engine):
            ours = _epoch_size(engine)
            raise ValueError(
                f"{path} has epochs of {size[0]} iterations and {size[1]} samples, not {ours[0]} and {ours[1]}: "
                "pass the same --epoch_length and --batch_size, or samples would be repeated or left out"
            )
        if done["epoch"] != done["iteration"] // size[0]:
            raise ValueError(
                f"{path} has {done['iteration']} iterations of {size[0]} an epoch, not {done['epoch']} epochs"
            )


def _iterations(path: Path) -> int:
    """Iterations that a checkpoint has, 0 where there is none."""
    try:
        return int(read_saved(path)["done"]["iteration"])
    except (ValueError, TypeError, KeyError, OverflowError):  # there is nothing to go on with
        return 0


def _epoch_size(engine: Any) -> list[int]:
    """Iterations and samples, over all ranks, of an epoch."""
    return [engine.state.epoch_length, len(engine.data_loader.dataset)]


def _random_state(device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    return {"cpu": torch.get_rng_state(), "cuda": [torch.cuda.get_rng_state(device)] if on_gpu else []}


def _set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"][0], device)
