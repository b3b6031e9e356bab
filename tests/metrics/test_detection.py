"""Matching and scores of picks against hand examples and an independent way to count."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from monai_cryo.metrics.detection import label_iou, match_points, score_detections, score_tomograms

TRUE = [[0, 0, 0], [10, 0, 0], [20, 0, 0], [0, 50, 0]]
PICKS = [[1, 0, 0], [0, 0, 2], [12, 0, 0], [90, 0, 0]]


def test_a_hand_example() -> None:
    # the second pick is better and takes position 0; the first finds nothing free within 5
    partner, apart = match_points(PICKS, TRUE, 5.0, [0.5, 0.9, 0.7, 0.8])
    assert partner.tolist() == [-1, 0, 1, -1]
    assert apart.tolist() == [math.inf, 2, 2, math.inf]
    scores = score_detections(PICKS, ["r"] * 4, TRUE, ["r"] * 4, 5.0, scores=[0.5, 0.9, 0.7, 0.8])
    r = scores.classes["r"]
    assert (r.n_true, r.n_predicted, r.n_matched) == (4, 4, 2)
    assert (r.precision, r.recall, r.f1, r.mean_distance) == (0.5, 0.5, 0.5, 2)
    # by falling score: hit, miss, hit, miss: precision 1, 1/2, 2/3, 1/2 at recall 1/4, 1/4, 2/4, 2/4
    assert [p for _, p, _ in r.curve] == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert r.average_precision == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)


def test_tomograms_are_apart() -> None:
    """A pick matches positions of its own tomogram alone, wherever these lie; scores are compared across all."""
    truth = {"t": (TRUE, ["r"] * 4, None), "u": (TRUE, ["r"] * 4, None), "v": (TRUE[:1], ["r"], None)}
    found = {"t": (PICKS, ["r"] * 4, [0.5, 0.9, 0.7, 0.8]), "u": ([[20, 0, 0]], ["r"], [0.6])}
    r = score_tomograms(found, truth, 5.0).classes["r"]
    assert (r.n_true, r.n_predicted, r.n_matched) == (9, 5, 3)
    assert [score for score, _, _ in r.curve] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert score_tomograms({"t": found["t"]}, {"t": truth["t"]}, 5.0) == score_detections(
        PICKS, ["r"] * 4, TRUE, ["r"] * 4, 5.0, scores=[0.5, 0.9, 0.7, 0.8]
    )
    with pytest.raises(ValueError, match=r"picks must lie within 1e\+09 of 0, got 1e\+300"):
        score_tomograms({"t": ([[1e300, 0, 0]], ["r"], [1])}, truth, 5.0)


def test_equal_scores_have_no_order() -> None:
    """The nearest pairs come first, whichever pick stands first."""
    truth, picks = [[0, 0, 0], [4, 0, 0]], np.array([[1, 0, 0], [-3, 0, 0]])
    assert match_points(picks, truth, 4.0, [1.0, 1.0])[0].tolist() == [0, -1]
    assert match_points(picks[::-1], truth, 4.0, [1.0, 1.0])[0].tolist() == [-1, 0]
    assert match_points(picks[::-1], truth, 4.0)[0].tolist() == [0, 1]  # in the order given


def test_a_distance_is_reached_in_every_tomogram() -> None:
    truth = {name: ([[25.0, 0, 0]], ["r"]) for name in ("t", "u", "v")}
    found = {name: ([[17.0, 0, 0]], ["r"], [1.0]) for name in truth}
    assert score_tomograms(found, truth, 8.0).classes["r"].n_matched == 3


def test_f_beta_weighs_recall() -> None:
    found = score_detections(TRUE[:1], ["r"], TRUE, ["r"] * 4, 1.0).classes["r"]
    assert (found.precision, found.recall) == (1, 0.25)
    assert found.f_beta == pytest.approx(17 * 0.25 / (16 + 0.25))
    assert found.f1 == pytest.approx(0.4)


def test_the_nearer_position_is_taken_and_each_once() -> None:
    assert match_points([[4, 0, 0], [6, 0, 0]], [[0, 0, 0], [5, 0, 0]], 10.0)[0].tolist() == [1, 0]
    assert match_points([[0, 0, 0], [0, 0, 0]], [[0, 0, 0]], 1.0)[0].tolist() == [0, -1]
    assert match_points([[3, 0, 0]], [[0, 0, 0]], 3.0)[0].tolist() == [0]  # the distance itself counts


def test_classes_do_not_match_each_other() -> None:
    scores = score_detections([[0, 0, 0]], ["a"], [[0, 0, 0], [9, 9, 9]], ["b", "a"], 2.0)
    assert scores.classes["a"].f1 == scores.classes["b"].f1 == 0
    assert scores.macro_f1 == 0
    assert score_detections([[0, 0, 0]], ["a"], [[0, 0, 0]], ["a"], 2.0, classes=["a", "c"]).macro_f1 == 1


def test_without_picks_or_truth() -> None:
    none = score_detections([], [], TRUE, ["r"] * 4, 1.0).classes["r"]
    assert (none.precision, none.recall, none.f1, none.average_precision) == (0, 0, 0, 0)
    empty = score_detections(PICKS, ["x"] * 4, TRUE, ["r"] * 4, 1.0, classes=["x"])
    assert math.isnan(empty.classes["x"].recall)
    text = json.dumps(empty.to_dict(), allow_nan=False)
    assert json.loads(text)["classes"]["x"]["recall"] is None


def test_equal_scores_are_one_threshold() -> None:
    orders = [
        score_detections(p, ["r"] * 2, [[0, 0, 0]], ["r"], 1.0, scores=[0.5, 0.5]).classes["r"]
        for p in ([[0, 0, 0], [9, 9, 9]], [[9, 9, 9], [0, 0, 0]])
    ]
    assert [o.average_precision for o in orders] == [0.5, 0.5]


points = st.lists(st.tuples(*[st.integers(0, 12)] * 3), max_size=12)


@settings(max_examples=60, deadline=None)
@given(points, points, st.floats(0.5, 6))
def test_against_an_independent_count(predicted: list[tuple[int]], true: list[tuple[int]], distance: float) -> None:
    partner, apart = match_points(predicted, true, distance)
    taken = partner[partner >= 0]
    assert len(set(taken.tolist())) == len(taken)
    assert (apart[partner >= 0] <= distance).all()
    p, t = (np.array(x, float).reshape(-1, 3) for x in (predicted, true))
    away = np.linalg.norm(p[:, None] - t[None], axis=2)
    rows, columns = linear_sum_assignment(away > distance)
    most = int((away[rows, columns] <= distance).sum())
    assert most / 2 <= len(taken) <= most  # greedy finds at least half of the best assignment
    # greedy by the book: the list in order, each row its smallest free column
    free, expected = set(range(len(t))), []
    for row in away:
        best = min(free, key=lambda c: (row[c], c), default=None)
        expected.append(best if best is not None and row[best] <= distance else -1)
        free.discard(expected[-1])
    assert (partner >= 0).tolist() == [e >= 0 for e in expected]
    if len(t):
        hits = np.array(expected) >= 0
        area = 0.0
        for k in range(1, len(t) + 1):  # the best precision at which recall k / M is reached
            area += max((hits[:n].sum() / n for n in range(1, len(p) + 1) if hits[:n].sum() >= k), default=0) / len(t)
        scored = score_detections(p, ["r"] * len(p), t, ["r"] * len(t), distance).classes["r"]
        assert scored.average_precision == pytest.approx(area)


def test_label_iou_by_hand() -> None:
    a, b = np.zeros((2, 3, 3), np.int8), np.zeros((2, 3, 3), np.int16)
    a[0, 0], b[0, :, 0] = 1, 1
    a[1, 0, 0], b[1, 0, 0] = 2, 2
    assert label_iou(a, b, 3)[:2] == [1 / 5, 1]
    assert math.isnan(label_iou(a, b, 3)[2])
    with pytest.raises(ValueError, match=r"whole numbers in 0\.\.1, got 0\.\.2"):
        label_iou(a, b, 1)
    for wrong in (0.25, np.nan, -1.0):
        with pytest.raises(ValueError, match="labels must be whole numbers"):
            label_iou(np.full((2, 3, 3), wrong, np.float32), b, 3)
    with pytest.raises(ValueError, match="one shape"):
        label_iou(a, b[:1], 3)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="distance must be > 0"):
        match_points(PICKS, TRUE, 0.0)
    with pytest.raises(ValueError, match="one score a pick"):
        match_points(PICKS, TRUE, 1.0, [1.0])
    with pytest.raises(ValueError, match="one class for each of 4 picks"):
        score_detections(PICKS, ["r"], TRUE, ["r"] * 4, 1.0)
    for scores in ([1.0], [1.0, 2.0, 3.0, float("nan")]):
        with pytest.raises(ValueError, match="expected 4 finite scores"):
            score_detections(PICKS, ["r"] * 4, TRUE, ["r"] * 4, 1.0, scores=scores)
    with pytest.raises(ValueError, match="beta must be > 0"):
        score_detections(PICKS, ["r"] * 4, TRUE, ["r"] * 4, 1.0, beta=0)
    with pytest.raises(ValueError, match="no true positions"):
        score_detections(PICKS, ["r"] * 4, [], [], 1.0)
