"""Where to look in a tomogram: at blobs as large as particles, and along what the classifier calls a membrane."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_cryo.inferers.binning import BIN, binned, unbinned
from monai_cryo.inferers.spacing import apart

__all__ = ["blob_places", "scored_places"]

_RATIO = 1.6  # of the two Gaussians, as usual for a Laplacian
_SPACING = 12.1  # voxels: more than 12 on the grids of 8, 4 and 2
_LEAST = 1.5  # of the response's standard deviations: particles are far above, and most of the noise is below

Places = NDArray[np.float64]


def blob_places(volume: NDArray[Any], diameters_vox: Iterable[float], *, bright: bool = False) -> Places:
    """Find what may be a particle: maxima of a difference of Gaussians as large as each diameter.

    Much more is found than particles are there; which of it is one, the network says. A ball of diameter d answers most
    to a Laplacian of Gaussian of sigma = d / (2 sqrt 3). Of places nearer than a quarter of the smallest diameter the
    one with the strongest answer stays.

    Parameters
    ----------
    volume
        [z, y, x], an array or a memory map, read section by section.
    diameters_vox
        Of the classes.
    bright
        Particles are bright; else dark.

    Returns
    -------
    numpy.ndarray
        (N, 3) indices (z, y, x), the strongest first.

    References
    ----------
    Lowe, International Journal of Computer Vision 60 (2004) 91-110: the difference of Gaussians for the Laplacian.
    Lindeberg, International Journal of Computer Vision 30 (1998) 79-116: scale and size of a blob.
    """
    small = binned(volume)
    places, answers = [np.empty((0, 3))], [np.empty(0)]
    diameters = sorted(set(diameters_vox))
    for diameter in diameters:
        sigma = diameter / BIN / (2 * math.sqrt(3))
        narrow, wide = (ndimage.gaussian_filter(small, sigma * f) for f in (_RATIO**-0.5, _RATIO**0.5))
        answer = narrow - wide if bright else wide - narrow
        answer /= max(float(answer.std()), 1e-30)
        near = 2 * max(1, round(diameter / 8 / BIN)) + 1
        peak = (answer == ndimage.maximum_filter(answer, near)) & (answer > _LEAST)
        places.append(unbinned(np.argwhere(peak)))
        answers.append(answer[peak])
    every = np.concatenate(places)
    return every[apart(every, np.concatenate(answers), diameters[0] / 4)] if diameters else every


def scored_places(scores: NDArray[np.float32], stride: int, least: float) -> Places:
    """Places on the grid of a class's scores, the best first, none nearer than 12 voxels to a better one.

    For what has no diameter, such as a membrane: windows so far apart cover a sheet several times.

    Parameters
    ----------
    scores
        (D, H, W), one class of what `DenseInferer` returned.
    stride
        Its stride.
    least
        Score below which nothing is looked at.

    Returns
    -------
    numpy.ndarray
        (N, 3) indices (z, y, x) into the volume.
    """
    where = np.argwhere(scores >= least)
    places = (where * stride + stride / 2).astype(np.float64)
    return places[apart(places, scores[tuple(where.T)], _SPACING)]
