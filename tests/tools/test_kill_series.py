"""A training that is really killed, again and again, ends as the one that was left alone."""

from __future__ import annotations

import pytest
import torch
from kill_series import TINY, differences, kill_series


@pytest.mark.slow
def test_kills_leave_no_trace(tmp_path):
    found = kill_series(tmp_path, kills=2, seed=1, options={**TINY, "max_epochs": 2})
    assert found["kills"] >= 2
    assert found["series"] >= 1
    assert found["differences"] == []


def test_differences_are_found():
    a = {"x": [torch.zeros(2), 1], "y": "same"}
    assert differences(a, {"x": [torch.zeros(2), 1], "y": "same"}) == []
    assert differences(a, {"x": [torch.tensor([0, 1e-30]), 1], "y": "other"}) == ["/x/0", "/y"]
    assert differences(a, {"x": [torch.zeros(2)], "z": 0}) == [": other names", "/x: 2 and 1"]
    assert differences([float("inf")], [float("nan")]) == ["/0"]
