"""Precision over recall: the points drawn are those of the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from monai_cryo.visualize.detection import write_precision_recall


def test_recall_runs_to_the_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are score, precision, recall."""
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (drawn.append(self), Path(path).write_text("")))
    write_precision_recall(tmp_path / "curves.png", {"a": [(0.9, 1.0, 0.2), (0.5, 0.6, 0.7)], "b": [(0.5, 0.3, 0.4)]})
    (ax,) = drawn[0].axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("recall", "precision")
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines}
    assert lines == {"a": ([0.2, 0.7], [1.0, 0.6]), "b": ([0.4], [0.3])}
    write_precision_recall(tmp_path / "curves.csv", {"a": [(0.9, 1.0, 0.2)]})
    assert (tmp_path / "curves.csv").read_text() == "name,score,precision,recall\na,0.9,1,0.2\n"
