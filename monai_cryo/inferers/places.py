"""Where to look in a tomogram: at blobs as large as particles, and along what the classifier calls a membrane."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_cryo.inferers.binning import BIN, binned_blocks, gaussian_reach, unbinned
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
        [z, y, x], an array or a memory map, read block by block.
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
    diameters = sorted(set(diameters_vox))
    if not diameters:
        return np.empty((0, 3))
    sigmas = [d / BIN / (2 * math.sqrt(3)) for d in diameters]
    reach = [max(1, round(d / 8 / BIN)) for d in diameters]
    halo = gaussian_reach(sigmas[-1] * _RATIO**0.5) + reach[-1]
    bins: list[list[NDArray[np.int32]]] = [[] for _ in diameters]
    peaks: list[list[NDArray[np.float32]]] = [[] for _ in diameters]
    moments = np.zeros((len(diameters), 3))  # number, sum and sum of squares of each size's answers
    for first, block, inner in binned_blocks(volume, halo):
        for k, (sigma, near) in enumerate(zip(sigmas, reach, strict=True)):
            narrow, wide = (ndimage.gaussian_filter(block, sigma * f) for f in (_RATIO**-0.5, _RATIO**0.5))
            answer = narrow - wide if bright else wide - narrow
            peak = ((answer == ndimage.maximum_filter(answer, 2 * near + 1)) & (answer > 0))[inner]
            answer = answer[inner]
            moments[k] += answer.size, answer.sum(dtype=np.float64), np.square(answer, dtype=np.float64).sum()
            bins[k].append((np.argwhere(peak) + first).astype(np.int32))
            peaks[k].append(answer[peak])
    places, answers = [], []
    for where, value, (number, total, squares) in zip(bins, peaks, moments, strict=True):
        relative = np.concatenate(value) / max(math.sqrt(max(squares / number - (total / number) ** 2, 0.0)), 1e-30)
        places.append(unbinned(np.concatenate(where)[relative > _LEAST]))
        answers.append(relative[relative > _LEAST])
    every = np.concatenate(places)
    return every[apart(every, np.concatenate(answers), diameters[0] / 4)]


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
        (N, 3) indices (z, y, x): the middles of cells of ``stride`` voxels; the last may lead out of the volume.
    """
    where = np.argwhere(scores >= least)
    places = (where * stride + stride / 2).astype(np.float64)
    return places[apart(places, scores[tuple(where.T)], _SPACING)]
