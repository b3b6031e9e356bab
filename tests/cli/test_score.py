"""``score``: picks and labels against true ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from monai_cryo.cli import main
from monai_cryo.io import write_mrc

TRUTH = "class,x,y,z\nribosome,10,10,10\nribosome,30,10,10\ntric,50,10,10\n"
FOUND = "tomogram,class,x,y,z,score\nt,70S,11,10,10,0.9\nt,70S,90,10,10,0.8\nt,tric,50,12,10,0.7\n"


def test_picks(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "truth.csv").write_text(TRUTH)
    (tmp_path / "found.csv").write_text(FOUND)
    argv = ["score", str(tmp_path / "found.csv"), str(tmp_path / "truth.csv"), "--distance", "3"]
    assert main([*argv, "--same", "70S=ribosome", "--output", str(tmp_path / "s.json")]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[1].split() == ["ribosome", "2", "2", "0.500", "0.500", "0.500", "0.500", "0.500"]
    assert "macro F1 0.750" in said
    assert json.loads((tmp_path / "s.json").read_text())["classes"]["tric"]["f1"] == 1


def test_labels(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a, b = np.zeros((4, 4, 4), np.int8), np.zeros((4, 4, 4), np.int8)
    a[0, 0, :2], b[0, 0, 1:3], b[1] = 1, 1, 2
    write_mrc(tmp_path / "a.mrc", a, 10.0)
    write_mrc(tmp_path / "b.mrc", b, 10.0)
    assert main(["score", str(tmp_path / "a.mrc"), str(tmp_path / "b.mrc")]) == 0
    assert capsys.readouterr().out.splitlines() == ["label 1: IoU 0.333", "label 2: IoU 0.000", "mean IoU 0.167"]


@pytest.mark.parametrize(
    ("found", "truth", "more", "message"),
    [
        ("found.csv", "truth.csv", [], "within a --distance in voxels"),
        ("found.csv", "truth.csv", ["--distance", "3", "--same", "x"], "--same must read NAME=TRUE"),
        ("found.csv", "x.mrc", ["--distance", "3"], "expected two CSV files or two MRC files"),
        ("nowhere.csv", "truth.csv", ["--distance", "3"], "no such file of picks"),
        ("nowhere.mrc", "x.mrc", [], "no such file"),
    ],
)
def test_refusals(
    tmp_path: Path, capsys: pytest.CaptureFixture, found: str, truth: str, more: list[str], message: str
) -> None:
    (tmp_path / "truth.csv").write_text(TRUTH)
    (tmp_path / "found.csv").write_text(FOUND)
    assert main(["score", str(tmp_path / found), str(tmp_path / truth), *more]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
