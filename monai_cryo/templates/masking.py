"""Where a particle ends: threshold rules, bodies, and the box around them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from monai_cryo.physics.resampling import crop_or_pad

__all__ = [
    "CUBIC_A_PER_DALTON",
    "THRESHOLD_RULES",
    "centre_of_mass",
    "check_fit",
    "cut",
    "parse_rule",
    "threshold_level",
    "to_box",
]

CUBIC_A_PER_DALTON = 1.21
"""Volume of protein, Å³ per Da (0.83 Da/Å³, 1.37 g/cm³)."""

THRESHOLD_RULES = ("fraction:<of the maximum>", "mass:<kDa>", "level:<in the map's own units>", "otsu")

Array = NDArray[np.float32]


def threshold_level(density: Array, rule: str, voxel_size: float) -> float:
    """Return the density at which a rule cuts the mask.

    Parameters
    ----------
    density
        (D, H, W), background 0.
    rule
        One of `THRESHOLD_RULES`; Otsu's threshold is that of the voxels above 1 % of the maximum.
    voxel_size
        Å.

    Returns
    -------
    float
        Level in the units of `density`.

    Raises
    ------
    ValueError
        If the rule is unknown or its number out of range.

    References
    ----------
    Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9 (1979) 62-66.
    Volume from mass: Harpaz, Gerstein and Chothia, Structure 2 (1994) 641-649.
    """
    name, number = parse_rule(rule)
    maximum = float(density.max())
    if name == "fraction":
        return number * maximum
    if name == "level":
        return number
    if name == "mass":
        count = round(number * 1000.0 * CUBIC_A_PER_DALTON / voxel_size**3)
        if not 1 <= count <= int((density > 0).sum()):
            raise ValueError(
                f"threshold {rule!r} is {count} voxels of {voxel_size:g} Å; the map has {int((density > 0).sum())}"
            )
        return float(np.partition(density, density.size - count, axis=None)[density.size - count])
    values = density[density > 0.01 * maximum]
    if values.size and values.min() == maximum:  # the map is a mask already
        return maximum
    counts, edges = np.histogram(values, bins=256)
    middles = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)[:-1]
    sums = np.cumsum(counts * middles)
    mean_below = sums[:-1] / below
    mean_above = (sums[-1] - sums[:-1]) / np.maximum(values.size - below, 1)
    return float(edges[1 + np.argmax(below * (values.size - below) * (mean_above - mean_below) ** 2)])


def parse_rule(rule: str) -> tuple[str, float]:
    """Split a threshold rule into its name and number, or say what is expected."""
    name, _, text = str(rule).partition(":")
    if name == "otsu" and not text:
        return name, 0.0
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if name in ("fraction", "mass", "level") and np.isfinite(number):
        if (name == "fraction" and 0 < number < 1) or (name == "mass" and number > 0) or name == "level":
            return name, number
        wanted = "between 0 and 1" if name == "fraction" else "> 0"
        raise ValueError(f"threshold {rule!r}: the number must be {wanted}")
    raise ValueError(f"threshold must be one of {', '.join(THRESHOLD_RULES)}; got {rule!r}")


def cut(density: Array, rule: str, voxel_size: float, path: Path | None) -> tuple[Array, NDArray[np.bool_], float]:
    """Threshold a density, drop what is not the particle, and warn (when named by `path`) about several bodies."""
    level = threshold_level(density, rule, voxel_size)
    mask = density >= level
    inside = int(mask.sum())
    if level <= 0 or inside in (0, density.size):
        raise ValueError(
            f"{path}: the threshold, {level:g} above the background, puts {inside} of {density.size} voxels inside; "
            f"the maximum is {density.max():g}"
        )
    if path is not None and len(bodies := _large(density >= 1.25 * level, faces_only=True)[1]) > 1:
        # a little above the level, where what merely touches is apart
        sizes = ", ".join(map(str, bodies[:3])) + (", ..." if len(bodies) > 3 else "")
        warnings.warn(f"{path}: {len(bodies)} separate bodies of {sizes} voxels; is it one particle?", stacklevel=3)
    mask = _large(mask, faces_only=False)[0]
    near = ndimage.binary_dilation(mask, iterations=2)
    return np.where(near, density, 0).clip(min=0).astype(np.float32), mask, level


def _large(mask: NDArray[np.bool_], *, faces_only: bool) -> tuple[NDArray[np.bool_], list[int]]:
    """Keep the connected bodies of at least a tenth of the largest; also return their sizes, the largest first."""
    labels, _ = ndimage.label(mask, ndimage.generate_binary_structure(3, 1 if faces_only else 3))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = (sizes >= 0.1 * sizes.max()) & (sizes > 0)
    return keep[labels], sorted(sizes[keep].tolist(), reverse=True)


def centre_of_mass(density: Array, mask: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Voxel at the centre of the mass within a mask."""
    return np.rint(ndimage.center_of_mass(density * mask)).astype(int)


def to_box(
    density: Array, mask: NDArray[np.bool_], centre: NDArray[np.int_], shape: Sequence[int] | None, path: Path | str
) -> tuple[Tensor, Tensor]:
    """Put voxel `centre` on ``N // 2`` of the box, which None makes the smallest odd one with a margin of one zero."""
    reach = np.abs(np.argwhere(density > 0) - centre).max(axis=0)
    box = [int(2 * r + 3) for r in reach] if shape is None else [int(n) for n in shape]
    if shape is not None:
        check_fit(mask, centre, box, path)
    middle = centre.tolist()
    return crop_or_pad(torch.from_numpy(density), box, middle), crop_or_pad(torch.from_numpy(mask), box, middle)


def check_fit(mask: NDArray[np.bool_], centre: NDArray[np.int_], box: Sequence[int], path: Path | str) -> None:
    """Raise if the particle is larger than the box, warn if only some of its rotations fit."""
    where = np.argwhere(mask) - centre
    low, high = np.array(box) // 2, (np.array(box) - 1) // 2
    if (where < -low).any() or (where > high).any():
        needed = int(2 * np.abs(where).max() + 1)
        raise ValueError(f"{path}: the particle needs a box of {needed} voxels around its centre, got {list(box)}")
    radius = float(np.sqrt((where**2).sum(axis=1).max()))
    if len(set(box)) == 1 and radius > high[0] + 0.5:
        warnings.warn(
            f"{path}: the particle reaches {radius:.1f} voxels from its centre; rotated, the box of {box[0]} cuts it",
            stacklevel=3,
        )
