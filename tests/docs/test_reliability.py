"""What docs/reliability.md shows makes the very batch again."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kill_series import TINY

from monai_cryo.engines import SimulateBatch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.filterwarnings("ignore:parsing config_file", "ignore:'monai.bundle.__main__' found:RuntimeWarning")
def test_a_batch_that_was_no_number(bundle_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that is far too high spoils the second iteration."""
    monkeypatch.chdir(tmp_path)
    simulate, seen = SimulateBatch.__call__, []

    def keep(self: SimulateBatch, *given: Any, **options: Any) -> Any:
        seen.append(simulate(self, *given, **options))
        return seen[-1]

    monkeypatch.setattr(SimulateBatch, "__call__", keep)
    given = {"device": "cpu", "bundle_root": bundle_root, "config_file": bundle_root / "configs" / "train.yaml"}
    options = {**TINY, **given, "max_epochs": 1, "learning_rate": 1e30}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", "training", *words])
    with pytest.raises(RuntimeError, match="run"):
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    assert len(seen) == 2
    page = (ROOT / "docs" / "reliability.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {}
    exec(snippet, found)
    assert len(seen) == 3
    images, labels = seen[1]
    assert torch.equal(found["images"], images)
    assert torch.equal(found["labels"]["mask"], labels["mask"])
    assert not torch.equal(found["images"], seen[0][0])
