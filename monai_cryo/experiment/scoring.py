"""Models judged on test sets, by the bundle's own evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_cryo.bundle import read_model
from monai_cryo.experiment.plan import Run
from monai_cryo.experiment.recipes import read_configs
from monai_cryo.experiment.sets import LabelledSet
from monai_cryo.handlers import PredictionGallery
from monai_cryo.io.atomic import write_text
from monai_cryo.io.digest import sha256
from monai_cryo.visualize.predictions import Example

__all__ = ["THRESHOLDS", "find_examples", "score_model", "score_run"]

#: of a mask's probability: each is tried, 0.5 and the best are shown
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def score_run(run: Run, sets: list[LabelledSet]) -> None:
    """Score a trained run on every set whose classes it knows, into ``scores/SET.json``.

    What is there of this very model and list of samples is kept.
    """
    classes, model = read_model(run.model).classes, sha256(run.model)
    for entry in sets:
        path = run.folder / "scores" / f"{entry.name}.json"
        if not set(entry.classes) <= set(classes):
            continue
        of = {"model": model, "dataset": sha256(entry.folder / "dataset.json")}
        if path.is_file() and of.items() <= read_summary(path).items():
            continue
        scores = {"set": entry.name, "title": entry.title, "true_classes": entry.classes, **of}
        scores |= score_model(run.model, entry)
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(scores, indent=1) + "\n")


def read_summary(path: Path) -> dict[str, Any]:
    """Read what `score_run` wrote.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no scores: delete it, and the model is scored again") from error


def score_model(model: Path, entry: LabelledSet) -> dict[str, Any]:
    """Return the summary of :class:`monai_cryo.metrics.TwoBranchMetrics` at all `THRESHOLDS`."""
    parser = _evaluation(model, entry)
    parser["metrics::thresholds"] = list(THRESHOLDS)
    parser["handlers"] = [{**parser["handlers::0"], "desc": f"scoring {entry.name}"}]
    parser.get_parsed_content("evaluator").run()
    summary: dict[str, Any] = parser.get_parsed_content("metrics").summary
    return summary


def find_examples(model: Path, entry: LabelledSet, per_class: int = 1) -> list[Example]:
    """Return what a model says of the first samples of each class."""
    parser = _evaluation(model, entry)
    parser["handlers"] = []
    data = parser.get_parsed_content("labelled")
    first: dict[int, list[Any]] = {}
    for item in data.items:
        first.setdefault(item["class"], []).append(item)
    parser["dataset::data"] = [item for items in first.values() for item in items[:per_class]]
    network = read_model(model)
    gallery = PredictionGallery(network.classes, per_class=per_class, voxel_size=network.voxel_size)
    evaluator = parser.get_parsed_content("evaluator")
    gallery.attach(evaluator)
    evaluator.run()
    order = sorted(gallery.examples, key=lambda n: entry.classes.index(network.classes[n]))  # whatever the model's
    return [example for n in order for example in gallery.examples[n]]


def _evaluation(model: Path, entry: LabelledSet) -> ConfigParser:
    parser = read_configs(["evaluate"])
    parser["ckpt"], parser["dataset_dir"] = str(model), str(entry.folder)
    parser["image_key"] = entry.image_key
    parser["labelled"] = {
        "_target_": "monai_cryo.experiment.load_set",
        "dataset_dir": "@dataset_dir",
        "classes": "@classes",
        "image_key": "@image_key",
        "wanted": list(entry.classes),
    }
    return parser
