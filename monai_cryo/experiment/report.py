"""The experiment's results as they lie on the disk: a Markdown page and a CSV of every run, set and threshold."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from monai_cryo.experiment.scoring import read_summary
from monai_cryo.io.atomic import table_text, write_text

__all__ = ["Score", "read_scores", "write_report"]

#: the paper's Table I, 1,051 real subtomograms of a rat neuron: without and with domain randomisation
PAPER = {"accuracy": (0.605, 0.818), "pixel_accuracy": (0.923, 0.940), "mean_iou": (0.205, 0.300)}
_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "pixel_accuracy": "pixel accuracy",
    "mean_iou": "mean IoU",
    "class_mean_iou": "class-mean IoU",
}
_MASKS = ("pixel_accuracy", "mean_iou", "class_mean_iou")
_LEAST_BASE = 0.05  # a score below which a percentage of it means nothing
#: sets that stand for all in comparisons of arms: no arm trains on anything like them
_JUDGES = ("tilt_series", "mpneumoniae_wbp", "mpneumoniae_deconv")


@dataclass(frozen=True)
class Score:
    """What one run scored on one set.

    Attributes
    ----------
    arm, seed, set
        Of what.
    summary
        Content of its file in ``scores/``.
    """

    arm: str
    seed: int
    set: str
    summary: dict[str, Any]

    @property
    def best(self) -> dict[str, Any] | None:
        """Scores of the masks at the run's own best threshold; None where the set has no masks."""
        best = self.summary["best_threshold"]
        return next((row for row in self.summary["by_threshold"] if row["threshold"] == best), None)

    @property
    def guess(self) -> float:
        """Accuracy of naming the commonest class every time."""
        counts = [sum(row) for row in self.summary["confusion_matrix"]]
        return float(max(counts) / sum(counts))

    def value(self, name: str) -> float | None:
        """Return a score: at threshold 0.5, or at the best one where the name ends in ``_best``."""
        if name.endswith("_best"):
            return None if self.best is None else self.best[name.removesuffix("_best")]
        found: float | None = self.summary[name]
        return found


def read_scores(output: Path) -> list[Score]:
    """Read every score in an experiment's folder, seeds in rising order."""
    scores = []
    for path in output.glob("runs/*/seed_*/scores/*.json"):
        summary = read_summary(path)
        run = path.parents[1]
        scores.append(Score(run.parent.name, int(run.name.removeprefix("seed_")), path.stem, summary))
    return sorted(scores, key=lambda score: (score.arm, score.seed, score.set))


def write_report(
    output: Path,
    scores: Sequence[Score],
    *,
    arms: Sequence[str],
    sets: Sequence[str],
    ablation: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> Path:
    """Write ``results.md`` and ``runs.csv``.

    Parameters
    ----------
    output
        Folder of the experiment.
    scores
        Of all its runs.
    arms, sets
        Order of rows and of tables; what has no score is left out.
    ablation
        Arms of the ablation, the full recipe first.
    left_out
        A line for each set that is not at hand.

    Returns
    -------
    Path
        ``results.md``.
    """
    table = _Table(scores, arms, sets)
    _write_csv(output / "runs.csv", scores)
    parts = ["# Results of the experiment", _HEAD, _budgets(output, table), _table_one(table)]
    parts += [_set_table(table, name) for name in table.sets]
    if sum(name in table.arms for name in ablation) > 1 and ablation[0] in table.arms:
        parts.append(_ablation(table, [name for name in ablation if name in table.arms]))
    if left_out:
        parts.append("## Sets left out\n\n" + "\n".join(f"- {line}" for line in left_out))
    write_text(output / "results.md", "\n\n".join(part for part in parts if part) + "\n")
    return output / "results.md"


_HEAD = (
    "Written by `python -m monai_cryo experiment`; every run, set and threshold is in `runs.csv`. Mean ± standard "
    "deviation over seeds. IoU: a wrong class scores 0. Masks are cut at probability 0.5, and at the threshold that "
    "serves each run best on that very set, which flatters it. All arms had the same budget."
)


class _Table:
    """Scores by arm and set, in the order asked for."""

    def __init__(self, scores: Sequence[Score], arms: Sequence[str], sets: Sequence[str]) -> None:
        self._by: dict[tuple[str, str], list[Score]] = {}
        for score in scores:
            self._by.setdefault((score.arm, score.set), []).append(score)
        self.arms = [a for a in arms if any(arm == a for arm, _ in self._by)]
        self.sets = [s for s in sets if any((arm, s) in self._by for arm in self.arms)]

    def runs(self, arm: str, set_name: str) -> list[Score]:
        return self._by.get((arm, set_name), [])

    def values(self, arm: str, set_name: str, name: str) -> list[float]:
        found = [score.value(name) for score in self.runs(arm, set_name)]
        return [value for value in found if value is not None]

    def mean(self, arm: str, set_name: str, name: str) -> float | None:
        values = self.values(arm, set_name, name)
        return statistics.fmean(values) if values else None


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.3f}"
    return f"{mean} ± {statistics.stdev(known):.3f}" if len(known) > 1 else mean


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _budgets(output: Path, table: _Table) -> str:
    rows = []
    for arm in table.arms:
        config = yaml.safe_load((output / "runs" / arm / "recipe.yaml").read_text(encoding="utf-8"))
        seeds = sorted({score.seed for name in table.sets for score in table.runs(arm, name)})
        iterations = config["max_epochs"] * config["epoch_length"]
        features = "-".join(map(str, config["features"]))
        rows.append([arm, ", ".join(map(str, seeds)), f"{iterations:,}", str(config["batch_size"]), features])
    return _markdown(["arm", "seeds", "iterations", "batch", "features"], rows)


def _table_one(table: _Table) -> str:
    """Lay the arms beside the paper's Table I."""
    without, others = "fixed_parameters", [arm for arm in ("paper", "robust") if arm in table.arms]
    if without not in table.arms or not others:
        return ""
    rows = []
    for name, (before, after) in PAPER.items():
        cells = [f"{after:.3f} ({_gain(before, after)})" if arm == "paper" else "-" for arm in others]
        rows.append(["the paper's rat neuron", _NAMES[name], f"{before:.3f}", *cells])
    for set_name in (name for name in _JUDGES if name in table.sets):
        for name in PAPER:
            key = name if name == "accuracy" else f"{name}_best"
            base = table.mean(without, set_name, key)
            cells = [
                f"{_spread(table.values(arm, set_name, key))} ({_gain(base, table.mean(arm, set_name, key))})"
                for arm in others
            ]
            rows.append([set_name, _NAMES[name], _spread(table.values(without, set_name, key)), *cells])
    text = (
        "The paper's real data are not public: its figures and ours are of different cells. Masks at each run's best "
        "threshold (the paper cut its baseline's at 0.2, the others at 0.5). In brackets: relative to fixed parameters."
    )
    return f"## Beside the paper's Table I\n\n{text}\n\n" + _markdown(["set", "score", without, *others], rows)


def _gain(before: float | None, after: float | None) -> str:
    if before is None or after is None or before < _LEAST_BASE:
        return "-"
    return f"{100 * (after / before - 1):+.0f} %"


def _set_table(table: _Table, set_name: str) -> str:
    known = [arm for arm in table.arms if table.runs(arm, set_name)]
    first = table.runs(known[0], set_name)[0]
    classes = first.summary["true_classes"]
    masked = first.best is not None
    head = ["arm", "accuracy", "balanced", *(f"recall {name}" for name in classes)]
    if masked:
        head += [*(_NAMES[name] for name in _MASKS), "best at", *(f"{_NAMES[name]}, best" for name in _MASKS)]
    rows = []
    for arm in known:
        runs = table.runs(arm, set_name)
        row = [arm, *(_spread([run.value(name) for run in runs]) for name in ("accuracy", "balanced_accuracy"))]
        row += [_spread([run.summary["recall"][name] for run in runs]) for name in classes]
        if masked:
            best = sorted({run.summary["best_threshold"] for run in runs if run.best is not None})
            row += [_spread([run.value(name) for run in runs]) for name in _MASKS]
            row.append(" to ".join(f"{value:g}" for value in dict.fromkeys((best[0], best[-1]))) if best else "-")
            row += [_spread([run.value(f"{name}_best") for run in runs]) for name in _MASKS]
        rows.append(row)
    about = f"{first.summary['n']} samples of {', '.join(classes)}; "
    about += f"always naming the commonest class scores {first.guess:.3f}."
    if not masked:
        about += " No masks."
    return f"## {set_name}: {first.summary['title']}\n\n{about}\n\n{_markdown(head, rows)}"


def _ablation(table: _Table, arms: Sequence[str]) -> str:
    """Lay each arm beside the full recipe, with the difference of the means."""
    base, sets = arms[0], [name for name in _JUDGES if name in table.sets]
    head = ["arm", *(f"{name}, {_NAMES[key]}" for name in sets for key in ("balanced_accuracy", "class_mean_iou"))]
    rows = []
    for arm in arms:
        row = [arm]
        for set_name in sets:
            for key in ("balanced_accuracy", "class_mean_iou"):
                cell = _spread(table.values(arm, set_name, key))
                here, full = table.mean(arm, set_name, key), table.mean(base, set_name, key)
                if arm != base and here is not None and full is not None:
                    cell += f" ({here - full:+.3f})"
                row.append(cell)
        rows.append(row)
    text = (
        f"One factor at a time out of `{base}`; in brackets the difference from it, which says nothing within its "
        "spread over seeds. Masks at 0.5."
    )
    return f"## Ablation\n\n{text}\n\n{_markdown(head, rows)}"


def _write_csv(path: Path, scores: Sequence[Score]) -> None:
    rows: list[dict[str, Any]] = []
    for score in scores:
        said = score.summary
        for masks in said["by_threshold"]:
            rows.append(
                {
                    **{"arm": score.arm, "seed": score.seed, "set": score.set, "n": said["n"], "guess": score.guess},
                    **{name: said[name] for name in ("accuracy", "balanced_accuracy")},
                    "threshold": masks["threshold"],
                    "is_best": int(masks["threshold"] == said["best_threshold"]),
                    **{name: masks[name] for name in _MASKS},
                    **{f"recall_{name}": value for name, value in said["recall"].items()},
                    **{f"iou_{name}": value for name, value in masks["iou"].items()},
                }
            )
    write_text(path, table_text(rows))
