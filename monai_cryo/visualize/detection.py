"""Precision over recall, a line for each class or picker: drawn, or as a table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from monai_cryo.io.atomic import csv_text, replacing, write_text
from monai_cryo.visualize.tomogram import COLOURS

__all__ = ["check_curve_file", "write_precision_recall"]


def check_curve_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that `write_precision_recall` can write.

    Raises
    ------
    FileNotFoundError, ValueError
        If its folder is not there, or its name ends otherwise than in .csv or .png.
    """
    file = Path(path)
    if file.suffix.lower() not in (".csv", ".png"):
        raise ValueError(f"{file}: precision over recall is written as .csv or .png")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"{file.parent}: no such folder for {file.name}")
    return file


def write_precision_recall(
    path: str | os.PathLike[str], curves: Mapping[str, Sequence[tuple[float, float, float]]], title: str = ""
) -> None:
    """Write precision-recall curves, whole or not at all.

    Parameters
    ----------
    path
        ``.csv``: a row a threshold, name, score, precision, recall; ``.png``: a picture.
    curves
        Name -> rows (score, precision, recall) by falling score, as of `monai_cryo.metrics.ClassDetection`.
    title
        Of the picture.

    Raises
    ------
    FileNotFoundError, ValueError
        See `check_curve_file`.
    """
    file = check_curve_file(path)
    if file.suffix.lower() == ".csv":
        values = [[name, *(f"{value:.6g}" for value in row)] for name, rows in curves.items() for row in rows]
        write_text(file, csv_text([["name", "score", "precision", "recall"], *values]))
        return
    with replacing(file) as temporary:
        figure = Figure(figsize=(5.4, 4.4), layout="constrained")
        ax = figure.subplots()
        for n, (name, rows) in enumerate(curves.items()):
            colour, style = COLOURS[n % len(COLOURS)], ("-", "--", ":")[n // len(COLOURS) % 3]
            recalls, precisions = [row[2] for row in rows], [row[1] for row in rows]
            dot = "o" if len(rows) == 1 else ""  # picks of one score are no line
            ax.plot(recalls, precisions, style, marker=dot, color=colour, label=name, linewidth=1.2)
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", title=title)
        ax.grid(alpha=0.3)
        if curves:
            ax.legend(fontsize=8)
        figure.savefig(temporary, dpi=110, format="png")
