"""Every item has its own random stream: the same data for any number of workers and ranks, any batches, any restart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from monai_cryo._described import Described
from monai_cryo._typing import Split, check_word

#: the splits' places in the key of a stream: what is trained on is never validated on, whatever the seed
SPLITS: dict[Split, int] = {"train": 0, "validation": 1, "test": 2}


def item_state(seed: int, split: Split = "train", index: int = 0, stream: int = 0) -> np.random.RandomState:
    """Random state of one item, a function of the whole key through ``numpy.random.SeedSequence``.

    Its generator is Philox, made in a tenth of the time of numpy's usual Mersenne twister.

    Parameters
    ----------
    seed, index
        Integers >= 0.
    split
        ``"train"``, ``"validation"`` or ``"test"``.
    stream
        Keeps draws for different purposes apart: 0 draws the particle, 1 its pose and imaging.

    Raises
    ------
    ValueError
        On an unknown split or a negative number.
    """
    check_word("split", split, Split)
    key = (seed, SPLITS[split], index, stream)
    if min(key) < 0:
        raise ValueError(f"seed, index and stream must be >= 0, got {seed}, {index} and {stream}")
    return np.random.RandomState(np.random.Philox(np.random.SeedSequence(key)))


class CounterSampler(Described, Sampler[int]):
    """Sampler that never repeats: epoch e yields the indices e * length .. (e + 1) * length - 1, dealt to the ranks.

    Parameters
    ----------
    length
        Items an epoch, over all ranks.
    rank, world_size
        This process and their number.

    Raises
    ------
    ValueError
        If the length is not a positive multiple of the number of ranks.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        if length < 1 or length % world_size:
            raise ValueError(f"length must be a positive multiple of the {world_size} ranks, got {length}")
        self.length, self.rank, self.world_size, self.epoch, self.done = length, rank, world_size, 0, 0

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Choose the epoch, counted from 0, and how many of its items, over all ranks, are done and left out."""
        self.epoch, self.done = epoch, done

    def __len__(self) -> int:
        return self.length // self.world_size

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.length
        return iter(range(start + self.done + self.rank, start + self.length, self.world_size))
