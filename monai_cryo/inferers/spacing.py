"""Candidates thinned out: the better of any two that are too near each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["apart"]


def apart(
    places: NDArray[np.float64], scores: NDArray[np.floating], distances: NDArray[np.float64] | float
) -> NDArray[np.int64]:
    """Return the indices of the candidates kept, by falling score: any two lie the mean of their distances apart.

    Parameters
    ----------
    places
        (N, 3).
    scores
        (N,).
    distances
        Of each candidate, or of all, in the unit of the places.
    """
    if not len(places):
        return np.empty(0, np.int64)
    reach = np.broadcast_to(np.asarray(distances, float), len(places))
    tree, free, kept = cKDTree(places), np.ones(len(places), bool), []
    for n in np.argsort(-scores, kind="stable"):
        if free[n]:
            kept.append(n)
            near = np.array(tree.query_ball_point(places[n], (reach[n] + reach.max()) / 2))
            away = np.linalg.norm(places[near] - places[n], axis=1)
            free[near[away < (reach[n] + reach[near]) / 2]] = False
    return np.array(kept, np.int64)
