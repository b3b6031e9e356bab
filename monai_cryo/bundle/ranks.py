"""One training by several processes: begun by torchrun, each with its share of the batch."""

from __future__ import annotations

import os

import torch

__all__ = ["join_ranks", "share_batch"]


def join_ranks(device: torch.device | str) -> None:
    """Join the processes that torchrun has started: over nccl, each with a GPU of its own, or over gloo on CPUs.

    Parameters
    ----------
    device
        Of this process.

    Raises
    ------
    ValueError
        If torchrun did not start this process, or it has no GPU where others have.
    """
    if not torch.distributed.is_torchelastic_launched():
        raise ValueError("this config trains with several processes: begin it with torchrun, not with python")
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise ValueError(f"process {local} of this node has no GPU, there are {gpus}: lower --nproc_per_node")
        torch.cuda.set_device(local)
    # Ignite, where it sees a SLURM job, takes local ranks from SLURM's tasks: torchrun is one task, of many processes
    os.environ.pop("SLURM_JOB_ID", None)
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")


def share_batch(batch_size: int, world_size: int) -> int:
    """Return how many samples of a batch each process trains on.

    Raises
    ------
    ValueError
        If the batch cannot be dealt evenly, or `world_size` is not the number of processes there are.
    """
    launched = torch.distributed.is_torchelastic_launched()
    processes = int(os.environ["WORLD_SIZE"]) if launched else 1
    if world_size != processes:
        raise ValueError(
            f"world_size is {world_size}, the number of processes {processes}: begin with torchrun, "
            "lay multi_gpu_train.yaml over the config, and do not set world_size"
        )
    if batch_size % world_size:
        raise ValueError(f"batch_size must be a multiple of the {world_size} processes, got {batch_size}")
    return batch_size // world_size
