"""Density maps of any voxel size, contrast and box as templates: low-pass, resample, centre, threshold."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from monai_cryo._typing import Contrast, parse_contrast
from monai_cryo.io.header import Triple
from monai_cryo.io.mrc import read_mrc
from monai_cryo.physics.fourier import voxel_size_zyx
from monai_cryo.physics.resampling import evaluate, low_pass, same_voxel_size
from monai_cryo.templates.masking import Array, centre_of_mass, cut, parse_rule, to_box

__all__ = ["density_from_map"]

_LARGEST = 1e30
_SMALL = 1 << 26  # voxels that may be taken whatever the map's own size


def density_from_map(
    path: str | os.PathLike[str],
    shape: Sequence[int] | None,
    voxel_size: float,
    *,
    threshold: str = "fraction:0.15",
    contrast: Contrast = "bright",
    resolution_a: float | None = None,
    source_voxel_size: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Read a density map and bring it to a box of the wanted voxel size, centred by mass on voxel ``N // 2``.

    The background (median of the six faces) is subtracted and a dark map negated. Unless the map already has the
    voxel size, it is low-passed (spherical, raised cosine from 3/4 of the cut-off to the cut-off: the Nyquist
    frequency of the coarser of the two grids) and evaluated at the new positions by trigonometric interpolation,
    which is exact for what the low-pass leaves; a map that has the voxel size is only moved by whole voxels. Bodies
    smaller than a tenth of the largest are dropped, and the density more than two voxels outside the mask is zero.

    Parameters
    ----------
    path
        MRC file (.mrc, .map, .rec, also gzipped).
    shape
        Box (D, H, W) in voxels of the result; None for the smallest odd box that holds the density.
    voxel_size
        Å; of the result, isotropic.
    threshold
        Rule that cuts the mask: ``"fraction:0.15"`` of the maximum, ``"mass:950"`` kDa at 1.21 Å³/Da,
        ``"level:0.03"`` in the map's own units (as EMDB's contour levels are), or ``"otsu"``.
    contrast
        ``"bright"`` if the particle is brighter than the background, ``"dark"`` if darker.
    resolution_a
        Å; low-pass cut-off when coarser than the Nyquist limit.
    source_voxel_size
        Å; overrides the file's header.

    Returns
    -------
    density
        (D, H, W) float32, >= 0.
    mask
        (D, H, W) bool, ``density >= level`` in the bodies kept.

    Raises
    ------
    ValueError
        If the file is not one finite three-dimensional density, the rule is unknown, or the particle exceeds the box.

    Warns
    -----
    UserWarning
        If the header has no voxel size (that of the result is then assumed) or 1.0 Å, if several bodies are found,
        or if the particle fits the box unrotated only.
    """
    path = Path(path)
    array, header, _ = read_mrc(path, voxel_size=source_voxel_size)
    density = np.asarray(array, dtype=np.float32)
    largest = float(np.abs(density).max())
    if largest > _LARGEST:
        raise ValueError(f"{path}: holds values of {largest:g}, expected at most {_LARGEST:g}, whose sums are numbers")
    if np.ptp(density) == 0:
        raise ValueError(f"{path}: constant map, every voxel is {density.flat[0]:g}")
    sign = 1.0 if parse_contrast(contrast, f"{path}: contrast") == "bright" else -1.0
    density = density * np.float32(sign)
    background = _background(density)
    density -= background

    if header is None:
        warnings.warn(f"{path}: taken as {voxel_size:g} Å; source_voxel_size sets the voxel size", stacklevel=2)
    target = voxel_size_zyx(voxel_size)
    source = header or target
    rule = _level_without_background(threshold, sign, background)
    if resolution_a is None and same_voxel_size(source, target):
        density, mask, _ = cut(density, rule, voxel_size, path)
        return to_box(density, mask, centre_of_mass(density, mask), shape, path)
    cut_off_a = max(2.0 * max(*source, *target), resolution_a or 0.0)
    _check_size(path, density.shape, source, target, cut_off_a)
    grid, spacing, _ = low_pass(torch.from_numpy(density), source, cut_off_a, outside="zero")
    step = [new / old for new, old in zip(target, spacing, strict=True)]
    middle = np.array(grid.shape) / 2
    whole = [2 * int(np.ceil(n / s / 2)) + 1 for n, s in zip(grid.shape, step, strict=True)]
    density, mask, level = cut(evaluate(grid, middle.tolist(), step, whole).numpy(), rule, voxel_size, path)
    # once more, with the centre of mass on a voxel's centre
    middle = middle + (np.array(ndimage.center_of_mass(density * mask)) - np.array(whole) // 2) * np.array(step)
    density, mask, _ = cut(evaluate(grid, middle.tolist(), step, whole).numpy(), f"level:{level!r}", voxel_size, None)
    return to_box(density, mask, np.array(whole) // 2, shape, path)


def _check_size(path: Path, shape: Sequence[int], source: Triple, target: Triple, cut_off_a: float) -> None:
    """Refuse to resample where the grids on the way would take memory out of all proportion to the map."""
    around = math.prod(n + 2 * cut_off_a / v for n, v in zip(shape, source, strict=True))
    result = math.prod((n * v + 2 * cut_off_a) / w for n, v, w in zip(shape, source, target, strict=True))
    if max(around, result) > max(8 * math.prod(shape), _SMALL):
        sizes, old, new = (" x ".join(f"{v:g}" for v in t) for t in (shape, source, target))
        raise ValueError(
            f"{path}: {sizes} voxels of {old} Å would take {max(around, result):.3g} voxels on the way to {new} Å, "
            f"low-passed at {cut_off_a:g} Å: is its voxel size right?"
        )


def _background(density: Array) -> np.float32:
    faces = [density.take(i, axis).ravel() for axis in range(3) for i in (0, -1)]
    return np.float32(np.median(np.concatenate(faces)))


def _level_without_background(rule: str, sign: float, background: np.float32) -> str:
    name, number = parse_rule(rule)
    return f"level:{sign * number - float(background)!r}" if name == "level" else rule
