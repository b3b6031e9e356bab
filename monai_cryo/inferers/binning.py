"""Volumes binned by two, in which blobs and peaks are sought: an eighth of a whole tomogram fits into memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BIN", "binned", "unbinned"]

BIN = 2


def binned(volume: NDArray[Any]) -> NDArray[np.float32]:
    """Mean over 2^3 voxels, read section by section; what lies beyond an odd face counts as 0."""
    shape = tuple(math.ceil(n / BIN) for n in volume.shape)
    result = np.zeros(shape, np.float32)
    for z, section in enumerate(volume):
        plane = np.asarray(section, np.float32)
        plane = np.pad(plane, [(0, n * BIN - m) for n, m in zip(shape[1:], plane.shape, strict=True)])
        result[z // BIN] += plane.reshape(shape[1], BIN, shape[2], BIN).sum((1, 3))
    result /= BIN**3
    return result


def unbinned(index: NDArray[Any]) -> NDArray[np.float64]:
    """Indices into the volume of indices into what `binned` returned: bin i holds the voxels 2i and 2i + 1."""
    return index * float(BIN) + (BIN - 1) / 2
