"""A dataset that outlives broken files: they are marked, and a stand-in takes their place in the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from monai.data import Dataset

from monai_cryo._described import Described
from monai_cryo._refusals import find_refusal
from monai_cryo.data.memory import image_in_memory

__all__ = ["RefusingDataset"]


class RefusingDataset(Described, Dataset):
    """Load items; one that is refused comes as noise, with the reason in ``refused``.

    A batch keeps its size whatever its files are like, and a worker process can say what it refused. ``refused`` is
    ``""`` for the others. What is no refusal of input but a defect of the program is raised.

    Parameters
    ----------
    data
        Items with ``image``; reading one may itself refuse it.
    transform
        From an item to the network's input; it takes an ``image`` that is in memory already.
    voxel_size, box
        Of the network's input: Å and voxels.
    """

    def __init__(
        self, data: Sequence[dict[str, Any]], transform: Callable[[Any], Any], *, voxel_size: float, box: int
    ) -> None:
        super().__init__(data, transform)
        noise = np.random.RandomState(0).standard_normal((box,) * 3).astype(np.float32)
        self._stand_in = image_in_memory(noise, voxel_size, "stand-in")

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return item `index`, or its stand-in."""
        try:
            return {**self.transform(self.data[index]), "refused": ""}
        except Exception as error:  # MONAI wraps what its transforms raise
            refusal = find_refusal(error)
            if refusal is None:
                raise
            reason = " ".join(str(refusal).split())
        file = getattr(self.data, "file", lambda n: self.data[n]["file"])(index)
        return {**self.transform({"image": self._stand_in.clone(), "file": file}), "refused": reason}
