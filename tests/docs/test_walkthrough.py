"""The walk-through of docs/templates.md, run as it stands there but for a tiny network and a few iterations."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from matplotlib import image as picture
from monai.bundle import ConfigParser

from monai_cryo.bundle import read_model

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "templates.md").read_text(encoding="utf-8")
CLASSES = ["ribosome_70s", "proteasome_20s", "proteasome_20s_one_cap", "groel", "fatty_acid_synthase"]
TINY = (
    " --features [2,4,4,8,8] --fc [8,8] --batch_size 5 --epoch_length 2 --max_epochs 1 --val_length 10"
    ' --snr "[1,10]" --precision float32'
)


def commands():
    """Shell commands of the walk-through, continued lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.split("## Walk-through", 1)[1], re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def run(command, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def walked(shared_data, tmp_path_factory):
    """Run every command in a copy of the checkout with the data in it; return the folder and what each one printed."""
    place = tmp_path_factory.mktemp("place")
    folder = place / "checkout"
    shutil.copytree(REPOSITORY / "examples" / "deepfinder", folder / "examples" / "deepfinder")
    (folder / "bundles").symlink_to(REPOSITORY / "bundles")
    (folder / "data").symlink_to(shared_data)
    allow, *lines = commands()
    printed = [run(f"{allow}\n{line}" + TINY * ("run training" in line), folder) for line in lines]
    return folder, printed


def test_it_has_every_step():
    found = commands()
    for step, wanted in zip(
        found, ("export MONAI_CRYO_ALLOW", "list", "mkdir", "show", "run training", "run evaluating"), strict=True
    ):
        assert wanted in step


@pytest.mark.slow
def test_the_five_classes_are_listed_and_drawn(walked):
    folder, printed = walked
    assert printed[0].startswith("5 classes, voxel size 13.68 Å, box 40")
    assert list(dict.fromkeys(line.split()[1] for line in printed[0].splitlines()[2:])) == CLASSES
    assert picture.imread(folder / "runs" / "deepfinder" / "templates.png").shape[0] > 1000


@pytest.mark.slow
def test_training_leaves_a_model_that_knows_them(walked):
    folder = walked[0] / "runs" / "deepfinder"
    assert {"model.pt", "checkpoint.pt", "metrics.json", "predictions.png"} <= {p.name for p in folder.iterdir()}
    model = read_model(folder / "model.pt")
    assert (model.classes, model.voxel_size, model.box) == (CLASSES, 13.68, 40)


@pytest.mark.slow
def test_evaluation_scores_fifteen_of_each_and_counts_the_rest(walked):
    folder = walked[0] / "runs" / "deepfinder" / "evaluation"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["classes"] == CLASSES
    assert [sum(row) for row in metrics["confusion_matrix"]] == [15] * 5
    assert metrics["n"] == 75
    assert sum(metrics["skipped"].values()) == 60
    assert (folder / "predictions.png").stat().st_size > 10_000


def test_the_library_of_the_page_is_one(tmp_path):
    """The YAML at the top has only options that exist: what is refused first is a file that is not there."""
    from monai_cryo.templates import load_templates

    block = re.search(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "lib.yaml").write_text(block[1], encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"class 'ribosome': no such source .*4v5d\.cif\.gz"):
        load_templates(tmp_path / "lib.yaml")
    for name in yaml.safe_load(block[1])["classes"]["groel"]:
        assert {"source"} < set(name)


def test_structures_are_held_out_as_the_page_says(shared_data, bundle_root, tmp_path, monkeypatch):
    monkeypatch.setenv("MONAI_CRYO_ALLOW", str(shared_data.resolve()))
    (hold_out,) = re.findall(r'`--hold_out "(.*?)"`', PAGE)
    parser = ConfigParser()
    parser.read_config([str(bundle_root / "configs" / f"{name}.yaml") for name in ("train", "quick")])
    example = REPOSITORY / "examples" / "deepfinder" / "templates.yaml"
    (tmp_path / "lib.yaml").write_text(example.read_text().replace("../../data", str(shared_data.resolve())))
    parser.update({"templates": str(tmp_path / "lib.yaml"), "hold_out": ast.literal_eval(hold_out)})
    assert "4v5d" not in parser.get_parsed_content("train::dataset").library.structures
    assert "4v5d" in parser.get_parsed_content("validate::dataset").library.structures
    assert "polnet10A_4v4r" not in parser.get_parsed_content("validate::dataset").library.structures
