"""Two plain pickers that need no training: blobs of a particle's size, and one template turned every way."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from monai_cryo.physics import missing_wedge

Found = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Indices (z, y, x) and scores, the best first."""


def blobs(volume: NDArray[np.float32], diameter: float, most: int = 2000) -> Found:
    """Difference of Gaussians matched to a dark ball of a diameter in voxels."""
    sigma = diameter / 2 / math.sqrt(3)
    narrow, wide = (ndimage.gaussian_filter(volume, sigma * factor) for factor in (0.8, 1.28))
    return peaks(wide - narrow, 0.6 * diameter, most)


def one_template(
    volume: NDArray[np.float32],
    template: NDArray[np.float32],
    tilt_range_deg: tuple[float, float],
    *,
    rotations: int = 24,
    highpass_vox: float = 24.0,
    distance: float = 10.0,
    most: int = 2000,
) -> Found:
    """Cross-correlation with one structure, bright, at random orientations under the missing wedge; the best of all."""
    image = -(volume - ndimage.gaussian_filter(volume, highpass_vox))
    image /= image.std()
    shape = tuple(fft.next_fast_len(n, real=True) for n in image.shape)
    spectrum = fft.rfftn(image, shape)
    wedge = missing_wedge(template.shape, *tilt_range_deg).numpy()
    best = np.full(image.shape, -np.inf, np.float32)
    turns = Rotation.random(rotations, random_state=np.random.RandomState(0)).as_matrix()
    for matrix in turns:
        middle = np.array([n // 2 for n in template.shape])
        turned = ndimage.affine_transform(template, matrix, middle - matrix @ middle, order=1)
        turned = np.fft.irfftn(np.fft.rfftn(turned) * wedge, template.shape, axes=(0, 1, 2)).astype(np.float32)
        turned -= turned.mean()
        turned /= np.linalg.norm(turned)
        padded = np.zeros(shape, np.float32)
        padded[tuple(slice(0, n) for n in template.shape)] = turned
        padded = np.roll(padded, tuple(-middle), (0, 1, 2))
        answer = fft.irfftn(spectrum * fft.rfftn(padded).conj(), shape)
        np.maximum(best, answer[tuple(slice(0, n) for n in image.shape)], out=best)
    return peaks(best, distance, most)


def peaks(score: NDArray[np.float32], distance: float, most: int) -> Found:
    """Local maxima, the better of any two nearer than a distance, at most so many."""
    top = (score == ndimage.maximum_filter(score, 5)) & (score > 0)
    places, values = np.argwhere(top).astype(float), score[top].astype(float)
    order = np.argsort(-values, kind="stable")[: 20 * most]
    places, values = places[order], values[order]
    tree, free, kept = cKDTree(places), np.ones(len(places), bool), []
    for n in range(len(places)):
        if free[n] and len(kept) < most:
            kept.append(n)
            free[tree.query_ball_point(places[n], distance)] = False
    return places[kept], values[kept]
