"""26S proteasomes: a map of the cap with half its core, completed with a whole core; one with caps at both ends.

The 19S cap is complete in PDB 4CR2, of the 20S core only one half is; 3J9I is a whole core, of D7 symmetry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

__all__ = ["Pose", "cap_both_ends", "complete", "find_half_core", "length_a"]

Array = NDArray[np.float32]
FOLD = 7


@dataclass(frozen=True)
class Pose:
    """Where the core sits in the cap's map.

    Attributes
    ----------
    axes
        (3, 3), rows: two axes across the core and the core's seven-fold axis, pointing to the cap, as (z, y, x).
    centre
        (z, y, x) in voxels of the cap's map: the centre of the whole core.
    correlation
        Normalised correlation of half the core with the cap's map, within the mask of the whole core.
    """

    axes: NDArray[np.float64]
    centre: NDArray[np.float64]
    correlation: float


def complete(cap: Array, core: Array) -> tuple[Array, Pose]:
    """Complete the cap's map with the missing half of the core.

    Parameters
    ----------
    cap
        (D, H, W), the cap with half a core, background 0.
    core
        (D, H, W), the whole core on the same voxel size, background 0.

    Returns
    -------
    density
        The cap's map, padded by 10 voxels, with the missing half of the core at the scale of the half present.
    pose
        The pose of the core in the padded map.
    """
    cap = np.pad(cap, 10)
    pose = find_half_core(cap, core)
    frame, middle = core_frame(core)
    along = _along(cap.shape, pose)
    placed = _place(core, frame, middle, pose, cap.shape)
    shared = (along > 1) & (placed > 0.2 * placed.max())
    scale = float((cap[shared] * placed[shared]).sum() / (placed[shared] ** 2).sum())
    missing = placed * scale * np.clip(0.5 - along, 0, 1)  # nothing of it above half a voxel beyond the equator
    return np.maximum(cap, missing).astype(np.float32), pose


def cap_both_ends(density: Array, pose: Pose) -> tuple[Array, float]:
    """Put the cap of a single-capped proteasome on its other end, too.

    Parameters
    ----------
    density, pose
        What :func:`complete` returned.

    Returns
    -------
    density
        Padded by 16 voxels more: half of it as it was, the other half the same about a two-fold axis of the core.
    correlation
        Of the core with itself, so turned.
    """
    density = np.pad(density, 16)
    pose = Pose(pose.axes, pose.centre + 16, pose.correlation)
    along = _along(density.shape, pose)
    core = abs(along) < 4  # voxels: of the core alone, no cap

    def turned(angle: float) -> Array:
        axis = np.cos(angle) * pose.axes[0] + np.sin(angle) * pose.axes[1]
        matrix = 2 * np.outer(axis, axis) - np.eye(3)
        return ndimage.affine_transform(density, matrix, pose.centre - matrix @ pose.centre, order=1)

    angles = np.linspace(0, np.pi / FOLD, 29)  # from one two-fold axis to the next at the most
    correlations = [float(np.corrcoef(density[core], turned(a)[core])[0, 1]) for a in angles]
    best = int(np.argmax(correlations))
    share = np.clip(0.5 + along / 2, 0, 1).astype(np.float32)
    return density * share + turned(angles[best]) * (1 - share), correlations[best]


def core_frame(core: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return axes (rows, the symmetry axis last) and centre of the core, from its moments of inertia."""
    where = np.argwhere(core > 0.2 * core.max())
    weight = core[tuple(where.T)].astype(np.float64)
    centre = (where * weight[:, None]).sum(0) / weight.sum()
    values, vectors = np.linalg.eigh(np.cov((where - centre).T, aweights=weight))
    # two of the moments are equal, the third is the axis'
    last = 0 if values[1] - values[0] > values[2] - values[1] else 2
    axis = vectors[:, last] * np.sign(vectors[np.abs(vectors[:, last]).argmax(), last])
    across = vectors[:, 1] * np.sign(vectors[np.abs(vectors[:, 1]).argmax(), 1])
    return np.stack([across, np.cross(axis, across), axis]), centre


def find_half_core(cap: Array, core: Array) -> Pose:
    """Find the half core by correlation: all directions on a coarse grid, then Powell's method from the two best."""
    frame, middle = core_frame(core)
    coarse_cap, coarse_core = _halve(cap), _halve(core)
    spectrum, squares = np.fft.rfftn(coarse_cap), np.fft.rfftn(coarse_cap**2)
    shape, at = coarse_cap.shape, np.array(coarse_cap.shape) // 2
    starts = []
    for axes in _directions(150):
        pose = Pose(axes, at.astype(float), 0.0)
        template, where = _half_core(coarse_core, frame, (middle - 0.5) / 2, pose, shape)
        mask, n = where.astype(np.float32), where.sum()
        template = mask * (template - template[where].mean())
        conjugate = np.conj(np.fft.rfftn(mask))
        mean = np.fft.irfftn(spectrum * conjugate, shape, axes=(0, 1, 2)) / n
        variance = np.fft.irfftn(squares * conjugate, shape, axes=(0, 1, 2)) / n - mean**2
        product = np.fft.irfftn(spectrum * np.conj(np.fft.rfftn(template)), shape, axes=(0, 1, 2))
        floor = 0.05 * variance.max()
        score = product / np.sqrt(np.maximum(variance, floor) * n * (template**2).sum())
        best = np.unravel_index(int(score.argmax()), shape)
        starts.append((float(score[best]), axes, (np.array(best) + at) % np.array(shape)))
    starts.sort(key=lambda s: -s[0])
    found = [_refine(cap, core, frame, middle, axes, 2.0 * where + 0.5) for _, axes, where in starts[:2]]
    finest = max(found, key=lambda pose: pose.correlation)
    return _refine(cap, core, frame, middle, finest.axes, finest.centre)


def length_a(density: Array, axis: NDArray[np.float64], voxel_size: float, level: float) -> float:
    """Length in Å along an axis (z, y, x) of what reaches a level, outer side to outer side."""
    along = np.argwhere(density >= level) @ axis
    return float(np.ptp(along) + 1) * voxel_size


def _refine(
    cap: Array,
    core: Array,
    frame: NDArray[np.float64],
    middle: NDArray[np.float64],
    axes: NDArray[np.float64],
    centre: NDArray[np.float64],
) -> Pose:
    low = np.maximum(np.rint(centre).astype(int) - 14, 0)
    crop = cap[tuple(slice(a, a + 29) for a in low)]

    def pose(p: NDArray[np.float64]) -> Pose:
        return Pose(axes @ Rotation.from_rotvec(p[:3] * 0.1).as_matrix(), centre + p[3:], 0.0)

    def loss(p: NDArray[np.float64]) -> float:
        return loss_at(pose(p))

    def loss_at(pose: Pose) -> float:
        local = Pose(pose.axes, pose.centre - low, 0.0)
        template, mask = _half_core(core, frame, middle, local, crop.shape)
        return -float(np.corrcoef(template[mask], crop[mask])[0, 1])

    spins = np.arange(8) / 8 * 2 * np.pi / FOLD
    axes = min((_spin(a) @ axes for a in spins), key=lambda turned: loss_at(Pose(turned, centre, 0.0)))
    result = optimize.minimize(loss, np.zeros(6), method="Powell", options={"xtol": 1e-3, "ftol": 1e-6})
    best = pose(result.x)
    return Pose(best.axes, best.centre, -float(result.fun))


def _directions(count: int) -> list[NDArray[np.float64]]:
    """Frames whose last axis covers the sphere, on a Fibonacci spiral."""
    frames = []
    for i in range(count):
        cosine, longitude = 1 - (2 * i + 1) / count, np.pi * (3 - np.sqrt(5)) * i
        tilt = [np.arctan2(np.sqrt(1 - cosine**2), cosine), longitude]
        frames.append(Rotation.from_euler("yz", tilt).as_matrix().T)
    return frames


def _spin(angle: float) -> NDArray[np.float64]:
    """Turn a frame's two first axes about its last."""
    return Rotation.from_euler("z", angle).as_matrix()


def _place(
    core: Array, frame: NDArray[np.float64], middle: NDArray[np.float64], pose: Pose, shape: tuple[int, ...]
) -> Array:
    """Put the core's map into a box of the cap's."""
    matrix = frame.T @ pose.axes  # cap's coordinates -> core's
    return ndimage.affine_transform(core, matrix, middle - matrix @ pose.centre, output_shape=shape, order=1)


def _half_core(
    core: Array, frame: NDArray[np.float64], middle: NDArray[np.float64], pose: Pose, shape: tuple[int, ...]
) -> tuple[Array, NDArray[np.bool_]]:
    """Put half the core into a box, with the mask of the whole: where the other half would be, the map is empty."""
    whole = _place(core, frame, middle, pose, shape)
    mask = ndimage.binary_dilation(whole > 0.2 * core.max())
    return whole * np.clip(0.5 + _along(shape, pose), 0, 1).astype(np.float32), mask


def _along(shape: tuple[int, ...], pose: Pose) -> NDArray[np.float64]:
    """Signed distance in voxels from the core's equator, positive on the cap's side."""
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    a = pose.axes[2]
    return a[0] * (z - pose.centre[0]) + a[1] * (y - pose.centre[1]) + a[2] * (x - pose.centre[2])


def _halve(volume: Array) -> Array:
    even = volume[tuple(slice(n - n % 2) for n in volume.shape)]
    d, h, w = (n // 2 for n in even.shape)
    return even.reshape(d, 2, h, 2, w, 2).mean(axis=(1, 3, 5))
