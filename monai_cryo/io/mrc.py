"""MRC volumes for MONAI: `MRCReader` for LoadImage, `MRCWriter` for SaveImage, and the two functions beneath them.

Arrays stay [z, y, x] as the file holds them. Voxel size and origin travel in the affine, which maps the index
(z, y, x) to the physical (x, y, z) in Å.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import math
import os
import uuid
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mrcfile
import numpy as np
import torch
from monai.data import ImageReader, ImageWriter
from monai.utils import MetaKeys, SpaceKeys, convert_to_numpy, ensure_tuple
from mrcfile.utils import data_dtype_from_header, data_shape_from_header
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["MRCReader", "MRCWriter", "read_mrc", "write_mrc"]

logger = logging.getLogger(__name__)

Triple = tuple[float, float, float]

SUFFIXES = (".mrc", ".map", ".rec", ".mrcs", ".st")
_EXPECTED = "expected an MRC2014 file (.mrc .map .rec .mrcs .st, plain or .gz)"
_OPENERS: dict[str, Callable[..., Any]] = {"GzipMrcFile": gzip.open, "Bzip2MrcFile": bz2.open}
_IMOD_STAMP = 1146047817


def read_mrc(
    path: str | os.PathLike[str],
    *,
    voxel_size: float | Sequence[float] | None = None,
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
            shape, dtype, order = _layout(header, ndim)
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

    found = _voxel_size(header)
    used = found if voxel_size is None else _triple(voxel_size, "voxel_size")
    if voxel_size is None and found is None:
        warnings.warn(f"{path}: the header holds no voxel size, pass voxel_size in Å", stacklevel=2)
    elif voxel_size is None and found == (1.0, 1.0, 1.0):
        warnings.warn(f"{path}: voxel size 1.0 Å often means unknown, pass voxel_size in Å", stacklevel=2)
    return array, used, _origin(path, header, used, order)


def write_mrc(
    path: str | os.PathLike[str],
    array: ArrayLike,
    voxel_size: float | Sequence[float],
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
    if not _has_mrc_suffix(path):
        raise ValueError(f"{path}: unknown suffix, expected one of {' '.join(SUFFIXES)}, with .gz or without")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: no such folder {path.parent}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: file exists, pass overwrite=True to replace it")
    data = _storable(np.asarray(array), path)
    spacing = _triple(voxel_size, "voxel_size")
    start = tuple(float(v) for v in origin)
    if len(start) != 3 or not all(map(math.isfinite, start)):
        raise ValueError(f"origin must be three finite numbers (z, y, x) in Å, got {origin}")

    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        compression = "gzip" if path.suffix.lower() == ".gz" else None
        with np.errstate(all="ignore"), mrcfile.new(temporary, compression=compression) as mrc:
            mrc.set_data(data)
            mrc.voxel_size = spacing[::-1]
            mrc.header.origin = start[::-1]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class _Volume:
    """What `MRCReader.read` hands to `MRCReader.get_data`."""

    array: NDArray[Any]
    voxel_size: Triple
    origin: Triple


class MRCReader(ImageReader):
    """Read MRC volumes in MONAI: ``LoadImage(reader="monai_cryo.data.MRCReader")``, or the class, or an instance.

    The array is [z, y, x] without a channel; several files are stacked as channels. The affine maps the index
    (z, y, x) to the physical (x, y, z) in Å, so ``pixdim`` is the voxel size as (z, y, x).

    Parameters
    ----------
    voxel_size
        Å, a scalar or (z, y, x): overrides the header. Without it a header that holds none counts as 1 Å, with a
        warning.
    allow_nonfinite
        Let NaN and infinity pass.
    """

    def __init__(self, voxel_size: float | Sequence[float] | None = None, allow_nonfinite: bool = False) -> None:
        super().__init__()
        self.voxel_size = None if voxel_size is None else _triple(voxel_size, "voxel_size")
        self.allow_nonfinite = allow_nonfinite

    def verify_suffix(self, filename: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> bool:
        """Return whether every name ends in a suffix of the MRC family."""
        return all(_has_mrc_suffix(Path(name)) for name in ensure_tuple(filename))

    def read(self, data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **kwargs: Any) -> Any:
        """Read one file or several; `kwargs` go to `read_mrc`."""
        options = {"voxel_size": self.voxel_size, "allow_nonfinite": self.allow_nonfinite} | kwargs
        volumes = []
        for name in ensure_tuple(data):
            array, spacing, origin = read_mrc(name, **options)
            volumes.append(_Volume(array, spacing or (1.0, 1.0, 1.0), origin))
        return volumes if len(volumes) > 1 else volumes[0]

    def get_data(self, img: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the array and MONAI's metadata of what `read` returned."""
        volumes = ensure_tuple(img)
        grids = {(volume.array.shape, volume.voxel_size, volume.origin) for volume in volumes}
        if len(grids) > 1:
            raise ValueError(f"files stacked as channels must share shape, voxel size and origin, got {sorted(grids)}")
        shape, voxel_size, origin = grids.pop()
        affine = _affine(voxel_size, origin)
        single = len(volumes) == 1
        meta = {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if single else 0,
        }
        return volumes[0].array if single else np.stack([volume.array for volume in volumes]), meta


class MRCWriter(ImageWriter):
    """Write MRC volumes in MONAI: ``SaveImage(writer="monai_cryo.data.MRCWriter", output_ext=".mrc")``.

    The array is written in the order it has, never transposed or flipped; voxel size and origin come from the affine.
    The format knows no directions: an affine that is not one of `MRCReader`'s keeps its voxel size only, with a
    warning.

    Parameters
    ----------
    output_dtype
        Cast to this before writing; None keeps the dtype of the data. `write_mrc` says what a file can hold.
    kwargs
        For `monai.data.ImageWriter`; `scale` must be None.
    """

    output_dtype: DTypeLike | None
    affine: NDArray[np.float64]

    def __init__(self, output_dtype: DTypeLike | None = np.float32, **kwargs: Any) -> None:
        if kwargs.get("scale") is not None:
            raise ValueError(f"scale must be None for MRC, got {kwargs['scale']}")
        super().__init__(output_dtype=output_dtype, affine=np.eye(4), **kwargs)

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """Take the data: (1, D, H, W), or (D, H, W) with `channel_dim` None."""
        shape = tuple(data_array.shape)
        if len(shape) != (3 if channel_dim is None else 4) or (channel_dim is not None and shape[channel_dim] != 1):
            expected = "(D, H, W)" if channel_dim is None else f"one channel at axis {channel_dim} and (D, H, W)"
            raise ValueError(f"an MRC file holds one volume: expected {expected}, got shape {shape}")
        self.data_obj = data_array if channel_dim is None else data_array.squeeze(channel_dim)

    def set_metadata(self, meta_dict: Mapping[str, Any] | None, resample: bool = False, **options: Any) -> None:
        """Take the affine; with `resample`, put the data back on the grid of ``original_affine`` first."""
        original_affine, affine, spatial_shape = self.get_meta_info(meta_dict)
        if affine is None:
            warnings.warn("no affine in the metadata, the voxel size is written as 1 Å", stacklevel=2)
            affine = _affine((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
        elif resample:
            self.data_obj, affine = self.resample_if_needed(
                data_array=self.data_obj,
                affine=affine,
                target_affine=original_affine,
                output_spatial_shape=spatial_shape,
                **options,
            )
        self.affine = convert_to_numpy(affine, dtype=np.float64)

    def write(self, filename: str | os.PathLike[str], verbose: bool = False, **kwargs: Any) -> None:
        """Write the file, in place of one that is there."""
        super().write(filename, verbose=verbose)
        data = self.data_obj
        if isinstance(data, torch.Tensor) and data.dtype == torch.bfloat16:  # numpy has no such type
            data = data.float()
        spacing, origin = _grid(self.affine)
        write_mrc(filename, convert_to_numpy(data, dtype=self.output_dtype), spacing, origin, overwrite=True)


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


def _voxel_size(header: Any) -> Triple | None:
    sizes = []
    for axis in "zyx":
        cell, intervals = np.float32(header.cella[axis]), int(header[f"m{axis}"])
        value = float(cell) / intervals if intervals else 0.0
        if not (math.isfinite(value) and value > 0):
            return None
        digits = (float(f"{value:.{n}g}") for n in range(1, 10))
        sizes.append(next((d for d in digits if np.float32(d * intervals) == cell), value))
    return sizes[0], sizes[1], sizes[2]


def _origin(path: Path, header: Any, voxel_size: Triple | None, order: tuple[int, ...]) -> Triple:
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


def _affine(voxel_size: Triple, origin: Triple) -> NDArray[np.float64]:
    """Return the 4x4 affine from the index (z, y, x) to the physical (x, y, z) in Å."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(voxel_size)[::-1]
    affine[:3, 3] = origin[::-1]
    return affine


def _grid(affine: NDArray[np.float64]) -> tuple[Triple, Triple]:
    """Voxel size and origin (z, y, x) of an affine: the inverse of `_affine`."""
    matrix, origin = affine[2::-1, :3], affine[2::-1, 3]
    spacing = np.diag(matrix)
    if (spacing <= 0).any() or not np.allclose(matrix, np.diag(spacing), atol=1e-4 * spacing.max()):
        spacing, origin = np.linalg.norm(matrix, axis=0), np.zeros(3)
        warnings.warn(
            f"MRC cannot hold the directions of affine {affine.tolist()}: the array is written as it is, with voxel "
            f"size (z, y, x) {spacing.tolist()} Å and origin 0",
            stacklevel=3,
        )
    return cast(Triple, tuple(map(float, spacing))), cast(Triple, tuple(map(float, origin)))


def _has_mrc_suffix(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def _triple(value: float | Sequence[float], name: str) -> Triple:
    items = np.broadcast_to(np.asarray(value, dtype=float), 3) if np.size(value) in (1, 3) else np.zeros(3)
    if not (np.isfinite(items).all() and (items > 0).all()):
        raise ValueError(f"{name} must be > 0 Å, one number or (z, y, x), got {value}")
    return cast(Triple, tuple(map(float, items)))
