"""Each benchmark runs at its smallest size and writes its figures; how fast it was is not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def numbers(value: object) -> list[float]:
    """All numbers in nested JSON."""
    if isinstance(value, dict | list):
        return [n for v in (value.values() if isinstance(value, dict) else value) for n in numbers(v)]
    return [value] if isinstance(value, int | float) else []
