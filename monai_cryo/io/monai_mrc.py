"""MRC volumes for MONAI: `MRCReader` for LoadImage, `MRCWriter` for SaveImage.

Arrays stay [z, y, x] as the file holds them. Voxel size and origin travel in the affine, which maps the index
(z, y, x) to the physical (x, y, z) in Å.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.data import ImageReader, ImageWriter
from monai.utils import MetaKeys, SpaceKeys, convert_to_numpy, ensure_tuple
from numpy.typing import DTypeLike, NDArray

from monai_cryo._described import Described
from monai_cryo.io.header import Triple
from monai_cryo.io.mrc import has_mrc_suffix, read_mrc, write_mrc
from monai_cryo.physics.fourier import VoxelSize, voxel_size_zyx

__all__ = ["MRCReader", "MRCWriter"]


@dataclass(frozen=True, eq=False)
class _Volume:
    """What `MRCReader.read` hands to `MRCReader.get_data`."""

    array: NDArray[Any]
    voxel_size: Triple
    origin: Triple


class MRCReader(Described, ImageReader):
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

    def __init__(self, voxel_size: VoxelSize | None = None, allow_nonfinite: bool = False) -> None:
        super().__init__()
        self.voxel_size = None if voxel_size is None else voxel_size_zyx(voxel_size)
        self.allow_nonfinite = allow_nonfinite

    def verify_suffix(self, filename: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> bool:
        """Return whether every name ends in a suffix of the MRC family."""
        return all(has_mrc_suffix(Path(name)) for name in ensure_tuple(filename))

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
        affine = mrc_affine(voxel_size, origin)
        single = len(volumes) == 1
        meta = {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if single else 0,
        }
        return volumes[0].array if single else np.stack([volume.array for volume in volumes]), meta


class MRCWriter(Described, ImageWriter):
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
            affine = mrc_affine((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
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


def mrc_affine(voxel_size: Triple, origin: Triple = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """Return the 4x4 affine from the index (z, y, x) to the physical (x, y, z) in Å."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(voxel_size)[::-1]
    affine[:3, 3] = origin[::-1]
    return affine


def _grid(affine: NDArray[np.float64]) -> tuple[Triple, Triple]:
    """Voxel size and origin (z, y, x) of an affine: the inverse of `mrc_affine`."""
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
