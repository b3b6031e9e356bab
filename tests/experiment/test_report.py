"""The page and the table: the figures in them are those of the runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from monai_cryo._refusals import is_refusal
from monai_cryo.experiment import Score, read_scores, write_report
from monai_cryo.experiment.report import _gain


def summary(right: int, iou: float, best: float | None = 0.2, classes=("a", "b")) -> dict:
    """Return scores of 10 + 6 samples of which `right` of each class are named rightly."""
    masks = [
        {"threshold": t, "pixel_accuracy": 0.9, "mean_iou": v, "class_mean_iou": v, "iou": dict.fromkeys(classes, v)}
        for t, v in ((0.2, 2 * iou), (0.5, iou))
    ]
    recall = {"a": right / 10, "b": right / 6}
    return {
        "title": "a set",
        "true_classes": list(classes),
        "n": 16,
        "accuracy": right / 8,
        "balanced_accuracy": sum(recall.values()) / 2,
        "recall": recall,
        "confusion_matrix": [[right, 10 - right], [6 - right, right]],
        "by_threshold": masks,
        "best_threshold": best,
        **{k: v for k, v in masks[1].items() if k not in ("threshold", "iou")},
    }


def save(output: Path, arm: str, seed: int, name: str, content: dict) -> None:
    path = output / "runs" / arm / f"seed_{seed}" / "scores" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    recipe = "{max_epochs: 3, epoch_length: 500, batch_size: 32, features: [8, 16]}"
    (output / "runs" / arm / "recipe.yaml").write_text(recipe)


@pytest.fixture
def output(tmp_path):
    for seed, right in ((0, 2), (1, 4)):
        save(tmp_path, "fixed_parameters", seed, "tilt_series", summary(right, 0.1))
        save(tmp_path, "paper", seed, "tilt_series", summary(right + 2, 0.3))
    save(tmp_path, "paper", 0, "no_masks", summary(6, 0.3, best=None))
    return tmp_path


def rows_of(text: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the table below a heading, by first cell."""
    part = text.split(f"## {heading}")[1].split("\n## ")[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def report(output: Path, **options) -> str:
    options = {"arms": ["fixed_parameters", "paper", "robust"], "sets": ["tilt_series", "no_masks"]} | options
    return write_report(output, read_scores(output), **options).read_text()


@pytest.mark.parametrize("content", [b"\xff", b"{", b"3", b"[1]"])
def test_damaged_scores_are_refused(tmp_path, content):
    path = tmp_path / "runs" / "a" / "seed_0" / "scores" / "x.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json holds no scores: delete it, and the model is scored") as error:
        read_scores(tmp_path)
    assert is_refusal(error.value)


def test_scores_are_read(output):
    scores = read_scores(output)
    assert [(s.arm, s.seed, s.set) for s in scores] == [
        ("fixed_parameters", 0, "tilt_series"),
        ("fixed_parameters", 1, "tilt_series"),
        ("paper", 0, "no_masks"),
        ("paper", 0, "tilt_series"),
        ("paper", 1, "tilt_series"),
    ]


def test_a_score_at_the_best_threshold():
    score = Score("paper", 0, "tilt_series", summary(4, 0.3))
    assert (score.value("mean_iou"), score.value("mean_iou_best"), score.guess) == (0.3, 0.6, 10 / 16)
    assert Score("paper", 0, "x", summary(4, 0.3, best=None)).value("mean_iou_best") is None


def test_a_row_an_arm_with_mean_and_deviation(output):
    rows = rows_of(report(output), "tilt_series: a set")
    assert list(rows) == ["fixed_parameters", "paper"]
    assert rows["paper"]["accuracy"] == "0.625 ± 0.177"  # 4/8 and 6/8
    assert rows["paper"]["recall a"] == "0.500 ± 0.141"
    assert rows["paper"]["mean IoU"] == "0.300 ± 0.000"
    assert (rows["paper"]["best at"], rows["paper"]["mean IoU, best"]) == ("0.2", "0.600 ± 0.000")


def test_a_set_without_masks_has_no_masks_columns(output):
    text = report(output)
    assert rows_of(text, "no_masks: a set")["paper"] == {
        "arm": "paper",
        "accuracy": "0.750",
        "balanced": "0.800",
        "recall a": "0.600",
        "recall b": "1.000",
    }
    assert "always naming the commonest class scores 0.625. No masks." in text


def test_the_papers_table_stands_beside_ours(output):
    text = report(output)
    part = text.split("## Beside the paper's Table I")[1].split("\n## ")[0]
    assert "| the paper's rat neuron | accuracy | 0.605 | 0.818 (+35 %) |" in part
    assert "| the paper's rat neuron | mean IoU | 0.205 | 0.300 (+46 %) |" in part
    assert "| tilt_series | accuracy | 0.375 ± 0.177 | 0.625 ± 0.177 (+67 %) |" in part
    assert "| tilt_series | mean IoU | 0.200 ± 0.000 | 0.600 ± 0.000 (+200 %) |" in part
    assert "no_masks" not in part


def test_a_percentage_of_next_to_nothing_is_left_out():
    assert [_gain(before, 0.5) for before in (None, 0.0, 0.002, 0.25)] == ["-", "-", "-", "+100 %"]


def test_one_arm_alone_has_no_table_one(output):
    text = report(output, arms=["paper"])
    assert "Table I" not in text
    assert "fixed_parameters" not in text


def test_the_budget_is_told(output):
    assert "| paper | 0, 1 | 1,500 | 32 | 8-16 |" in report(output)


def test_an_ablation_shows_the_difference(output):
    save(output, "robust", 0, "tilt_series", summary(6, 0.5))
    save(output, "robust", 1, "tilt_series", summary(4, 0.3))
    save(output, "no_ema", 0, "tilt_series", summary(3, 0.1))
    text = report(output, arms=["robust", "no_ema", "white_noise"], ablation=["robust", "no_ema", "white_noise"])
    rows = rows_of(text, "Ablation")
    assert list(rows) == ["robust", "no_ema"]
    assert rows["robust"]["tilt_series, class-mean IoU"] == "0.400 ± 0.141"
    assert rows["no_ema"]["tilt_series, class-mean IoU"] == "0.100 (-0.300)"
    assert rows["no_ema"]["tilt_series, balanced accuracy"] == "0.400 (-0.267)"
    assert "Ablation" not in report(output, ablation=["robust", "white_noise"])


def test_sets_left_out_are_told(output):
    assert "- deepfinder: no file" in report(output, left_out=["deepfinder: no file"])


def test_the_csv_holds_every_threshold(output):
    report(output)
    with (output / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 5
    best = [row for row in rows if row["is_best"] == "1"]
    assert {row["threshold"] for row in best} == {"0.2"}
    first = next(row for row in rows if row["arm"] == "paper" and row["set"] == "tilt_series")
    assert (first["seed"], first["n"], first["mean_iou"], first["recall_a"]) == ("0", "16", "0.6", "0.4")
