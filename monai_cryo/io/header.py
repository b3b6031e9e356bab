"""The header of an MRC file: read alone, with all it claims checked before memory is taken for any of it."""

from __future__ import annotations

import bz2
import gzip
import logging
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import byte_order_from_machine_stamp, data_dtype_from_header, data_shape_from_header

__all__ = [
    "EXPECTED",
    "VOXEL_SIZES_A",
    "MRCHeader",
    "Triple",
    "check_packed",
    "check_voxel_size",
    "read_header",
    "truncated",
]

logger = logging.getLogger(__name__)

Triple = tuple[float, float, float]

VOXEL_SIZES_A = (0.2, 100.0)
"""Å; a header's voxel size outside is not believed: X-ray maps are sampled at 0.3, binned tomograms at 30."""

EXPECTED = "expected an MRC2014 file (.mrc .map .rec .mrcs .st, plain or .gz)"
_HEADER = HEADER_DTYPE.itemsize
#: share by which the axes' voxel sizes may differ, by rounding
_ANISOTROPY = 0.01
_IMOD_STAMP = 1146047817
# What a packed file may hold: masks shrink by hundreds, but a thousandfold is a trap or nothing but zeros.
_SMALL = 64 << 20
_RATIO = 200


@dataclass(frozen=True, eq=False)
class MRCHeader:
    """What a header says.

    Attributes
    ----------
    shape, dtype
        Of the data block.
    order
        The transposition that makes it [z, y, x].
    offset
        Bytes before the data block.
    voxel_size
        Å as (z, y, x), the shortest decimals of the header's float32; None where it holds 0.
    opener
        What opens the file, unpacked.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, int, int]
    offset: int
    voxel_size: Triple | None
    opener: Callable[..., Any]
    _origin: Triple
    _starts: tuple[int, int, int]

    @property
    def plain(self) -> bool:
        """Whether the file is not compressed."""
        return self.opener is open

    @property
    def bytes(self) -> int:
        """Size of the data block."""
        return math.prod(self.shape) * self.dtype.itemsize

    def cubic_voxel_size(self) -> float:
        """Voxel size, Å.

        Raises
        ------
        ValueError
            If it is not known (0, or 1 Å, which many programs write for "unknown"), or the voxels are no cubes (to a
            hundredth).
        """
        sizes = self.voxel_size
        if sizes is None or sizes == (1.0, 1.0, 1.0):
            raise ValueError(
                f"{self.path}: the header's voxel size is {0 if sizes is None else 1} Å, pass the true one in Å "
                "(--apix, or file_voxel_size)"
            )
        if max(sizes) - min(sizes) > _ANISOTROPY * max(sizes):
            raise ValueError(
                f"{self.path}: expected cubic voxels, found {sizes} Å (z, y, x); pass the true size in Å "
                "(--apix, or file_voxel_size)"
            )
        return sizes[2]

    def origin(self, voxel_size: Triple | None) -> Triple:
        """Origin, Å as (z, y, x); the grid's start where the origin is 0."""
        z, y, x = self._origin
        if not all(map(math.isfinite, (z, y, x))):
            logger.warning("%s: the header's origin %s is not finite, taken as 0", self.path, (z, y, x))
            return 0.0, 0.0, 0.0
        if (z, y, x) == (0.0, 0.0, 0.0) and voxel_size is not None:
            z, y, x = (float(self._starts[axis] * size) for axis, size in zip(self.order, voxel_size, strict=True))
        return z, y, x


def read_header(path: Path, ndim: int, *, believed: bool = True) -> MRCHeader:
    """Read and check a header; the extended header and the data block are only measured.

    Parameters
    ----------
    path
        The file, plain, gzipped or bzipped, whatever its suffix.
    ndim
        Dimensions the data must have.
    believed
        The header's voxel size is used: refuse one that cannot be.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one line, if it is no whole MRC file of `ndim` dimensions, or its voxel size is outside `VOXEL_SIZES_A`.
    """
    if not path.is_file():
        if path.exists():
            raise ValueError(f"{path}: a {'directory' if path.is_dir() else 'device'}, {EXPECTED}")
        raise FileNotFoundError(f"{path}: no such file, {EXPECTED}")
    try:
        header = _parse(path, ndim)
    except PermissionError:
        raise
    except (ValueError, OSError, EOFError, zlib.error, ZeroDivisionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: {reason}; {EXPECTED}") from error
    low, high = VOXEL_SIZES_A
    if believed and header.voxel_size is not None and not all(low <= v <= high for v in header.voxel_size):
        sizes = ", ".join(f"{v:g}" for v in header.voxel_size)
        raise ValueError(
            f"{path}: the header's voxel size (z, y, x) is {sizes} Å, expected {low:g} to {high:g} Å: "
            "pass the true one in Å (--apix, or file_voxel_size)"
        )
    return header


def check_voxel_size(voxel_size: float) -> None:
    """Refuse a voxel size in Å, given in place of a header's, that no tomogram has: nm or pm, or a slip.

    Raises
    ------
    ValueError
        If it is outside `VOXEL_SIZES_A`.
    """
    low, high = VOXEL_SIZES_A
    if not low <= voxel_size <= high:
        raise ValueError(f"a voxel size of {voxel_size:g} Å was given, expected {low:g} to {high:g} Å")


def check_packed(path: Path, unpacked: int) -> None:
    """Refuse a compressed file that holds, or claims to, `unpacked` bytes: far more than its own size explains."""
    packed = path.stat().st_size
    if unpacked > max(_SMALL, _RATIO * packed):
        raise ValueError(
            f"would unpack from {packed} to {unpacked} bytes, expected at most {_RATIO} times the file or "
            f"{_SMALL >> 20} MiB: unpack it first if it is right"
        )


def _parse(path: Path, ndim: int) -> MRCHeader:
    with path.open("rb") as stream:
        start = stream.read(_HEADER)
    opener: Callable[..., Any] = open
    if start[208:212] != b"MAP ":  # a size that looks like a packer's mark stands in a plain file too
        packers: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}
        opener = packers.get(start[:2], open)
    if opener is not open:
        with opener(path, "rb") as stream:
            start = stream.read(_HEADER)
    if len(start) < _HEADER:
        raise ValueError(f"too short for a header, holds {len(start)} of {_HEADER} bytes")
    header = np.frombuffer(start, HEADER_DTYPE).reshape(()).view(np.recarray)
    if bytes(header.map)[:3] != b"MAP":
        raise ValueError("no Map ID in the header")
    header = header.view(header.dtype.newbyteorder(byte_order_from_machine_stamp(header.machst)))
    shape, dtype, order = _layout(header, ndim)
    extended = int(header.nsymbt)
    if extended < 0:
        raise ValueError(f"the extended header's size is negative, {extended} bytes")
    origin = [float(str(np.float32(header.origin[axis]))) for axis in "zyx"]
    starts = [int(header[name]) for name in ("nzstart", "nystart", "nxstart")]  # sections, rows, columns
    found = MRCHeader(
        path,
        shape,
        dtype,
        order,
        _HEADER + extended,
        _voxel_size(header),
        opener,
        (origin[0], origin[1], origin[2]),
        (starts[0], starts[1], starts[2]),
    )
    if not found.plain:
        check_packed(path, found.offset + found.bytes)
    elif (size := path.stat().st_size - found.offset) < found.bytes:
        raise truncated(found, size)
    return found


def truncated(header: MRCHeader, found: int) -> ValueError:
    """Return what says that a data block is shorter than its header claims."""
    what = f"shape {header.shape} {header.dtype.name}"
    return ValueError(f"truncated, holds {max(found, 0)} of the {header.bytes} data bytes of {what}")


def _layout(header: Any, ndim: int) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, int, int]]:
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


def _voxel_size(header: Any) -> Triple | None:
    sizes = []
    for axis in "zyx":
        cell, intervals = np.float32(header.cella[axis]), int(header[f"m{axis}"])
        value = float(cell) / intervals if intervals else 0.0
        if value == 0:
            return None
        digits = (float(f"{value:.{n}g}") for n in range(1, 10))
        with np.errstate(over="ignore"):  # a cell near the largest float, rounded up
            sizes.append(next((d for d in digits if np.float32(d * intervals) == cell), value))
    return sizes[0], sizes[1], sizes[2]
