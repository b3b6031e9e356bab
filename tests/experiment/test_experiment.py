"""The whole command, tiny: it trains, scores, reports, and does nothing twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matplotlib import image as picture

from monai_cryo.cli import main
from monai_cryo.experiment import (
    REAL_SETS,
    LabelledSet,
    command,
    find_examples,
    find_real_sets,
    is_trained,
    load_set,
    read_plan,
    score_model,
    score_run,
    train_run,
)

TINY = {"features": [2, 2, 2, 4, 4], "fc": [4, 4], "batch_size": 2, "epoch_length": 2, "max_epochs": 2, "val_length": 4}
PLAN = {
    "scales": {"tiny": {"configs": ["quick"], "options": TINY, "samples": 5}},
    "arms": {"fixed_parameters": {"configs": ["train", "fixed_parameters"]}, "paper": {"configs": ["train"]}},
    "ablation": {"base": "paper", "arms": {"no_ema": {"ema": None}}},
}
SIMULATED = ["fixed_parameters", "paper", "robust", "tilt_series"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with a plan and a data folder of one "real" set: noise."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    from monai_cryo.io import write_mrc

    cell, random = folder / "data" / "real" / "mpneumoniae", np.random.RandomState(0)
    cell.mkdir(parents=True)
    items = []
    for n, name in enumerate(["ribosome", "membrane", "background", "ribosome"]):
        write_mrc(cell / f"{n}.mrc", random.standard_normal((40, 40, 40)).astype(np.float32), 13.68)
        mask = np.zeros((40, 40, 40), np.int8)
        mask[15:25, 15:25, 15:25] = name != "background"
        write_mrc(cell / f"{n}_mask.mrc", mask, 13.68)
        item = {"image": f"{n}.mrc", "image_deconvolved": f"{n}.mrc", "label": f"{n}_mask.mrc", "class": name}
        items.append(item)
    (cell / "dataset.json").write_text(json.dumps({"voxel_size": 13.68, "contrast": "protein dark", "test": items}))
    return folder


def arguments(folder: Path, *options: str) -> list[str]:
    return [
        "experiment",
        *("--scale", "tiny", "--plan", str(folder / "plan.yaml"), "--data", str(folder / "data")),
        *("--output", str(folder / "out"), *options),
    ]


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    """Return an experiment's folder with one arm and one seed, trained by the bundle's own command."""
    assert main(arguments(folder, "--arms", "paper", "--seeds", "0")) == 0
    return folder / "out"


@pytest.mark.slow
def test_it_leaves_results_and_pictures(trained):
    text = (trained / "results.md").read_text()
    for name in [*SIMULATED, "mpneumoniae_wbp", "mpneumoniae_deconv"]:
        assert f"\n## {name}: " in text
    assert "- mpneumoniae_wbp_background: no arm knows ribosome, membrane, background" in text
    assert "- ribosomes_70s: no " in text
    for name in ("figure_3", "figure_4", "figure_5", "curves"):
        assert picture.imread(trained / f"{name}.png").std() > 0.01
    assert (trained / "runs.csv").read_text().count("\n") == 1 + 6 * 10  # sets x thresholds


@pytest.mark.slow
def test_scores_are_those_of_the_best_model(trained):
    run = read_plan(trained.parent / "plan.yaml").runs(trained, ["paper"], [0])[0]
    entry = LabelledSet("x", "x", trained / "sets" / "paper", ("ribosome", "proteasome", "tric", "membrane"))
    kept = json.loads((run.folder / "scores" / "paper.json").read_text())
    assert kept["n"] == 5
    assert score_model(run.model, entry)["by_threshold"] == kept["by_threshold"]
    path = run.folder / "scores" / "paper.json"
    for other in ({"n": 9}, {"n": 9, "model": "another"}, {"n": 9, "dataset": "another"}):  # its own are kept
        path.write_text(json.dumps(kept | other))
        score_run(run, [replace(entry, name="paper")])
        assert json.loads(path.read_text())["n"] == (9 if len(other) == 1 else 5)
    path.write_text(json.dumps(kept, indent=1) + "\n")


@pytest.mark.slow
def test_what_is_done_is_not_done_again(trained, folder, monkeypatch, capsys):
    """A second seed is trained alone, and the page then tells of both."""
    trainings = []

    def fake(run):
        trainings.append(run.seed)
        shutil.copytree(run.folder.parent / "seed_0", run.folder, ignore=shutil.ignore_patterns("scores"))

    monkeypatch.setattr(command, "train_run", fake)
    assert main(arguments(folder, "--arms", "paper", "--seeds", "0,1")) == 0
    assert trainings == [1]
    assert "paper, seed 1: 2 of 2" in capsys.readouterr().out
    assert " ± 0.000 |" in (trained / "results.md").read_text()
    shutil.rmtree(trained / "runs" / "paper" / "seed_1")


@pytest.mark.slow
def test_a_training_cut_off_goes_on(trained, tmp_path):
    """With an epoch missing, the same command trains that epoch alone."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    run = read_plan(trained.parent / "plan.yaml").runs(tmp_path, ["paper"], [0])[0]
    assert is_trained(run, 2)
    assert not is_trained(run, 3)
    config = yaml.safe_load(run.config.read_text())
    run.config.write_text(yaml.safe_dump({**config, "max_epochs": 3}))
    train_run(run)
    checkpoint = torch.load(run.folder / "checkpoint.pt", weights_only=True)
    assert (checkpoint["done"]["epoch"], checkpoint["done"]["iteration"]) == (3, 6)
    run.model.unlink()
    assert not is_trained(run, 3)
    assert not (run.folder / "checkpoint.pt").exists()  # of a whole training without its model nothing can be had


@pytest.mark.slow
def test_a_training_that_fails_is_one_line(trained, tmp_path, capfd):
    shutil.copytree(trained / "runs", tmp_path / "runs")
    run = read_plan(trained.parent / "plan.yaml").runs(tmp_path, ["paper"], [0])[0]
    (run.folder / "checkpoint.pt").write_bytes(b"half")
    assert not is_trained(run, 2)
    with pytest.raises(ValueError, match="ended with exit code 1; the lines above say why"):
        train_run(run)
    assert "checkpoint.pt is no checkpoint" in capfd.readouterr().err


@pytest.mark.slow
def test_two_trainings_in_one_folder_are_refused(trained, capfd):
    """Also where the first was left behind by a killed command: the training itself holds the folder."""
    run = read_plan(trained.parent / "plan.yaml").runs(trained, ["paper"], [0])[0]
    hold = f"from monai_cryo.io import hold_folder; hold_folder({str(run.folder)!r}); print(flush=True); input()"
    left = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        left.stdout.readline()
        with pytest.raises(ValueError, match="ended with exit code 1"):
            train_run(run)
        assert f"another process is at work in {run.folder}" in capfd.readouterr().err
    finally:
        left.kill()
        left.communicate()


@pytest.mark.slow
def test_examples_are_the_first_of_each_class(trained):
    run = read_plan(trained.parent / "plan.yaml").runs(trained, ["paper"], [0])[0]
    entry = LabelledSet("x", "x", trained / "sets" / "paper", ("ribosome", "proteasome", "tric", "membrane"))
    examples = find_examples(run.model, entry)
    assert [example.true_class for example in examples] == list(entry.classes)
    turned = LabelledSet("x", "x", entry.folder, entry.classes[::-1])  # whatever the order of the model's own
    assert [example.true_class for example in find_examples(run.model, turned)] == list(turned.classes)
    assert all(example.mask.any() for example in examples)


def test_a_set_is_loaded_by_class(folder):
    cell = folder / "data" / "real" / "mpneumoniae"
    found = load_set(str(cell), ["membrane", "ribosome", "background"], "image", ["ribosome", "membrane"])
    assert [item["class"] for item in found.items] == [1, 0, 1]
    assert found.contrast == "dark"


def test_real_sets_are_found_where_they_are(folder, tmp_path):
    found, left_out = find_real_sets(folder / "data", [["ribosome", "membrane"], ["a"]])
    assert [entry.name for entry in found] == ["mpneumoniae_wbp", "mpneumoniae_deconv"]
    assert all((entry.folder / "dataset.json").is_file() for entry in found)
    assert len(left_out) == len(REAL_SETS) - 2
    assert find_real_sets(tmp_path, [["ribosome"]])[0] == []


def test_real_sets_hold_what_they_promise(shared_data):
    found, _ = find_real_sets(shared_data, [entry.classes for entry in REAL_SETS])
    assert len(found) == len(REAL_SETS)
    for entry in found:
        data = load_set(str(entry.folder), entry.classes, entry.image_key, entry.classes)
        assert {item["class"] for item in data.items} == set(range(len(entry.classes)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arms", "tree"], "arm must be one of"),
        (["--scale", "huge"], "scale must be one of tiny, got 'huge'"),
        (["--seeds", "1,1"], "seeds must be"),
        (["--plan", "none.yaml"], "no plan none.yaml"),
        (["--templates", "none.yaml"], "none.yaml"),
    ],
)
def test_refusals_are_one_line(folder, tmp_path, capsys, options, message):
    assert main([*arguments(folder), "--output", str(tmp_path / "out"), *options]) == 1
    err = capsys.readouterr().err
    assert err.startswith("monai_cryo: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_seeds_that_are_no_numbers(folder, capsys):
    with pytest.raises(SystemExit):
        main(arguments(folder, "--seeds", "a"))
    assert "must be whole numbers with commas, got 'a'" in capsys.readouterr().err
