"""Images that are in memory, as if they had been loaded from a file."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor
from monai.utils import MetaKeys
from numpy.typing import NDArray
from torch import Tensor

from monai_cryo.io.monai_mrc import mrc_affine

__all__ = ["image_in_memory"]


def image_in_memory(volume: Tensor | NDArray[np.float32], voxel_size: float, name: str) -> MetaTensor:
    """Return a volume (D, H, W) as `MRCReader` would have read it from a file of this name and voxel size (Å)."""
    affine = mrc_affine((voxel_size,) * 3)
    meta = {
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(volume.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
        "filename_or_obj": name,
    }
    image: MetaTensor = MetaTensor.ensure_torch_and_prune_meta(volume, meta)
    return image
