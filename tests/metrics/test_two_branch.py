from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.exceptions import NotComputableError
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from torch import Tensor, nn

from monai_cryo.metrics import TwoBranchMetrics

CLASSES = ["ribosome", "proteasome", "tric", "membrane"]

# true class, predicted class, predicted voxels, true voxels, of 8 voxels and nested -> IoU, pixel accuracy
ROWS = [
    (0, 0, 4, 2),  # 1/2, 3/4
    (0, 0, 4, 4),  # 1, 1
    (0, 1, 2, 2),  # wrong class: 0, 1
    (1, 1, 0, 4),  # nothing drawn: 0, 1/2
    (1, 1, 8, 0),  # no mask
    (2, 0, 8, 0),  # no mask, wrong class
]
EXPECTED = {
    "n": 6,
    "accuracy": 4 / 6,
    "balanced_accuracy": (2 / 3 + 1 + 0) / 3,
    "pixel_accuracy": (3 / 4 + 1 + 1 + 1 / 2) / 4,
    "mean_iou": (1 / 2 + 1 + 0 + 0) / 4,
    "class_mean_iou": (1 / 2 + 0) / 2,
    "iou": {"ribosome": 1 / 2, "proteasome": 0.0, "tric": None, "membrane": None},
    "recall": {"ribosome": 2 / 3, "proteasome": 1.0, "tric": 0.0, "membrane": None},
    "confusion_matrix": [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]],
    "classes": CLASSES,
    "threshold": 0.5,
}
SCALARS = ["accuracy", "balanced_accuracy", "pixel_accuracy", "mean_iou", "class_mean_iou"]


def first_voxels(n: int) -> Tensor:
    return (torch.arange(8) < n).float().view(2, 2, 2)


def batch(rows: list[tuple[int, int, int, int]] = ROWS) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    logits, masks = torch.zeros(len(rows), 4), torch.full((len(rows), 4, 2, 2, 2), 9.0)
    for i, (_, predicted, voxels, _) in enumerate(rows):
        logits[i, predicted] = 5.0
        masks[i, predicted] = first_voxels(voxels) * 10 - 5
    true_mask = torch.stack([first_voxels(row[3]) for row in rows])[:, None]
    return {"logits": logits, "masks": masks}, {"class": torch.tensor([row[0] for row in rows]), "mask": true_mask}


def assert_summary(found: dict[str, Any]) -> None:
    assert list(found) == list(EXPECTED)
    for key, value in EXPECTED.items():
        assert found[key] == (pytest.approx(value) if key in SCALARS else value), key
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_summary_by_hand() -> None:
    metric = TwoBranchMetrics(CLASSES)
    metric.update(batch(ROWS[:4]))
    metric.update(batch(ROWS[4:]))
    scores = metric.compute()
    assert_summary(metric.summary)
    assert {k: scores[k] for k in SCALARS} == {k: metric.summary[k] for k in SCALARS}
    assert scores["iou_ribosome"] == 0.5
    assert scores["recall_tric"] == 0.0
    assert math.isnan(scores["iou_tric"])
    assert math.isnan(scores["recall_membrane"])


def test_reset_forgets() -> None:
    metric = TwoBranchMetrics(CLASSES)
    metric.update(batch([(3, 3, 1, 1)]))
    metric.reset()
    metric.update(batch())
    metric.compute()
    assert_summary(metric.summary)


def test_decollated_samples_with_and_without_masks() -> None:
    pred, label = batch()
    preds = [{"logits": pred["logits"][i], "masks": MetaTensor(pred["masks"][i])} for i in range(6)]
    labels: list[dict[str, Any]] = [{"class": ROWS[i][0], "mask": label["mask"][i].bool()} for i in range(6)]
    del labels[4]["mask"]
    labels[5]["mask"] = None
    metric = TwoBranchMetrics(CLASSES)
    metric.update((preds, labels))
    metric.compute()
    assert_summary(metric.summary)


def test_no_masks_at_all() -> None:
    pred, label = batch()
    metric = TwoBranchMetrics(CLASSES, thresholds=[0.2])
    metric.update((pred, {"class": label["class"]}))
    metric.compute()
    for key in ("pixel_accuracy", "mean_iou", "class_mean_iou", "best_threshold"):
        assert metric.summary[key] is None
    assert metric.summary["accuracy"] == pytest.approx(EXPECTED["accuracy"])


def test_threshold() -> None:
    pred, label = batch([(0, 0, 4, 4)])
    pred["masks"] = torch.full_like(pred["masks"], 0.3).logit()
    for threshold, iou in [(0.2, 0.5), (0.5, 0.0)]:
        metric = TwoBranchMetrics(CLASSES, threshold=threshold)
        metric.update((pred, label))
        metric.compute()
        assert (metric.summary["mean_iou"], metric.summary["threshold"]) == (iou, threshold)


def test_several_thresholds_at_once() -> None:
    pred, label = batch([(0, 0, 4, 4), (1, 1, 4, 2), (2, 0, 4, 4), (3, 3, 0, 0)])
    pred["masks"] = pred["masks"].clamp(-1, 1)  # probabilities 0.27 and 0.73
    metric = TwoBranchMetrics(CLASSES, threshold=0.5, thresholds=[0.9, 0.2, 0.5])
    metric.update((pred, label))
    scores = metric.compute()
    expected = {0.2: (4 / 8 + 2 / 8) / 3, 0.5: (1 + 2 / 4) / 3, 0.9: 0.0}
    found = {row["threshold"]: row["mean_iou"] for row in metric.summary["by_threshold"]}
    assert found == pytest.approx(expected)
    assert list(found) == [0.2, 0.5, 0.9]
    assert metric.summary["best_threshold"] == 0.5
    assert scores["mean_iou"] == metric.summary["mean_iou"] == found[0.5]
    assert metric.summary["by_threshold"][0]["iou"] == {
        "ribosome": 0.5,
        "proteasome": 0.25,
        "tric": 0.0,
        "membrane": None,
    }
    assert json.loads(json.dumps(metric.summary, allow_nan=False)) == metric.summary


class Echo(nn.Module):
    """Return the prediction prepared for the samples whose numbers are the images."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pred, _ = batch()
        return {key: value[x[:, 0, 0, 0, 0].long()] for key, value in pred.items()}


@pytest.mark.parametrize("decollate", [False, True])
def test_in_an_evaluator(decollate: bool) -> None:
    _, label = batch()
    items = [
        {"image": torch.full((1, 2, 2, 2), float(i)), "class": label["class"][i], "mask": label["mask"][i]}
        for i in range(6)
    ]
    metric = TwoBranchMetrics(CLASSES)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(items, batch_size=4),
        network=Echo(),
        prepare_batch=lambda data, *_, **__: (data["image"], {key: data[key] for key in ("class", "mask")}),
        key_val_metric={"mean_iou": metric},
        decollate=decollate,
    )
    evaluator.run()
    assert_summary(metric.summary)
    assert {key: evaluator.state.metrics[key] for key in SCALARS} == {key: metric.summary[key] for key in SCALARS}
    assert all(isinstance(value, float) for value in evaluator.state.metrics.values())
    assert evaluator.state.key_metric_name == "mean_iou"
    assert evaluator.state.best_metric == metric.summary["mean_iou"]


RANK = """
import sys, torch.distributed as dist
rank, store, tests = int(sys.argv[1]), sys.argv[2], sys.argv[3]
sys.path.insert(0, tests)
from test_two_branch import CLASSES, ROWS, TwoBranchMetrics, assert_summary, batch
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
metric = TwoBranchMetrics(CLASSES)
for split in (4, 6):
    metric.reset()
    rows = ROWS[:split] if rank == 0 else ROWS[split:]
    if rows:
        metric.update(batch(rows))
    metric.compute()
    assert_summary(metric.summary)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_distributed_ranks_see_all_samples(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "store"), str(Path(__file__).parent)]
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(i), *arguments], stderr=subprocess.PIPE) for i in range(2)
    ]
    try:
        errors = [rank.communicate(timeout=120)[1].decode() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "".join(errors)


def test_refuses_what_does_not_fit() -> None:
    pred, label = batch()
    with pytest.raises(ValueError, match=r"logits must have 2 classes \['a', 'b'\], got 4"):
        TwoBranchMetrics(["a", "b"]).update((pred, label))
    with pytest.raises(ValueError, match=r"class must lie in 0\.\.3, got 7"):
        TwoBranchMetrics(CLASSES).update((pred, {**label, "class": torch.full((6,), 7)}))
    with pytest.raises(ValueError, match=r"threshold must lie in 0\.\.1, got 1\.5"):
        TwoBranchMetrics(CLASSES, thresholds=[1.5])
    with pytest.raises(NotComputableError, match="at least one sample"):
        TwoBranchMetrics(CLASSES).compute()


@pytest.mark.parametrize(
    ("pred", "found"),
    [
        (torch.zeros(6, 4, 2, 2, 2), r"a tensor \(6, 4, 2, 2, 2\)"),
        ([torch.zeros(4, 2, 2, 2)] * 6, r"a tensor \(4, 2, 2, 2\)"),
        ([{"logits": torch.zeros(4)}] * 6, r"a dictionary with logits \(4,\)"),
    ],
)
def test_refuses_the_output_of_another_kind_of_network(pred: Any, found: str) -> None:
    with pytest.raises(ValueError, match=rf"^the network must return a dictionary with logits .*, got {found}$"):
        TwoBranchMetrics(CLASSES).update((pred, batch()[1]))


def test_shows_its_parameters() -> None:
    assert repr(TwoBranchMetrics(["a"], 0.2)) == "TwoBranchMetrics(classes=['a'], threshold=0.2, thresholds=[0.2])"
