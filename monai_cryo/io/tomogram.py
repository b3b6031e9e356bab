"""Tomograms by pieces: memory-mapped files, boxes cut from them at any voxel size, whole ones on another grid."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import torch
from mrcfile.utils import mode_from_dtype
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from monai_cryo.io.atomic import replacing
from monai_cryo.io.header import MRCHeader, check_voxel_size, read_header
from monai_cryo.io.mrc import SIGNATURE, read_mrc
from monai_cryo.physics.resampling import covered_shape, evaluate, low_pass, same_voxel_size

__all__ = [
    "Tomogram",
    "cut_boxes",
    "mapped_mrc",
    "open_tomogram",
    "release_pages",
    "resample_tomogram",
    "to_source_index",
]

# Cut-offs around a box: what the low-pass rings from farther away is under 0.5 % (rms) of white noise.
_MARGIN = 4


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A tomogram on disk.

    Attributes
    ----------
    path
        The file.
    data
        [z, y, x], read-only; a memory map where the file is a plain one.
    voxel_size
        Å.
    origin
        Of the header, Å as (z, y, x).
    """

    path: Path
    data: NDArray[Any]
    voxel_size: float
    origin: tuple[float, float, float]


def open_tomogram(path: str | os.PathLike[str], voxel_size: float | None = None) -> Tomogram:
    """Open a tomogram without reading it: plain MRC is memory-mapped, what is compressed or rotated is read whole.

    Parameters
    ----------
    path
        An MRC file.
    voxel_size
        Å, in place of the header's.

    Raises
    ------
    FileNotFoundError, ValueError
        If it cannot be read (see `read_mrc`), its header holds no voxel size (0, or 1 Å, which many programs write for
        "unknown") and none is given, the one given cannot be, or the voxels are no cubes (to a hundredth).
    """
    path = Path(path)
    header, size = tomogram_header(path, voxel_size)
    sizes = header.voxel_size if voxel_size is None else (size,) * 3
    data: NDArray[Any]
    if header.plain:
        data = np.memmap(path, header.dtype, "r", header.offset, header.shape).transpose(header.order)
    else:
        data = read_mrc(path, voxel_size=size)[0]
        data.flags.writeable = False
    return Tomogram(path, data, size, header.origin(sizes))


def tomogram_header(path: Path, voxel_size: float | None = None) -> tuple[MRCHeader, float]:
    """Return the header of a tomogram and its voxel size, Å; parameters and errors as of `open_tomogram`."""
    if voxel_size is not None:
        check_voxel_size(voxel_size)
    header = read_header(path, 3, believed=voxel_size is None)
    return header, header.cubic_voxel_size() if voxel_size is None else float(voxel_size)


def cut_boxes(
    data: NDArray[Any],
    centres: ArrayLike,
    shape: int | Sequence[int],
    voxel_size: float,
    new_voxel_size: float | None = None,
    *,
    fill: float | None = None,
) -> Iterator[tuple[Tensor, float]]:
    """Cut boxes out of a tomogram, at another voxel size where asked.

    A somewhat larger source box is low-passed and evaluated at the voxels wanted, to a fraction of a voxel, so that
    nothing aliases (`monai_cryo.physics.resampling`). Where the voxel sizes agree to a thousandth the voxels are
    copied, centred on the nearest voxel.

    Parameters
    ----------
    data
        [z, y, x]; only what is needed is read.
    centres
        Indices (z, y, x) into `data`, (N, 3), fractions allowed: where voxel ``n // 2`` of a box lies.
    shape
        Of the boxes, in their own voxels.
    voxel_size, new_voxel_size
        Of `data` and of the boxes, Å; None: as `data`.
    fill
        Value outside the tomogram; None: the mean of what is inside the box.

    Yields
    ------
    box
        float32, `shape`.
    outside
        Share of the box that lies outside the tomogram, 0..1.

    Raises
    ------
    ValueError
        If a box lies outside altogether or holds values that are not finite.
    """
    sizes = (shape,) * 3 if isinstance(shape, int) else tuple(shape)
    new = voxel_size if new_voxel_size is None else new_voxel_size
    ratio = 1.0 if same_voxel_size(voxel_size, new) else new / voxel_size
    cut_off_a = 2 * max(voxel_size, new)
    margin = 0 if ratio == 1 else math.ceil(_MARGIN * cut_off_a / voxel_size)
    for centre in np.asarray(centres, float).reshape(-1, 3):
        middle = np.floor(centre + 0.5).astype(int)
        first = [int(m - math.ceil(n // 2 * ratio)) - margin for m, n in zip(middle, sizes, strict=True)]
        length = [math.ceil(n // 2 * ratio) + math.ceil((n - 1 - n // 2) * ratio) + 1 + 2 * margin for n in sizes]
        low = centre - np.array([n // 2 for n in sizes]) * ratio
        high = low + (np.array(sizes) - 1) * ratio
        edge = 0.5 * ratio
        seen = np.minimum(high + edge, np.array(data.shape) - 0.5) - np.maximum(low - edge, -0.5)
        inside = float(np.prod((seen / (np.array(sizes) * ratio)).clip(0, 1)))
        part, beyond = cut_region(data, first, length)
        if not part.size:
            raise ValueError(f"box of {sizes} voxels at index {centre.tolist()} lies outside the {data.shape} tomogram")
        if not np.isfinite(part).all():
            raise ValueError(f"box at index {centre.tolist()} holds NaN or infinite values")
        outside = float(part.mean(dtype=np.float64)) if fill is None else fill
        source = torch.from_numpy(np.pad(part, beyond, constant_values=outside))
        if ratio == 1:
            yield source, 1 - inside
            continue
        grid, spacing, where = low_pass(source, voxel_size, cut_off_a, outside="mirror")
        # `where` is the source box's own centre voxel; the box wanted is centred on `centre`
        shift = (centre - [f + n // 2 for f, n in zip(first, length, strict=True)]) * voxel_size
        at = [w + s / d for w, s, d in zip(where, shift, spacing, strict=True)]
        yield evaluate(grid, at, [new / d for d in spacing], sizes).float(), 1 - inside


@contextmanager
def mapped_mrc(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    voxel_size: float,
    origin: Sequence[float] = (0.0, 0.0, 0.0),
) -> Iterator[NDArray[Any]]:
    """Yield a memory-mapped MRC volume of zeros to fill piece by piece; the file is there once the block ends well.

    Parameters
    ----------
    path
        An .mrc file, in place of one that is there.
    shape
        (z, y, x).
    dtype
        int8, int16, uint16, float16 or float32.
    voxel_size
        Å.
    origin
        Å, (z, y, x).

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is not there, or MRC does not hold this type.
    """
    mode = mode_from_dtype(np.dtype(dtype))
    with replacing(path) as temporary, mrcfile.new_mmap(temporary, shape, mode) as mrc:
        _allocate(temporary, temporary.stat().st_size, path)
        mrc.voxel_size = voxel_size
        mrc.header.origin = tuple(origin)[::-1]
        mrc.header.label[0] = SIGNATURE
        yield mrc.data


def new_map(path: str | os.PathLike[str], dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Return a new file of zeros as a memory map whose place on the disk is taken: writing to it cannot fail.

    Raises
    ------
    OSError
        If the disk has no room for it.
    """
    Path(path).write_bytes(b"")
    _allocate(path, math.prod(shape) * np.dtype(dtype).itemsize, path)
    return np.memmap(path, dtype, "r+", shape=shape)


def _allocate(path: str | os.PathLike[str], size: int, named: str | os.PathLike[str]) -> None:
    """Take a file's place on the disk: without, a full disk kills the process that writes to a map of it."""
    with open(path, "r+b") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} ({size} bytes)", os.fspath(named)) from error


def release_pages(array: NDArray[Any]) -> None:
    """Let go of the memory that a memory map's pages take up in this process; what was written to them stays.

    Parameters
    ----------
    array
        A memory map or a view of one; anything else, such as a copy-on-write map, is left alone.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap) and owner.mode == "c":
            return
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def sections(volume: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield a volume's sections in turn and let go of each one's pages, where it is a memory map, when it is done."""
    for section in volume:
        yield section
        release_pages(volume)


def resample_tomogram(
    tomogram: Tomogram, voxel_size: float, scratch: str | os.PathLike[str], *, block: int | None = None
) -> NDArray[np.float32]:
    """Write a tomogram at another voxel size, block by block, into a scratch file, and map that.

    Voxel ``N // 2`` stays where it is (`to_source_index` and `covered_shape`).

    Parameters
    ----------
    tomogram
        What to resample.
    voxel_size
        Å, of the result.
    scratch
        A file of plain float32 values to write, in place of one that is there.
    block
        Size of the pieces, in new voxels; None: as many as 128 of the coarser of both grids span.

    Returns
    -------
    ndarray
        [z, y, x], float32, memory-mapped and read-only.
    """
    shape = covered_shape(tomogram.data.shape, tomogram.voxel_size, voxel_size)
    fill = float(np.mean([s.mean(dtype=np.float64) for s in sections(tomogram.data[::4, ::4, ::4])]))
    result = new_map(scratch, np.float32, shape)
    if block is None:
        block = max(16, round(128 * min(1.0, tomogram.voxel_size / voxel_size)))
    for start in product(*(range(0, n, block) for n in shape)):
        size = [min(block, n - s) for s, n in zip(start, shape, strict=True)]
        centre = [s + n // 2 for s, n in zip(start, size, strict=True)]
        source = to_source_index([centre], tomogram, shape, voxel_size)
        ((piece, _),) = cut_boxes(tomogram.data, source, size, tomogram.voxel_size, voxel_size, fill=fill)
        result[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = piece.numpy()
        for array in (tomogram.data, result):
            release_pages(array)
    result.flush()
    return np.memmap(scratch, np.float32, "r", shape=shape)


def to_source_index(
    index: ArrayLike, tomogram: Tomogram, shape: Sequence[int], voxel_size: float
) -> NDArray[np.float64]:
    """Return indices into a tomogram, (N, 3), of indices into the same at another `shape` and `voxel_size`."""
    ratio = voxel_size / tomogram.voxel_size
    old, new = (np.array([n // 2 for n in s]) for s in (tomogram.data.shape, shape))
    return (np.asarray(index, float).reshape(-1, 3) - new) * ratio + old


def cut_region(
    data: NDArray[Any], first: Sequence[int], length: Sequence[int]
) -> tuple[NDArray[np.float32], list[tuple[int, int]]]:
    """Return what a region holds of an array, and how far it reaches beyond it, before and behind along each axis.

    A region that lies outside altogether holds nothing: a part of size 0.
    """
    bounds = [(min(max(f, 0), n), min(max(f + m, 0), n)) for f, m, n in zip(first, length, data.shape, strict=True)]
    part = np.array(data[tuple(slice(*b) for b in bounds)], np.float32)
    return part, [(low - f, f + m - high) for f, m, (low, high) in zip(first, length, bounds, strict=True)]
