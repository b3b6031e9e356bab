"""Trainings of an experiment, each a process of its own by the bundle's own command."""

from __future__ import annotations

import subprocess
import sys

from monai_cryo.bundle import bundle_root
from monai_cryo.experiment.plan import Run
from monai_cryo.io.saved import read_saved

__all__ = ["is_trained", "train_run"]


def is_trained(run: Run, max_epochs: int) -> bool:
    """Tell whether a run has all its epochs and its model; one that has lost its model is to begin anew."""
    checkpoint = run.folder / "checkpoint.pt"
    if not checkpoint.is_file():
        return False
    try:
        done = bool(read_saved(checkpoint)["done"]["epoch"] >= max_epochs)
    except (ValueError, TypeError, KeyError):  # the training says what is wrong with it
        return False
    if done and not run.model.is_file():  # there is nothing to go on with, and the model cannot be had from it
        checkpoint.unlink()
    return done and run.model.is_file()


def train_run(run: Run) -> None:
    """Train, from where an earlier command was cut off.

    Raises
    ------
    ValueError
        If the training fails; it has said why, such as that another process is at work in this folder: one, perhaps,
        that a killed command has left behind.
    """
    root = bundle_root()
    command = [sys.executable, "-m", "monai.bundle", "run", "training"]
    options = {
        "bundle_root": root,
        "meta_file": root / "configs" / "metadata.json",
        "logging_file": root / "configs" / "logging.conf",
        "config_file": run.config,
        "output_dir": run.folder,
        "seed": run.seed,
        "resume": "auto",
    }
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise ValueError(f"the training of {run.folder} ended with exit code {code}; the lines above say why")
