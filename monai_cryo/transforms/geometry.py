"""What a MetaTensor's affine says about an array: its voxel size, and which way its axes run."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.utils import MetaKeys, TraceKeys
from torch import Tensor

from monai_cryo._typing import Axis
from monai_cryo.physics.fourier import VoxelSize, voxel_size_zyx

ZYX: tuple[Axis, Axis, Axis] = ("z", "y", "x")
#: entry of a pose's record: the matrix (3, 3), in physical space, by which it turned and stretched the affine
TURN = "turn"
Size = TypeVar("Size")


def grid_affine(img: MetaTensor) -> Tensor:
    """Affine (4, 4) of the grid that an array is imaged on: its own, without what poses did to it.

    A pose moves the particle, and the affine with it; beam, tilt axis and voxels stay where they are.
    """
    affine: Tensor = img.affine.to("cpu", torch.float64).clone()
    for operation in reversed(img.applied_operations):
        turn = (operation.get(TraceKeys.EXTRA_INFO) or {}).get(TURN)
        if turn is not None:
            affine[:3, :3] = torch.linalg.solve(torch.tensor(turn, dtype=torch.float64), affine[:3, :3])
    return affine


def array_voxel_size(img: NdarrayOrTensor) -> tuple[float, float, float] | None:
    """Voxel size in Å along the array's axes; None where there is no affine, or one that says 1 Å (unknown)."""
    if not isinstance(img, MetaTensor):
        return None
    size = torch.linalg.vector_norm(grid_affine(img)[:3, :3], dim=0)
    # what was rotated and turned back is not quite what it was
    size = voxel_size_zyx([round(v, 6) for v in size.tolist()])
    # no cryo-EM voxel is that close to 1 Å by nature
    return None if np.allclose(size, 1.0, atol=1e-3) else size


def needed_voxel_size(transform: object, voxel_size: Size | None) -> Size:
    """Return what a transform was given as its voxel size, or its array says; refuse where neither is known."""
    if voxel_size is None:
        raise ValueError(
            f"{type(transform).__name__} needs the voxel size: pass voxel_size in Å, or a MetaTensor whose affine "
            "carries it"
        )
    return voxel_size


def one_voxel_size(transform: object, *given: VoxelSize | None) -> tuple[float, float, float] | None:
    """Return the voxel size that a transform and its members were given, None where none was; refuse several."""
    sizes = {voxel_size_zyx(size) for size in given if size is not None}
    if len(sizes) > 1:
        raise ValueError(f"{type(transform).__name__} found different voxel sizes in Å: {sorted(sizes)}")
    return next(iter(sizes), None)


def cubic_voxel_size(transform: object, voxel_size: VoxelSize) -> float:
    """Return the one size of cubic voxels in Å; refuse others."""
    sizes = voxel_size_zyx(voxel_size)
    if max(sizes) - min(sizes) > 1e-3 * max(sizes):
        raise ValueError(f"{type(transform).__name__} needs cubic voxels, got voxel_size {sizes} Å")
    return sizes[0]


def array_geometry(img: NdarrayOrTensor, voxel_size: VoxelSize | None = None) -> dict[str, Any]:
    """Return what imaging an array depends on: ``voxel_size`` (the given one, or its own) and ``axes``."""
    return {"voxel_size": voxel_size or array_voxel_size(img), "axes": array_axes(img)}


def batch_geometry(batch: Tensor, voxel_size: VoxelSize | None = None) -> dict[str, Any]:
    """Return `array_geometry` of the items of a collated batch of MetaTensors, nothing for a plain batch.

    Raises
    ------
    ValueError
        If it is another for other items: they cannot be imaged together.
    """
    if not isinstance(batch, MetaTensor):
        return {}
    first, *others = [array_geometry(item, voxel_size) for item in batch]
    for other in others:
        if other != first:
            raise ValueError(f"a batch must be of one voxel size and orientation, got {first} and {other}")
    return first


def array_axes(img: NdarrayOrTensor) -> tuple[Axis, Axis, Axis]:
    """Directions of the array's axes: of a MetaTensor as its affine has them, else z, y, x as in MRC files.

    They are those before any pose; where another transform turned the affine away from the axes, those of the file
    (``original_affine``). An affine of 1 Å voxels carries nothing. Signs are not looked at: on a mirrored axis an
    uneven tilt range wants ``invert``.
    """
    if isinstance(img, MetaTensor) and array_voxel_size(img) is not None:
        for affine in (grid_affine(img), img.meta.get(MetaKeys.ORIGINAL_AFFINE)):
            axes = None if affine is None else parallel_axes(affine)
            if axes is not None:
                return axes
    return ZYX


def parallel_axes(affine: NdarrayOrTensor) -> tuple[Axis, Axis, Axis] | None:
    """Physical axis along each array axis, or None where they are not parallel."""
    if affine.shape != (4, 4):
        return None
    matrix = np.abs(np.asarray(torch.as_tensor(affine), dtype=float)[:3, :3])
    matrix = matrix / np.linalg.norm(matrix, axis=0).clip(min=1e-12)
    largest = matrix.argmax(axis=0)
    if len(set(largest.tolist())) < 3 or matrix.max(axis=0).min() < 0.999:
        return None
    return cast("tuple[Axis, Axis, Axis]", tuple("xyz"[i] for i in largest))
