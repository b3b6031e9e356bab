"""Density maps of any voxel size, contrast and box as templates: low-pass, resample, centre, threshold."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from torch import Tensor

from monai_cryo.io.mrc import read_mrc

__all__ = ["CUBIC_A_PER_DALTON", "THRESHOLD_RULES", "density_from_map", "threshold_level"]

CUBIC_A_PER_DALTON = 1.21
"""Volume of protein, Å³ per Da (0.81 Da/Å³, 1.35 g/cm³)."""

THRESHOLD_RULES = ("fraction:<of the maximum>", "mass:<kDa>", "level:<in the map's own units>", "otsu")

Array = NDArray[np.float32]


def density_from_map(
    path: str | os.PathLike[str],
    shape: Sequence[int] | None,
    voxel_size: float,
    *,
    threshold: str = "fraction:0.15",
    contrast: str = "bright",
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
    if np.ptp(density) == 0:
        raise ValueError(f"{path}: constant map, every voxel is {density.flat[0]:g}")
    if contrast not in ("bright", "dark"):
        raise ValueError(f"contrast must be 'bright' or 'dark', got {contrast!r}")
    sign = 1.0 if contrast == "bright" else -1.0
    density = density * np.float32(sign)
    background = _background(density)
    density -= background

    if header is None:
        warnings.warn(f"{path}: taken as {voxel_size:g} Å; source_voxel_size sets the voxel size", stacklevel=2)
    source = header or (voxel_size,) * 3
    rule = _level_without_background(threshold, sign, background)
    as_is = resolution_a is None and np.allclose(source, voxel_size, rtol=1e-3)
    if not as_is:
        grid, spacing = _low_pass(density, source, max(2.0 * max(*source, voxel_size), resolution_a or 0.0))
        step = voxel_size / spacing
        middle = np.array(grid.shape) / 2
        whole = [2 * int(np.ceil(n / s / 2)) + 1 for n, s in zip(grid.shape, step, strict=True)]
        density = _sample(grid, middle, whole, step)
    density, mask, level = cut(density, rule, voxel_size, path)
    centre = np.array(ndimage.center_of_mass(density * mask))
    if not as_is:
        middle = middle + (centre - np.array(whole) // 2) * step
        density = _sample(grid, middle, whole, step)
        density, mask, level = cut(density, f"level:{level!r}", voxel_size, None)
        centre = np.array(density.shape) // 2
    return to_box(density, mask, np.rint(centre).astype(int), shape, path)


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


def to_box(
    density: Array, mask: NDArray[np.bool_], centre: NDArray[np.int_], shape: Sequence[int] | None, path: Path
) -> tuple[Tensor, Tensor]:
    """Put voxel `centre` on ``N // 2`` of the box, which None makes the smallest odd one with a margin of one zero."""
    where = np.argwhere(density > 0) - centre
    reach = np.abs(where).max(axis=0)
    box = [int(2 * r + 3) for r in reach] if shape is None else [int(n) for n in shape]
    if shape is not None:
        check_fit(mask, centre, box, path)
    index = np.argwhere(mask | (density > 0))
    target = index - centre + np.array(box) // 2
    inside = ((target >= 0) & (target < np.array(box))).all(axis=1)
    source_index, target_index = tuple(index[inside].T), tuple(target[inside].T)
    out_density, out_mask = np.zeros(box, np.float32), np.zeros(box, bool)
    out_density[target_index] = density[source_index]
    out_mask[target_index] = mask[source_index]
    return torch.from_numpy(out_density), torch.from_numpy(out_mask)


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


def _background(density: Array) -> np.float32:
    faces = [density.take(i, axis).ravel() for axis in range(3) for i in (0, -1)]
    return np.float32(np.median(np.concatenate(faces)))


def _level_without_background(rule: str, sign: float, background: np.float32) -> str:
    name, number = parse_rule(rule)
    return f"level:{sign * number - float(background)!r}" if name == "level" else rule


def _low_pass(density: Array, voxel_size: Sequence[float], resolution_a: float) -> tuple[Array, NDArray[np.float64]]:
    """Return the map without what is finer than the resolution, on a grid as coarse as that allows, and its spacing.

    Voxel 0 of the new grid is voxel ``-pad`` of the old one, ``pad = ceil(resolution_a / voxel_size)``: zeros around
    the map keep the ringing of one face from reappearing at the opposite one.
    """
    pads = [int(np.ceil(resolution_a / v)) for v in voxel_size]
    sizes = [fft.next_fast_len(n + 2 * p, real=True) for n, p in zip(density.shape, pads, strict=True)]
    padded = np.pad(density, [(p, s - n - p) for n, p, s in zip(density.shape, pads, sizes, strict=True)])
    spectrum = fft.rfftn(padded)
    highest = [min(int(np.ceil(s * v / resolution_a)), (s - 1) // 2) for s, v in zip(sizes, voxel_size, strict=True)]
    for axis in (0, 1):
        kept = np.r_[0 : highest[axis] + 1, -highest[axis] : 0]
        spectrum = spectrum.take(kept, axis)
    spectrum = spectrum[..., : highest[2] + 1]
    coarse = [2 * h + 1 for h in highest]
    z, y, x = (np.fft.fftfreq(c, v * s / c) * resolution_a for c, v, s in zip(coarse, voxel_size, sizes, strict=True))
    frequency = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x[: highest[2] + 1] ** 2)
    gain = 0.5 + 0.5 * np.cos(np.pi * ((frequency - 0.75) / 0.25).clip(0, 1))
    gain *= np.prod(coarse) / np.prod(sizes)
    spacing = np.array(voxel_size) * np.array(sizes) / np.array(coarse)
    return fft.irfftn(spectrum * gain.astype(np.float32), s=coarse), spacing


def _sample(grid: Array, middle: NDArray[np.float64], shape: Sequence[int], step: NDArray[np.float64]) -> Array:
    """Evaluate a band-limited periodic grid at ``middle + step * (i - N // 2)`` along each axis; zero outside it."""
    out = grid
    for axis in range(3):
        n = grid.shape[axis]
        position = middle[axis] + step[axis] * (np.arange(shape[axis]) - shape[axis] // 2)
        # Dirichlet kernel: the grid is odd along every axis
        half_angle = np.pi / n * (position[:, None] - np.arange(n))
        below = np.sin(half_angle)
        on_grid = np.abs(below) < 1e-9
        kernel = np.where(on_grid, n, np.sin(n * half_angle) / np.where(on_grid, 1, below)) / n
        kernel[(position < 0) | (position > n - 1)] = 0
        out = np.moveaxis(np.tensordot(kernel.astype(np.float32), out, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(out)
