"""Volumes binned by two, in which blobs are sought, a block at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_cryo.io.tomogram import release_pages

__all__ = ["BIN", "binned_blocks", "gaussian_reach", "unbinned"]

BIN = 2
_CORE = 160  # bins: with what lies around it and a few copies some 100 MiB

Inner = tuple[slice, ...]


def binned_blocks(
    volume: NDArray[Any], halo: int, core: int = _CORE
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], Inner]]:
    """Yield a volume of means over 2^3 voxels, block by block; beyond an odd face its last voxels count again.

    Parameters
    ----------
    volume
        [z, y, x], an array or a memory map, whose pages are let go after each block.
    halo
        Bins around a core that its block holds as well, as far as there are any.
    core
        Largest size of a core, in bins; cores tile the volume.

    Yields
    ------
    first
        Bin in which the core begins.
    block
        The core and what lies around it.
    inner
        Where in the block the core is.
    """
    shape = [math.ceil(n / BIN) for n in volume.shape]
    for first in product(*(range(0, n, core) for n in shape)):
        last = [min(f + core, n) for f, n in zip(first, shape, strict=True)]
        low = [max(f - halo, 0) for f in first]
        high = [min(e + halo, n) for e, n in zip(last, shape, strict=True)]
        part = volume[tuple(slice(a * BIN, b * BIN) for a, b in zip(low, high, strict=True))]
        inner = tuple(slice(f - a, e - a) for f, e, a in zip(first, last, low, strict=True))
        yield np.array(first), _binned(part), inner


def _binned(volume: NDArray[Any]) -> NDArray[np.float32]:
    shape = tuple(math.ceil(n / BIN) for n in volume.shape)
    result = np.zeros(shape, np.float32)
    for z in range(BIN * shape[0]):
        plane = np.asarray(volume[min(z, len(volume) - 1)], np.float32)
        plane = np.pad(plane, [(0, n * BIN - m) for n, m in zip(shape[1:], plane.shape, strict=True)], mode="edge")
        result[z // BIN] += plane.reshape(shape[1], BIN, shape[2], BIN).sum((1, 3))
        release_pages(volume)  # a page holds a whole row or more
    result /= BIN**3
    return result


def gaussian_reach(sigma: float) -> int:
    """How far, in voxels, scipy's `gaussian_filter` reaches."""
    return int(4.0 * sigma + 0.5)


def unbinned(index: NDArray[Any]) -> NDArray[np.float64]:
    """Indices into the volume of indices into the binned one: bin i holds the voxels 2i and 2i + 1."""
    return index * float(BIN) + (BIN - 1) / 2
