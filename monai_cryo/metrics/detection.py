"""Scores of picks against true positions, and of label volumes against true labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

__all__ = ["ClassDetection", "DetectionScores", "label_iou", "match_points", "score_detections", "score_tomograms"]

_FARTHEST = 1e9  # whose squares are numbers


@dataclass(frozen=True)
class ClassDetection:
    """Scores of one class; nan where nothing can be said.

    Attributes
    ----------
    n_true, n_predicted, n_matched
        Positions, picks, and pairs of both.
    precision, recall, f1, f_beta
        Of all picks. Precision is 0 without a pick; recall and what follows from it nan without a true position.
    average_precision
        Area under precision over recall, the picks taken by falling score, precision made falling from the right (as
        PASCAL VOC since 2010 does it).
    mean_distance
        Of the pairs, in the unit of the positions.
    curve
        Rows (score, precision, recall), by falling score.
    """

    n_true: int
    n_predicted: int
    n_matched: int
    precision: float
    recall: float
    f1: float
    f_beta: float
    average_precision: float
    mean_distance: float
    curve: list[tuple[float, float, float]]


@dataclass(frozen=True)
class DetectionScores:
    """Scores of picks.

    Attributes
    ----------
    classes
        By name.
    macro_f1, macro_f_beta, mean_average_precision
        Means over the classes that have true positions.
    distance, beta
        As asked.
    """

    classes: dict[str, ClassDetection]
    macro_f1: float
    macro_f_beta: float
    mean_average_precision: float
    distance: float
    beta: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, None for nan."""
        return dict(jsonable(asdict(self)))


def match_points(
    predicted: ArrayLike, true: ArrayLike, distance: float, scores: ArrayLike | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pair picks with true positions, one to one: by falling score, each takes the nearest position still free.

    Greedy by score, as detection benchmarks do it, because then a threshold on the score only ends the list earlier:
    the pairs of the better picks stay. Of picks of one score the nearest pairs come first, in whatever order they are.

    Parameters
    ----------
    predicted, true
        Positions, (N, 3) and (M, 3), in one unit.
    distance
        Largest distance of a pair.
    scores
        Of the picks, (N,); None: in the order given.

    Returns
    -------
    partner
        For each pick the index of its true position, or -1, (N,).
    apart
        Their distance, inf without a partner, (N,).

    Raises
    ------
    ValueError
        If the distance is not positive or scores and picks differ in number.
    """
    picks, truth = (np.asarray(p, float).reshape(-1, 3) for p in (predicted, true))
    rank = np.arange(len(picks)) if scores is None else np.argsort(-np.asarray(scores, float), kind="stable")
    if not distance > 0:
        raise ValueError(f"distance must be > 0, got {distance}")
    if len(rank) != len(picks):
        raise ValueError(f"expected one score a pick, got {len(rank)} for {len(picks)} picks")
    partner, apart = np.full(len(picks), -1, np.int64), np.full(len(picks), np.inf)
    free = np.ones(len(truth), bool)
    near = cKDTree(truth).query_ball_point(picks, distance) if len(picks) and len(truth) else [[] for _ in picks]
    alike = np.arange(len(rank)) if scores is None else -np.asarray(scores, float)[rank]
    for group in np.split(rank, np.flatnonzero(np.diff(alike)) + 1):  # picks of one score
        away = [(float(np.linalg.norm(truth[t] - picks[p])), p, t) for p in group for t in near[p]]
        for far, pick, position in sorted(away):
            if free[position] and partner[pick] < 0:
                partner[pick], apart[pick], free[position] = position, far, False
    return partner, apart


def score_detections(
    predicted: ArrayLike,
    predicted_class: Sequence[str],
    true: ArrayLike,
    true_class: Sequence[str],
    distance: float,
    *,
    scores: ArrayLike | None = None,
    beta: float = 4.0,
    classes: Sequence[str] | None = None,
) -> DetectionScores:
    """Score picks class by class; a pick near a position of another class matches nothing.

    Parameters
    ----------
    predicted, true
        Positions, (N, 3) and (M, 3), in one unit.
    predicted_class, true_class
        Names, N and M of them.
    distance
        Largest distance of a pick from its true position.
    scores
        Of the picks, (N,); None: in the order given, best first.
    beta
        Of F-beta = (1 + beta^2) P R / (beta^2 P + R): recall counts beta times as much as precision. 4 is that of
        CZII's challenge of 2024.
    classes
        Which to score; None: all that occur in the truth.

    Raises
    ------
    ValueError
        If names, scores and positions differ in number, a score is not finite, `distance` or `beta` is not positive, or
        there is no class.
    """
    values = -np.arange(len(predicted_class), dtype=float) if scores is None else scores
    found, truth = {"": (predicted, predicted_class, values)}, {"": (true, true_class)}
    return score_tomograms(found, truth, distance, beta=beta, classes=classes)


def score_tomograms(
    found: Mapping[str, tuple[ArrayLike, Sequence[str], ArrayLike]],
    truth: Mapping[str, Sequence[Any]],
    distance: float,
    *,
    beta: float = 4.0,
    classes: Sequence[str] | None = None,
) -> DetectionScores:
    """Score the picks of several tomograms together, as :func:`score_detections` does those of one.

    Parameters
    ----------
    found
        Tomogram -> positions, (N, 3), names of their classes and scores. Tomograms that are not in the truth are left
        out.
    truth
        Tomogram -> positions and names of their classes; what follows is not looked at.
    distance, beta, classes
        As for :func:`score_detections`.

    Raises
    ------
    ValueError
        As :func:`score_detections`.
    """
    if not beta > 0:
        raise ValueError(f"beta must be > 0, got {beta}")
    wanted = sorted({kind for _, kinds, *_ in truth.values() for kind in kinds}) if classes is None else list(classes)
    if not wanted:
        raise ValueError("no true positions to score against")
    pairs: dict[str, list[tuple[NDArray[Any], ...]]] = {name: [] for name in wanted}
    counts = dict.fromkeys(wanted, 0)
    for tomogram, (places, kinds, *_) in truth.items():
        picks, names, scores = found.get(tomogram, ((), (), ()))
        positions = _positions(places, kinds, "true positions")
        points, values = _positions(picks, names, "picks"), np.asarray(scores, float)
        if values.shape != (len(points),) or not np.isfinite(values).all():
            raise ValueError(f"expected {len(points)} finite scores, one for each pick, got {values.size} in all")
        for name in wanted:
            mine, theirs = (np.array([kind == name for kind in given], bool) for given in (names, kinds))
            partner, apart = match_points(points[mine], positions[theirs], distance, values[mine])
            pairs[name].append((partner >= 0, apart, values[mine]))
            counts[name] += int(theirs.sum())
    result = {}
    for name, parts in pairs.items():
        hit, apart, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        result[name] = _class_scores(hit, apart, values, counts[name], beta)
    counted = [s for s in result.values() if s.n_true]
    return DetectionScores(
        classes=result,
        macro_f1=_mean([s.f1 for s in counted]),
        macro_f_beta=_mean([s.f_beta for s in counted]),
        mean_average_precision=_mean([s.average_precision for s in counted]),
        distance=distance,
        beta=beta,
    )


def _positions(points: ArrayLike, kinds: Sequence[str], what: str) -> NDArray[np.float64]:
    found = np.asarray(points, float).reshape(-1, 3)
    if len(found) != len(kinds):
        raise ValueError(f"expected one class for each of {len(found)} {what}, got {len(kinds)}")
    if not (np.abs(found) <= _FARTHEST).all():
        raise ValueError(f"{what} must lie within {_FARTHEST:g} of 0, got {np.abs(found).max():g}")
    return found


def label_iou(predicted: NDArray[Any], true: NDArray[Any], num_labels: int) -> list[float]:
    """Return the intersection over union of labels 1..`num_labels` of two volumes, nan for one in neither.

    The volumes are read section by section: they may be memory maps of any size.

    Raises
    ------
    ValueError
        If the shapes differ or a label lies outside 0..`num_labels`.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"label volumes must have one shape, got {predicted.shape} and {true.shape}")
    n = num_labels + 1
    both, either = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for sections in zip(predicted, true, strict=True):
        labels = []
        for section in map(np.asarray, sections):
            low, high = section.min(), section.max()
            if not (low >= 0 and high <= num_labels) or (section != np.rint(section)).any():
                raise ValueError(f"labels must be whole numbers in 0..{num_labels}, got {low:g}..{high:g}")
            labels.append(section.astype(np.int64).ravel())
        hit = np.bincount(labels[0][labels[0] == labels[1]], minlength=n)
        both += hit
        either += np.bincount(labels[0], minlength=n) + np.bincount(labels[1], minlength=n) - hit
    return [int(i) / int(u) if u else math.nan for i, u in zip(both[1:], either[1:], strict=True)]


def _class_scores(
    hit: NDArray[np.bool_], apart: NDArray[np.float64], scores: NDArray[np.float64], n_true: int, beta: float
) -> ClassDetection:
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(hit[order])
    precisions = found / np.arange(1, len(hit) + 1)
    recalls = found / n_true if n_true else np.full(len(hit), math.nan)
    matched = int(hit.sum())
    precision = matched / len(hit) if len(hit) else 0.0
    recall = matched / n_true if n_true else math.nan
    # equal scores are one threshold: the curve has its last point
    last = np.append(np.diff(scores[order]) != 0, True)[: len(hit)]
    steps = np.diff(recalls[last], prepend=0.0)
    envelope = np.maximum.accumulate(precisions[last][::-1])[::-1]
    return ClassDetection(
        n_true=n_true,
        n_predicted=len(hit),
        n_matched=matched,
        precision=precision,
        recall=recall,
        f1=_f(precision, recall, 1.0),
        f_beta=_f(precision, recall, beta),
        average_precision=float((steps * envelope).sum()) if n_true else math.nan,
        mean_distance=float(apart[hit].mean()) if matched else math.nan,
        curve=[
            (float(s), float(p), float(r))
            for s, p, r in zip(scores[order][last], precisions[last], recalls[last], strict=True)
        ],
    )


def _f(precision: float, recall: float, beta: float) -> float:
    if math.isnan(recall):
        return math.nan
    below = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / below if below else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def jsonable(value: Any) -> Any:
    """Return the same with None for nan, which JSON has not, and lists for tuples."""
    if isinstance(value, dict):
        return {key: jsonable(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
