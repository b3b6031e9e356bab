"""MRC files in and out, as arrays [z, y, x] with voxel size and origin in Å."""

from __future__ import annotations

import logging
import math
import os
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cryo.io.atomic import replacing
from monai_cryo.io.header import EXPECTED, MRCHeader, Triple, check_packed, read_header, truncated
from monai_cryo.physics.fourier import VoxelSize, voxel_size_zyx

__all__ = [
    "SUFFIXES",
    "TOMOGRAM_SUFFIXES",
    "has_mrc_suffix",
    "may_be_tomogram",
    "read_mrc",
    "tomogram_name",
    "write_mrc",
]

logger = logging.getLogger(__name__)

SUFFIXES = (".mrc", ".map", ".rec", ".mrcs", ".st")
#: of tomograms: what is called .st or .mrcs is mostly a tilt series
TOMOGRAM_SUFFIXES = (".mrc", ".map", ".rec")
#: label in headers; mrcfile's own holds the time, and the same volume is to be the same bytes
SIGNATURE = b"written by monai_cryo"


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
        Å as (z, y, x), the shortest decimals that give the header's float32 again; None where it holds 0.
    origin
        Å as (z, y, x).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one line, if it is not a whole, real-valued, orthogonal MRC file of `ndim` dimensions and finite values, its
        header's voxel size is outside 0.2 to 100 Å and none is given, or a packed file unpacks more than 200-fold.

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
    header = read_header(path, ndim, believed=voxel_size is None)
    try:
        array = _data_block(header)
    except PermissionError:
        raise
    except (ValueError, OSError, EOFError, zlib.error, MemoryError, OverflowError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: {reason}; {EXPECTED}") from error
    if array.dtype.kind == "f" and not allow_nonfinite and not np.isfinite(array).all():
        bad = np.count_nonzero(~np.isfinite(array))
        raise ValueError(f"{path}: {bad} of {array.size} values are NaN or infinite, expected finite values")
    if header.order != (0, 1, 2):
        array = np.ascontiguousarray(array.transpose(header.order))

    used = header.voxel_size if voxel_size is None else voxel_size_zyx(voxel_size)
    if used is None:
        warnings.warn(f"{path}: the header holds no voxel size, pass voxel_size in Å", stacklevel=2)
    elif voxel_size is None and used == (1.0, 1.0, 1.0):
        warnings.warn(f"{path}: voxel size 1.0 Å often means unknown, pass voxel_size in Å", stacklevel=2)
    return array, used, header.origin(used)


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
        mrc.header.label[0] = SIGNATURE


def _data_block(header: MRCHeader) -> NDArray[Any]:
    array = np.empty(header.shape, header.dtype)
    with header.opener(header.path, "rb") as stream:
        stream.seek(header.offset)
        found = stream.readinto(array.reshape(-1).view(np.uint8))
        if extra := len(stream.read(1)):
            logger.warning("%s: longer than its header says, the rest is not used", header.path)
        if not header.plain:  # its end holds the check sum
            while chunk := stream.read(1 << 20):
                extra += len(chunk)
                check_packed(header.path, header.offset + header.bytes + extra)
    if found < header.bytes:
        raise truncated(header, found)
    return array.astype(header.dtype.newbyteorder("="), copy=False)


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


def may_be_tomogram(path: Path) -> bool:
    """Return whether a file of a folder is named as tomograms are; hidden ones are another program's."""
    name = path.name.lower()
    return not name.startswith(".") and name.removesuffix(".gz").endswith(TOMOGRAM_SUFFIXES)


def tomogram_name(path: Path) -> str:
    """Return a file's name without the suffixes of the MRC family."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return next((name[: -len(s)] for s in SUFFIXES if name.lower().endswith(s)), name)
