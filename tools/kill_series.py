"""Kill a training at random moments, go on with the same command each time, and compare with one left alone.

    python tools/kill_series.py --output FOLDER --kills 50

Each training is a process of its own that runs ``python -m monai.bundle run training ... --resume auto``, forked from
one that has imported the libraries, and is killed by SIGKILL. When it has come to its end it must have left what the
uninterrupted one did, bit for bit; then the next series begins, until there were enough kills.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import runpy
import sys
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1] / "bundles" / "subtomogram"
#: the quick recipe, with its averaged weights, one-cycle rate and batch normalisation, at the smallest size
TINY = {
    "features": [2, 2, 2, 2, 2],
    "fc": [4, 4],
    "dropout": 0.5,
    "batch_size": 2,
    "epoch_length": 4,
    "max_epochs": 3,
    "val_length": 4,
    "checkpoint_minutes": 0,
}
_PRELOAD = ["monai.bundle", "monai_cryo.bundle", "monai_cryo.engines", "monai_cryo.handlers", "monai_cryo.transforms"]


def start(
    output_dir: Path,
    options: Mapping[str, Any],
    configs: tuple[str, ...] = ("train", "quick"),
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Begin a training in a process of its own; what it says is added to ``said.txt`` beside its folder."""
    files = [str(ROOT / "configs" / f"{name}.yaml") for name in configs]
    argv = ["run", "training", "--bundle_root", str(ROOT), "--config_file", str(files), "--output_dir", str(output_dir)]
    for name, value in options.items():
        argv += [f"--{name}", str(value)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_run, args=(argv, output_dir.parent / "said.txt", dict(environment or {})))
    process.start()
    return process


def _run(argv: list[str], said: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:  # torch, imported before the fork, has read another one
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    with said.open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = ["monai.bundle", *argv]
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    except Exception:
        sys.excepthook(*sys.exc_info())  # the forked process has another one of its own
        sys.exit(1)


def finish(process: BaseProcess, output_dir: Path, seconds: float | None = None) -> bool:
    """Wait for the end of a training; False where it was killed after so many seconds.

    Raises
    ------
    RuntimeError
        If it failed.
    """
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
    if process.exitcode not in (0, -9):
        said = (output_dir.parent / "said.txt").read_text()
        raise RuntimeError(f"the training of {output_dir} ended with {process.exitcode}:\n{said[-3000:]}")
    return process.exitcode == 0


def left_by(output_dir: Path) -> dict[str, Any]:
    """Read all that a training leaves: weights, moments, random streams, scores, and the loss of every iteration."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    half = [path.name for path in output_dir.glob(".*") if path.name != ".lock"]
    checkpoint = torch.load(output_dir / "checkpoint.pt", weights_only=True)
    checkpoint.pop("provenance")
    checkpoint["best"].pop("digest")
    metrics = json.loads((output_dir / "metrics.json").read_text())
    metrics.pop("provenance")
    log = EventAccumulator(str(output_dir), size_guidance={"scalars": 0}).Reload()
    return {
        "checkpoint": checkpoint,
        "model": torch.load(output_dir / "model.pt", weights_only=True),
        "metrics": metrics,
        "scalars": {tag: [(e.step, e.value) for e in log.Scalars(tag)] for tag in log.Tags()["scalars"]},
        "half-written": half,
    }


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Name the places where two contents are not the same, bit for bit."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        found = [] if a.keys() == b.keys() else [f"{where}: other names"]
        return found + [
            d for name in sorted(a.keys() & b.keys(), key=str) for d in differences(a[name], b[name], f"{where}/{name}")
        ]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        found = [] if len(a) == len(b) else [f"{where}: {len(a)} and {len(b)}"]
        return found + [
            d for n, (x, y) in enumerate(zip(a, b, strict=False)) for d in differences(x, y, f"{where}/{n}")
        ]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b or (a != a and b != b)  # NaN, too
    return [] if same else [where]


def kill_series(output: Path, kills: int, seed: int = 0, options: Mapping[str, Any] = TINY) -> dict[str, Any]:
    """Kill trainings until there were so many kills.

    Returns
    -------
    dict
        ``kills``, ``series``: trainings that came to their end; ``while_saving``: kills that left a half-written file;
        ``in_an_epoch``: kills after which a run went on in the middle of an epoch; ``differences``: where a series did
        not leave what the uninterrupted training did.

    Raises
    ------
    RuntimeError
        If a training failed otherwise than by being killed.
    """
    options, moments = {**options, "resume": "auto"}, random.Random(seed)
    finish(start(output / "warm" / "run", {**options, "max_epochs": 1}), output / "warm" / "run")
    begun = time.monotonic()
    finish(start(output / "whole" / "run", options), output / "whole" / "run")
    longest = 0.6 * (time.monotonic() - begun)
    whole = left_by(output / "whole" / "run")
    found = {"kills": 0, "series": 0, "while_saving": 0, "in_an_epoch": 0, "differences": []}
    while found["kills"] < kills:
        folder = output / f"series_{found['series']}" / "run"
        # the last series may end before its share of the kills: none is cut short of its end
        while not finish(
            start(folder, options),
            folder,
            moments.uniform(0, longest) if found["kills"] < kills else None,
        ):
            found["kills"] += 1
            found["while_saving"] += any(path.name != ".lock" for path in folder.glob(".*"))
            if (folder / "checkpoint.pt").is_file():
                done = torch.load(folder / "checkpoint.pt", weights_only=True)["done"]["iteration"]
                found["in_an_epoch"] += done % options["epoch_length"] > 0
            print(f"\r{found['kills']} kills", end="", flush=True)
        found["series"] += 1
        found["differences"] += differences(left_by(folder), whole, folder.parent.name)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for all trainings")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    given = parser.parse_args()
    result = kill_series(given.output, given.kills, given.seed)
    print("\n" + json.dumps(result, indent=1))
    sys.exit(bool(result["differences"]))
