"""Set-up is quiet, and the source distribution holds what its own tests need."""

from __future__ import annotations

import shutil
import subprocess
import tomllib

import pytest


def test_pip_says_errors_only(bundle_root):
    if shutil.which("make") is None:
        pytest.skip("no make")
    done = subprocess.run(
        ["make", "-n", "--always-make", "setup"], cwd=bundle_root.parents[1], capture_output=True, text=True, check=True
    )
    installs = [line for line in done.stdout.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert all(" -qq " in line for line in installs)  # one -q still shows warnings about what is being replaced


def test_the_source_distribution_holds_what_its_tests_need(bundle_root):
    settings = tomllib.loads((bundle_root.parents[1] / "pyproject.toml").read_text())["tool"]
    needed = settings["pytest"]["ini_options"]
    included = settings["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {*needed["testpaths"], *needed["pythonpath"]} <= set(included)
