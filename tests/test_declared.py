"""What pyproject.toml declares can be had: no dependency asks for more than the least that is promised."""

from __future__ import annotations

import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
DECLARED = {found.name: found for found in map(Requirement, PROJECT["dependencies"])}


@pytest.mark.parametrize("name", DECLARED)
def test_the_least_version_suits_the_others(name: str) -> None:
    """As those that are installed say."""
    least = next(s.version for s in DECLARED[name].specifier if s.operator == ">=")
    for other in DECLARED:
        for asked in map(Requirement, requires(other) or ()):
            if asked.name == name and (asked.marker is None or asked.marker.evaluate({"extra": ""})):
                assert asked.specifier.contains(least), f"{other} asks for {asked}"
