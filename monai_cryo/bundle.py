"""What the bundle's configs call beside MONAI: early checks, the model's record, and where the bundle lies."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

#: what a model file must say about itself, so that it can never be used with other names or another voxel size
RECORD_KEYS = ("classes", "voxel_size", "box", "contrast", "standardize_channel_wise", "network")


def bundle_root() -> Path:
    """Folder of the subtomogram bundle: in the installed package, or in the checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "bundles" / "subtomogram", here.parent / "bundles" / "subtomogram"):
        if (folder / "configs").is_dir():
            return folder
    raise FileNotFoundError(f"no bundle beside {here}: reinstall monai-cryo")


def start(argv: Sequence[str] | None = None) -> None:
    """Begin a bundle run: refuse unknown options now, and end with one line instead of a page where input is bad.

    ``monai.bundle`` accepts a mistyped ``--max_iteration`` in silence; here it is an error that names the near match.

    Raises
    ------
    ValueError
        On an option that no config has at its top level.
    """
    sys.excepthook = _one_line
    check_overrides(sys.argv if argv is None else argv)


def check_overrides(argv: Sequence[str]) -> None:
    """Compare the options of a ``monai.bundle run`` command line with the top-level keys of its configs."""
    from monai.bundle import ConfigParser, run
    from monai.bundle.utils import ID_SEP_KEY

    if "run" not in argv[:2] or not any("bundle" in part for part in argv[:1]):
        return
    options: dict[str, str] = {}
    for i, part in enumerate(argv):
        if part.startswith("--"):
            name, _, value = part[2:].partition("=")
            options[name] = value or (argv[i + 1] if i + 1 < len(argv) else "")
    files = options.get("config_file", "")
    if not files:
        return
    known = set(ConfigParser.load_config_files(_as_list(files))) | set(inspect.signature(run).parameters)
    for name in options:
        top = name.replace("#", ID_SEP_KEY).split(ID_SEP_KEY)[0]
        if top not in known:
            near = difflib.get_close_matches(top, known, n=1)
            hint = f"did you mean --{near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise ValueError(f"unknown option --{name}: {hint}")


def _as_list(files: str) -> list[str]:
    return [part.strip(" '\"") for part in files.strip("[] ").split(",")]


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a refusal alone, without the RuntimeErrors that MONAI wraps it in; all else keeps its traceback."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ValueError | FileNotFoundError):
        cause = cause.__cause__
    if cause is not None and not os.environ.get("MONAI_CRYO_TRACEBACK"):
        print(f"monai_cryo: error: {cause}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


class ModelRecord:
    """What the model was trained for, saved beside its weights.

    Parameters
    ----------
    **facts
        Plain values under all of ``RECORD_KEYS``.

    Raises
    ------
    ValueError
        If one is missing, or the box is no multiple of 8.
    """

    def __init__(self, **facts: Any) -> None:
        missing = [key for key in RECORD_KEYS if key not in facts]
        if missing:
            raise ValueError(f"a model's record needs {', '.join(RECORD_KEYS)}; missing: {', '.join(missing)}")
        if facts["box"] % 8:
            raise ValueError(f"box must be a multiple of 8 voxels, got {facts['box']}")
        self.facts = facts

    def state_dict(self) -> dict[str, Any]:
        """Return the facts, for a checkpoint."""
        return dict(self.facts)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check, on resuming, that the checkpoint was trained for the same thing.

        Raises
        ------
        ValueError
            If a fact differs.
        """
        for key in RECORD_KEYS:
            if state.get(key) != self.facts[key]:
                raise ValueError(f"the checkpoint was trained with {key} {state.get(key)!r}, not {self.facts[key]!r}")


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the record of a model file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no model of this bundle.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model file {path}: train one, or pass --ckpt")
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)["record"]
        return ModelRecord(**record).facts
    except (KeyError, TypeError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} is no model of this bundle (a file with 'model' and 'record')") from error
    except Exception as error:  # torch.load raises pickle errors of many kinds
        raise ValueError(f"{path} is no readable model file: {type(error).__name__}") from error


def attach_checkpoints(
    trainer: Any,
    evaluator: Any,
    *,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    record: ModelRecord,
    output_dir: str,
    key_metric: str = "mean_iou",
    lr_scheduler: Any = None,
    resume: str | None = None,
    rank: int = 0,
) -> None:
    """Save the run and its best model, each file whole or not at all, and go on from an earlier run where asked.

    ``model.pt`` holds the weights and the record of the epoch with the best key metric, for evaluation and inference;
    ``checkpoint.pt`` holds all that a resume needs, after every epoch.

    Raises
    ------
    FileNotFoundError
        If there is nothing to resume from.
    ValueError
        If that run trained for something else (:class:`ModelRecord`).
    """
    from ignite.engine import Events
    from ignite.handlers import Checkpoint, DiskSaver

    model = {"model": getattr(network, "module", network), "record": record}  # .module: of DistributedDataParallel
    disk = DiskSaver(output_dir, create_dir=True, require_empty=False)
    # saved with the run, or a resumed one would let its first, worse model replace the best
    best = Checkpoint(
        model, disk, filename_pattern="model.pt", score_function=lambda engine: engine.state.metrics[key_metric]
    )
    run = {**model, "optimizer": optimizer, "trainer": trainer, "best": best}
    if lr_scheduler is not None:
        run["lr_scheduler"] = lr_scheduler
    if resume is not None:
        if not Path(resume).is_file():
            raise FileNotFoundError(f"no checkpoint {resume} to resume from")
        if not (Path(output_dir) / "model.pt").is_file():  # another folder: its best model starts anew
            del run["best"]
        max_epochs = trainer.state.max_epochs
        Checkpoint.load_objects(run, torch.load(resume, map_location="cpu", weights_only=True))
        run["best"] = best
        done, trainer.state.max_epochs = trainer.state.epoch, max_epochs  # the configured length, not the old run's
        if done >= max_epochs:
            raise ValueError(f"{resume} has {done} epochs already: --max_epochs must be larger, got {max_epochs}")
    if rank == 0:
        evaluator.add_event_handler(Events.COMPLETED, best)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint(run, disk, filename_pattern="checkpoint.pt"))


def say_where(output_dir: str) -> None:
    """Tell where the results of a training lie."""
    folder = Path(output_dir)
    print(
        f"""
model        {folder / "model.pt"}
checkpoint   {folder / "checkpoint.pt"}
pictures     {folder / "predictions.png"}
metrics      {folder / "metrics.json"}
TensorBoard  tensorboard --logdir {folder}""",
        flush=True,
    )
