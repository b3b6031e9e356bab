"""A list dealt to many processes: those of torchrun, or the tasks of a SLURM array."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

import torch.distributed

__all__ = ["my_share", "process_rank"]

Item = TypeVar("Item")


def process_rank(environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Return this process's number, from 0, and how many there are.

    ``RANK`` and ``WORLD_SIZE`` as torchrun sets them, or else ``SLURM_ARRAY_TASK_ID``, ``_MIN``, ``_STEP`` and
    ``_COUNT``; one process alone is 0 of 1.

    Parameters
    ----------
    environment
        Environment variables; None: this process's.

    Raises
    ------
    ValueError
        If they are no whole numbers, or the number is not below the count.
    """
    env = os.environ if environment is None else environment
    try:
        if "RANK" in env and "WORLD_SIZE" in env:
            rank, count = int(env["RANK"]), int(env["WORLD_SIZE"])
        elif "SLURM_ARRAY_TASK_ID" in env:
            first, step = int(env.get("SLURM_ARRAY_TASK_MIN", 0)), int(env.get("SLURM_ARRAY_TASK_STEP", 1))
            rank = (int(env["SLURM_ARRAY_TASK_ID"]) - first) // step
            count = int(env["SLURM_ARRAY_TASK_COUNT"])
        else:
            return 0, 1
    except (KeyError, ValueError) as error:
        raise ValueError(f"cannot tell which part of the list is this process's: {error!r}") from error
    if not 0 <= rank < count:
        raise ValueError(f"cannot tell which part of the list is this process's: it is number {rank} of {count}")
    return rank, count


def my_share(items: Sequence[Item], environment: Mapping[str, str] | None = None) -> list[Item]:
    """Return every n-th item, as `process_rank` deals them.

    A list of one is all of a SLURM task's: tasks may have calls of their own, torchrun's processes have one in common.
    """
    rank, count = process_rank(environment)
    own = len(items) == 1 and "RANK" not in (os.environ if environment is None else environment)
    return list(items) if own else list(items[rank::count])


def wait_for_others() -> None:
    """Wait, under torchrun, until each of its processes has come this far: one that ends in an error ends them all."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_torchelastic_launched() and process_rank()[1] > 1:
        distributed.init_process_group("gloo", timeout=timedelta(days=30))
        distributed.barrier()
        distributed.destroy_process_group()
