"""What a run was made with stands in plain values, and is that of this machine."""

from __future__ import annotations

import json
import platform
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from packaging.requirements import Requirement
from packaging.version import Version

import monai_cryo
from monai_cryo.bundle import find_provenance, provenance


def test_what_a_run_is_made_with():
    found = find_provenance(7, torch.device("cpu"))
    assert found["seed"] == 7
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["monai_cryo"] == monai_cryo.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["ranks"] == 1
    assert found["device"].startswith("cpu (")
    assert found["config"] is None
    assert json.loads(json.dumps(found)) == found


def test_the_versions_are_those_of_all_that_is_declared():
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    declared = {Requirement(text).name for text in project["dependencies"]}
    found = find_provenance(0, "cpu")["versions"]
    assert found.keys() == declared | {"python", "monai_cryo"}
    assert all(Version(found[name]) for name in declared)
    assert provenance._version("no such package") is None


def test_the_config_is_the_one_that_asks():
    parser = ConfigParser(
        {
            "seed": 3,
            "where": {"_target_": "pathlib.Path", "_args_": ["x"]},
            "shown": "%seed",
            "found": {"_target_": "monai_cryo.bundle.find_provenance", "seed": "@seed", "device": "cpu"},
        }
    )
    parser["seed"] = 4
    parser["object"] = np.float32
    found = parser.get_parsed_content("found")
    assert found["seed"] == 4
    assert (found["config"]["seed"], found["config"]["shown"]) == (4, 4)
    assert found["config"]["where"] == {"_target_": "pathlib.Path", "_args_": ["x"]}
    assert "float32" in found["config"]["object"]
    json.dumps(found)


def test_the_commit_is_that_of_the_checkout(tmp_path):
    assert provenance._commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    try:
        subprocess.run([*git, "init", "-q"], check=True)
    except FileNotFoundError:
        pytest.skip("no git")
    assert provenance._commit(tmp_path) is None  # nothing is committed
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    clean = provenance._commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert provenance._commit(tmp_path) == f"{clean}-dirty"
