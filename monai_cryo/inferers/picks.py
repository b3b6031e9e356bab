"""Picks from a reading: peaks of each class's map, no two of them nearer than particles can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_cryo.inferers.binning import BIN, binned_blocks, gaussian_reach, unbinned
from monai_cryo.inferers.look import Reading
from monai_cryo.inferers.spacing import apart
from monai_cryo.io.picks import Picks

__all__ = ["MIN_SCORE", "pick_particles"]

#: least score of a pick where none is given: where F1 was best in simulated tomograms (benchmarks/thresholds.py)
MIN_SCORE = 0.33


def pick_particles(
    reading: Reading,
    classes: Sequence[str],
    diameters_a: Mapping[str, float],
    voxel_size: float,
    *,
    min_score: float = MIN_SCORE,
    separation: float = 0.6,
    min_size: float = 0.1,
) -> Picks:
    """Find particles in a reading.

    A class's map (its window's probability times its mask's) is averaged with a Gaussian of a quarter of the
    particle's diameter; its local maxima are candidates, and the value there is their score. Taken by falling score,
    over all classes, a candidate is dropped if a better one lies nearer than `separation` times the mean of both
    diameters, or if the mask around it is too small.

    Parameters
    ----------
    reading
        What `WindowInferer` returned.
    classes
        Names, in the order of the network's channels.
    diameters_a
        Class -> diameter, Å. Classes that are not in it (membranes, background) are left as a segmentation.
    voxel_size
        Of the reading, Å.
    min_score
        Least score of a pick.
    separation
        Least distance of two picks in diameters: under 1, because particles are not spheres and touch.
    min_size
        Least share of the ball of the particle's diameter that its mask fills.

    Returns
    -------
    Picks
        By falling score, in voxels of the reading.

    Raises
    ------
    ValueError
        If the classes are not those of the reading, a diameter is of none of them or not positive.
    """
    if len(classes) != len(reading.maps):
        raise ValueError(f"the reading has {len(reading.maps)} classes, got {len(classes)} names {list(classes)}")
    unknown = sorted(set(diameters_a) - set(classes))
    if unknown or any(not d > 0 for d in diameters_a.values()):
        raise ValueError(f"diameters_a must give a diameter > 0 Å to some of {list(classes)}, got {dict(diameters_a)}")
    index, kind, score = [], [], []
    for k, name in enumerate(classes):
        if name in diameters_a:
            where, value = _peaks(reading.maps[k], diameters_a[name] / voxel_size, min_score)
            index.append(where)
            score.append(value)
            kind += [k] * len(value)
    places, kinds = np.concatenate([np.empty((0, 3)), *index]), np.array(kind, np.int64)
    values = np.concatenate([np.empty(0), *score])
    diameters = np.array([diameters_a.get(name, 0.0) / voxel_size for name in classes])
    sizes = np.array(
        [_size(reading.labels, p, k + 1, diameters[k] / 2) for p, k in zip(places, kinds, strict=True)], np.int64
    )
    full = math.pi / 6 * diameters[kinds] ** 3
    good = np.flatnonzero(sizes >= min_size * full)
    kept = good[apart(places[good], values[good], diameters[kinds[good]] * separation)]
    depth, height, width = reading.labels.shape
    return Picks(
        index=places[kept],
        names=[classes[k] for k in kinds[kept]],
        scores=values[kept],
        sizes=sizes[kept],
        voxel_size=voxel_size,
        shape=(depth, height, width),
    )


def _peaks(
    probability: NDArray[Any], diameter: float, min_score: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Local maxima of the averaged map: indices (z, y, x), to a fraction of a voxel, and values."""
    sigma, radius = diameter / 4 / BIN, max(1, round(diameter / 4 / BIN))
    index, values = [], []
    for first, block, inner in binned_blocks(probability, gaussian_reach(sigma) + radius):
        smooth = ndimage.gaussian_filter(block, sigma, mode="constant")
        peak = smooth == ndimage.maximum_filter(smooth, 2 * radius + 1, mode="constant")
        start = np.array([s.start for s in inner])
        places = np.argwhere((peak & (smooth >= min_score))[inner]) + start
        found = places.astype(float)
        padded = np.pad(smooth, 1, mode="edge")
        for axis in range(3):  # the summit of the parabola through a peak and its two neighbours
            step = np.eye(3, dtype=int)[axis]
            below, here, above = (padded[tuple((places + 1 + d * step).T)] for d in (-1, 0, 1))
            bend = below - 2 * here + above
            found[:, axis] += np.where(bend < 0, (below - above) / np.where(bend < 0, 2 * bend, 1), 0).clip(-0.5, 0.5)
        index.append(found + first - start)
        values.append(smooth[tuple(places.T)].astype(float))
    return unbinned(np.concatenate(index)), np.concatenate(values)


def _size(labels: NDArray[Any], place: NDArray[np.float64], label: int, radius: float) -> int:
    """Voxels of a label within a radius."""
    low = [max(0, math.ceil(p - radius)) for p in place]
    part = labels[tuple(slice(a, math.floor(p + radius) + 1) for a, p in zip(low, place, strict=True))]
    z, y, x = np.ogrid[tuple(slice(a, a + n) for a, n in zip(low, part.shape, strict=True))]
    square = (z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2
    return int(((part == label) & (square <= radius**2)).sum())
