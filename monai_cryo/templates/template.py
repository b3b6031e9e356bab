"""A template: one structure's density and mask on the simulated grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from monai_cryo.physics.resampling import crop_or_pad
from monai_cryo.templates.masking import check_fit

__all__ = ["Template"]


@dataclass(frozen=True, eq=False)
class Template:
    """One structure's density, centred on voxel ``N // 2`` of a tight box.

    Attributes
    ----------
    name
        Structure, unique in a library.
    class_name
        Class the structure belongs to.
    density
        (d, h, w) float32, >= 0, with a mean of 1 inside the mask.
    mask
        (d, h, w) bool.
    voxel_size
        Å.
    """

    name: str
    class_name: str
    density: Tensor
    mask: Tensor
    voxel_size: float

    @classmethod
    def scaled(cls, name: str, class_name: str, density: Tensor, mask: Tensor, voxel_size: float) -> Template:
        """Make a template of a density of any scale."""
        mean = density[mask].double().mean()  # in float32 its last bit depends on the number of threads
        return cls(name, class_name, density / mean.to(density.dtype), mask, voxel_size)

    def padded(self, box: int) -> tuple[Tensor, Tensor]:
        """Return density and mask, each (box, box, box); raise or warn where the box is too small."""
        middle = np.array(self.mask.shape) // 2
        check_fit(self.mask.numpy(), middle, (box,) * 3, f"class {self.class_name!r}: {self.name}")
        return crop_or_pad(self.density, (box,) * 3), crop_or_pad(self.mask, (box,) * 3)
