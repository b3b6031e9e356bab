"""Each benchmark runs at its smallest size and writes its figures; how fast it was is not asserted."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_cryo.bundle import ModelRecord
from monai_cryo.io import read_mrc, write_mrc
from monai_cryo.networks import TwoBranchNet
from monai_cryo.transforms import Standardize

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
pytestmark = pytest.mark.slow
KEYS = {
    "simulation": {"pipeline", "peers", "scene"},
    "training": {"recipes"},
    "inference": {"network", "start_up", "threads"},
    "growth": {"studies"},
    "tomograms": {"tomograms", "threads"},
    "thresholds": {"thresholds"},
}


@pytest.mark.parametrize("name", KEYS)
def test_benchmark(name: str, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path)] if name == "growth" else []
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--quick", "--json", str(tmp_path / "figures.json"), *output],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text(), parse_constant=pytest.fail)
    assert set(figures) == {"benchmark", "quick", "machine"} | KEYS[name]
    assert figures["benchmark"] == name
    assert figures["quick"] is True
    assert {"cpu", "cores", "torch", "load_before", "load_after"} <= set(figures["machine"])
    assert numbers(figures[next(iter(sorted(KEYS[name] - {"threads"})))])
    if name == "growth":
        assert len(list(tmp_path.glob("growth_*.png"))) == len(figures["studies"])


def test_picking(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = partial(TwoBranchNet, num_classes=2, features=(2, 2, 3, 3, 4), fc=(4, 4))
    record = ModelRecord(["ribosome", "background"], 13.68, 40, "dark", Standardize(), network)
    torch.save(record.build().state_dict(), tmp_path / "model.pt")
    volume = np.random.default_rng(0).normal(size=(48, 64, 64)).astype(np.float32)
    volume[18:30, 20:32, 24:36] -= 2
    write_mrc(tmp_path / "t.mrc", volume, 13.68)
    (tmp_path / "truth.csv").write_text("class,x,y,z\nribosome,30,26,24\n")
    options = ["--model", "model.pt", "--quick", "--json", "figures.json"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "picking.py"), "truth.csv", "t.mrc", *options],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "figures.json").read_text(), parse_constant=pytest.fail)["tomograms"]["t"]
    assert list(study) == ["model", "blobs", "one_template"]
    assert study["blobs"]["curve"][0][1:] == [1.0, 1.0]
    assert (tmp_path / "figures.png").stat().st_size > 1000


def test_agreement(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(48, 48, 56)).astype(np.float32)
    write_mrc(tmp_path / "t.mrc", volume, 13.68)
    command = [sys.executable, str(FOLDER / "agreement.py"), "t.mrc", "--quick", "--json", "figures.json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "figures.json").read_text(), parse_constant=pytest.fail)["agreement"]
    assert study["places"] == 8
    assert 0 <= study["same"] <= 1
    assert [row["class"] for row in study["classes"]][:2] == ["ribosome", "proteasome"]


def test_a_tomogram_is_mirrored_until_it_is_large_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    tomograms = importlib.import_module("tomograms")
    volume = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    write_mrc(tmp_path / "small.mrc", volume, 10.0)
    tomograms.repeat_tomogram(tmp_path / "large.mrc", (8, 3, 9), 10.0, tmp_path / "small.mrc")
    large = read_mrc(tmp_path / "large.mrc")[0]
    assert np.array_equal(large, np.pad(volume, ((0, 5), (0, 0), (0, 4)), mode="symmetric")[:, :3])


def numbers(value: object) -> list[float]:
    """All numbers in nested JSON."""
    if isinstance(value, dict | list):
        return [n for v in (value.values() if isinstance(value, dict) else value) for n in numbers(v)]
    return [value] if isinstance(value, int | float) else []
