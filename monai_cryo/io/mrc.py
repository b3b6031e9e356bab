"""MRC files in and out, as arrays [z, y, x] with voxel size and origin in Å."""

from __future__ import annotations

import bz2
import gzip
import logging
import math
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from mrcfile.utils import data_dtype_from_header, data_shape_from_header
from numpy.typing import ArrayLike, NDArray

from monai_cryo.io.atomic import replacing
from monai_cryo.physics.fourier import VoxelSize, voxel_size_zyx

__all__ = ["SUFFIXES", "has_mrc_suffix", "read_mrc", "write_mrc"]

logger = logging.getLogger(__name__)

Triple = tuple[float, float, float]

SUFFIXES = (".mrc", ".map", ".rec", ".mrcs", ".st")
_EXPECTED = "expected an MRC2014 file (.mrc .map .rec .mrcs .st, plain or .gz)"
_OPENERS: dict[str, Callable[..., Any]] = {"GzipMrcFile": gzip.open, "Bzip2MrcFile": bz2.open}
_IMOD_STAMP = 1146047817


def read_mrc(
    path: str | os.PathLike[str],
    *,
    voxel_size: VoxelSize | None = None,
    ndim: int = 3,
    allow_nonfinite: bool = False,
) -> tuple[NDArray[Any], Triple | None, Triple]:
    """Read an MRC file, plain or gzipped, whatever its suffix.

    The header's minimum, maximum and mean are never used. Axes in another order (mapc, mapr, maps) are put into
    [z, y, x]; IMOD's unsigned bytes are honoured. An origin of 0 with a grid start (nxstart...) that is not takes the
    grid start.

    Parameters
    ----------
    path
        The file.
    voxel_size
        Å, a scalar or (z, y, x): overrides the header, and no doubt about the header's value is voiced.
    ndim
        Dimensions the data must have: 3 for a volume or a stack of images, 2 for an image, 4 for a stack of volumes.
    allow_nonfinite
        Let NaN and infinity pass.

    Returns
    -------
    array
        [z, y, x] in the file's dtype (int8, uint8, int16, uint16, float16 or float32), native byte order, writable.
    voxel_size
        Å as (z, y, x), the shortest decimals that give the header's float32 again; None where it holds 0 or nonsense.
    origin
        Å as (z, y, x).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one line, if it is not a whole, real-valued, orthogonal MRC file of `ndim` dimensions and finite values.

    Warns
    -----
    UserWarning
        If the voxel size is 0, or exactly 1 Å, which many programs write for "unknown".

    References
    ----------
    Cheng et al., MRC2014: extensions to the MRC format header for electron cryo-microscopy and tomography,
    J. Struct. Biol. 192 (2015) 146-150.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, {_EXPECTED}")
    try:
        with mrcfile.open(path, header_only=True) as mrc:
            header = mrc.header
            opener = _OPENERS.get(type(mrc).__name__, open)
            shape, dtype, order = header_layout(header, ndim)
        array = _data_block(path, opener, 1024 + int(header.nsymbt), shape, dtype)
    except PermissionError:
        raise
    except (ValueError, OSError, EOFError, zlib.error, ZeroDivisionError, MemoryError, OverflowError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: {reason}; {_EXPECTED}") from error
    if array.dtype.kind == "f" and not allow_nonfinite and not np.isfinite(array).all():
        bad = np.count_nonzero(~np.isfinite(array))
        raise ValueError(f"{path}: {bad} of {array.size} values are NaN or infinite, expected finite values")
    if order != (0, 1, 2):
        array = np.ascontiguousarray(array.transpose(order))

    found = header_voxel_size(header)
    used = found if voxel_size is None else voxel_size_zyx(voxel_size)
    if voxel_size is None and found is None:
        warnings.warn(f"{path}: the header holds no voxel size, pass voxel_size in Å", stacklevel=2)
    elif voxel_size is None and found == (1.0, 1.0, 1.0):
        warnings.warn(f"{path}: voxel size 1.0 Å often means unknown, pass voxel_size in Å", stacklevel=2)
    return array, used, header_origin(path, header, used, order)


def write_mrc(
    path: str | os.PathLike[str],
    array: ArrayLike,
    voxel_size: VoxelSize,
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    *,
    overwrite: bool = False,
) -> None:
    """Write a volume as MRC, gzipped where the name ends in .gz; whole or not at all.

    int8, int16, uint16, float16 and float32 are kept; bool becomes int8, other integers int16 where they fit and
    float32 otherwise, float64 float32.

    Parameters
    ----------
    path
        The file, named .mrc, .map, .rec, .mrcs or .st, with .gz or without.
    array
        [z, y, x], finite.
    voxel_size
        Å, a scalar or (z, y, x).
    origin
        Å, (z, y, x).
    overwrite
        Replace a file that is there.

    Raises
    ------
    FileExistsError
        If the file is there and `overwrite` is not set.
    FileNotFoundError
        If the folder is not there.
    ValueError
        If the name, the array, the voxel size or the origin cannot be written.
    """
    path = Path(path)
    if not has_mrc_suffix(path):
        raise ValueError(f"{path}: unknown suffix, expected one of {' '.join(SUFFIXES)}, with .gz or without")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: file exists, pass overwrite=True to replace it")
    data = _storable(np.asarray(array), path)
    spacing = voxel_size_zyx(voxel_size)
    start = tuple(float(v) for v in origin)
    if len(start) != 3 or not all(map(math.isfinite, start)):
        raise ValueError(f"origin must be three finite numbers (z, y, x) in Å, got {origin}")

    compression = "gzip" if path.suffix.lower() == ".gz" else None
    with (
        replacing(path) as temporary,
        np.errstate(all="ignore"),
        mrcfile.new(temporary, compression=compression) as mrc,
    ):
        mrc.set_data(data)
        mrc.voxel_size = spacing[::-1]
        mrc.header.origin = start[::-1]
        mrc.header.label[0] = b"written by monai_cryo"  # mrcfile's own holds the time: same volume, same bytes


def header_layout(header: Any, ndim: int) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, int, int]]:
    """Shape and dtype of the data block, and the transposition that makes it [z, y, x]."""
    shape, dtype = data_shape_from_header(header), data_dtype_from_header(header)
    if len(shape) != ndim or min(shape) < 1:
        raise ValueError(f"holds data of shape {shape}, expected {ndim} dimensions, none empty")
    if dtype.kind == "c":
        raise ValueError("holds complex numbers (mode 4), expected a real-valued map")
    extra = header.extra2.tobytes()
    stamp, flags = np.frombuffer(extra[40:48], dtype=header.nx.dtype)
    if dtype == np.int8 and stamp == _IMOD_STAMP and not flags & 1:
        dtype = np.dtype(np.uint8)
    axes = (int(header.maps), int(header.mapr), int(header.mapc))
    if axes == (0, 0, 0):
        axes = (3, 2, 1)
    angles = tuple(float(header.cellb[name]) for name in ("alpha", "beta", "gamma"))
    if sorted(axes) != [1, 2, 3] or (ndim != 3 and axes != (3, 2, 1)):
        raise ValueError(f"axis order mapc, mapr, maps is {axes[::-1]}, expected a permutation of (1, 2, 3)")
    if angles != (0.0, 0.0, 0.0) and not np.allclose(angles, 90.0, atol=0.01):
        raise ValueError(f"cell angles are {angles}, expected an orthogonal cell (90, 90, 90)")
    return shape, dtype, (axes.index(3), axes.index(2), axes.index(1))


def _data_block(
    path: Path, opener: Callable[..., Any], offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    expected = math.prod(shape) * dtype.itemsize
    # a plain file too short for its header is refused before memory is taken for what the header claims
    found = path.stat().st_size - offset if opener is open else expected
    if found >= expected:
        array = np.empty(shape, dtype)
        with opener(path, "rb") as stream:
            stream.seek(offset)
            found = stream.readinto(array.reshape(-1).view(np.uint8))
            if stream.read(1):
                logger.warning("%s: longer than its header says, the rest is left unread", path)
    if found < expected:
        raise ValueError(f"truncated, holds {max(found, 0)} of the {expected} data bytes of shape {shape} {dtype.name}")
    return array.astype(dtype.newbyteorder("="), copy=False)


def header_voxel_size(header: Any) -> Triple | None:
    """Voxel size of a header, Å as (z, y, x): the shortest decimals of its float32; None for 0 and nonsense."""
    sizes = []
    for axis in "zyx":
        cell, intervals = np.float32(header.cella[axis]), int(header[f"m{axis}"])
        value = float(cell) / intervals if intervals else 0.0
        if not (math.isfinite(value) and value > 0):
            return None
        digits = (float(f"{value:.{n}g}") for n in range(1, 10))
        sizes.append(next((d for d in digits if np.float32(d * intervals) == cell), value))
    return sizes[0], sizes[1], sizes[2]


def header_origin(path: Path, header: Any, voxel_size: Triple | None, order: tuple[int, ...]) -> Triple:
    """Origin of a header, Å as (z, y, x); the grid's start where the origin is 0."""
    z, y, x = (float(str(np.float32(header.origin[axis]))) for axis in "zyx")
    if not all(map(math.isfinite, (z, y, x))):
        logger.warning("%s: the header's origin %s is not finite, taken as 0", path, (z, y, x))
        return 0.0, 0.0, 0.0
    starts = [int(header[name]) for name in ("nzstart", "nystart", "nxstart")]  # sections, rows, columns
    if (z, y, x) == (0.0, 0.0, 0.0) and voxel_size is not None:
        z, y, x = (float(starts[axis] * size) for axis, size in zip(order, voxel_size, strict=True))
    return z, y, x


def _storable(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"{path}: expected a volume (z, y, x), none of them empty, got shape {array.shape}")
    kind, dtype = array.dtype.kind, array.dtype
    if kind == "b":
        dtype = np.dtype(np.int8)
    elif kind in "iu" and dtype not in (np.int8, np.int16, np.uint16):
        fits = array.min() >= -32768 and array.max() <= 32767
        dtype = np.dtype(np.int16 if fits else np.float32)
    elif kind == "f" and dtype.itemsize > 4:
        dtype = np.dtype(np.float32)
    elif kind not in "iuf":
        raise ValueError(f"{path}: dtype {dtype.name} cannot be stored in MRC, expected bool, integers or floats")
    with np.errstate(over="ignore"):
        data = array.astype(dtype.newbyteorder("="), copy=False)
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        bad = np.count_nonzero(~np.isfinite(data))
        raise ValueError(f"{path}: {bad} of {data.size} values are NaN or infinite as {data.dtype.name}, not written")
    return data


def has_mrc_suffix(path: Path) -> bool:
    """Return whether a file is named as one of the MRC family, with .gz or without."""
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)
