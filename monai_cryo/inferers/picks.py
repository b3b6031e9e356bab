"""Picks from a reading: of all that windows showed, the surest, no two of them nearer than particles can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from monai_cryo._defaults import MIN_SCORE
from monai_cryo.inferers.spacing import apart
from monai_cryo.inferers.windows import Reading
from monai_cryo.io.picks import Picks

__all__ = ["pick_particles"]


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

    Each window that shows a particle, its class with a probability and its mask, says where it is: in the mask's
    centre. Within an eighth of its diameter of the tomogram's faces there is none: beyond them windows are mirrored,
    and what a face cuts seems whole and centred on it. Taken by falling probability, over all classes, such a sighting
    is dropped if a surer one lies nearer than `separation` times the mean of both diameters.

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
        Least score of a pick: its class's probability in the window that shows it best.
    separation
        Least distance of two picks in diameters: under 1, because particles are not spheres and touch.
    min_size
        Least size of a mask, as a share of the ball of the particle's diameter.

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
    seen = reading.sightings
    diameters = np.array([diameters_a.get(name, 0.0) / voxel_size for name in classes])[seen.kinds]
    margin, shape = diameters[:, None] / 8 - 0.5, np.array(reading.labels.shape)
    inside = ((seen.places >= margin) & (seen.places <= shape - 1 - margin)).all(1)
    good = (
        (diameters > 0)
        & inside
        & (seen.probabilities >= min_score)
        & (seen.sizes >= min_size * math.pi / 6 * diameters**3)
    )
    chosen = np.flatnonzero(good)
    kept = chosen[apart(seen.places[chosen], seen.probabilities[chosen], diameters[chosen] * separation)]
    depth, height, width = reading.labels.shape
    return Picks(
        index=seen.places[kept],
        names=[classes[k] for k in seen.kinds[kept]],
        scores=seen.probabilities[kept],
        sizes=seen.sizes[kept],
        voxel_size=voxel_size,
        shape=(depth, height, width),
    )
