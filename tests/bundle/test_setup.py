"""Set-up is quiet: nothing that it prints looks like an error."""

from __future__ import annotations

import shutil
import subprocess

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
