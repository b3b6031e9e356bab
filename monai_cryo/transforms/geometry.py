"""What a MetaTensor's affine says about an array: its voxel size, and which way its axes run."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.utils import MetaKeys

from monai_cryo._typing import Axis
from monai_cryo.physics.fourier import voxel_size_zyx

ZYX: tuple[Axis, Axis, Axis] = ("z", "y", "x")
#: entry of a MetaTensor's meta with the affine it had before a pose turned it
BEFORE_POSE = "affine_before_pose"


def array_voxel_size(img: NdarrayOrTensor) -> tuple[float, float, float] | None:
    """Voxel size in Å along the array's axes; None where there is no affine, or one that says 1 Å (unknown).

    A pose with a zoom makes the particle larger, not the grid: then it is the size before it.
    """
    if not isinstance(img, MetaTensor):
        return None
    affine = torch.as_tensor(img.meta.get(BEFORE_POSE, img.affine))
    size = voxel_size_zyx(torch.linalg.vector_norm(affine[:3, :3].double(), dim=0))
    # an affine that was rotated says 0.99999997; no cryo-EM voxel is that close to 1 Å by nature
    return None if np.allclose(size, 1.0, atol=1e-3) else size


def array_axes(img: NdarrayOrTensor) -> tuple[Axis, Axis, Axis]:
    """Directions of the array's axes: of a MetaTensor as its affine has them, else z, y, x as in MRC files.

    A pose turns the affine away from the axes; then the directions are those before it, or of the file
    (``original_affine``). An affine of 1 Å voxels carries nothing. Signs are not looked at: on a mirrored axis an
    uneven tilt range wants ``invert``.
    """
    if isinstance(img, MetaTensor) and array_voxel_size(img) is not None:
        for affine in (img.affine, img.meta.get(BEFORE_POSE), img.meta.get(MetaKeys.ORIGINAL_AFFINE)):
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
