"""What the README shows works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from monai_cryo import cli

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", "bundles/subtomogram/docs/README.md", *[f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")]]


def test_the_python_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["subtomogram"].shape == (1, 40, 40, 40)
    again = names["image_it"](names["posed"], randomize=False)
    torch.testing.assert_close(again, names["subtomogram"])
    assert "defocus_um" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    folder = (ROOT / page).parent
    targets = re.findall(r"\]\(([^)#\s]+?)(?:#[^)]*)?\)", (ROOT / page).read_text())
    missing = [t for t in targets if not t.startswith("http") and not (folder / t).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_commands_can_be_read(page):
    """Every option and value, also of those that go on behind a backslash."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    for command in re.findall(r"^python -m monai_cryo (.+)$", text, re.MULTILINE):
        cli.build_parser().parse_args(shlex.split(command, comments=True))
