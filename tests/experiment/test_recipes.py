"""Simulations as the bundle's configs have them, and what the verb writes of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from monai_cryo.cli import main
from monai_cryo.data import TemplateDataset
from monai_cryo.engines import SimulateBatch
from monai_cryo.experiment import RECIPES, load_without, read_configs, read_recipe
from monai_cryo.io import read_mrc
from monai_cryo.templates import load_templates

PAPERS, ALL = (
    ["ribosome", "proteasome", "tric", "membrane"],
    ["ribosome", "proteasome", "tric", "membrane", "background"],
)


@pytest.mark.parametrize(
    ("name", "classes", "structures"),
    [("paper", PAPERS, "6qzp"), ("robust", ALL, "4v7r"), ("tilt_series", ALL, "4v5d")],
)
def test_recipes_are_the_bundles(name, classes, structures):
    recipe = read_recipe(name)
    assert recipe.library.classes == classes
    assert structures in recipe.library.structures
    assert recipe.contrast == "dark"


def test_the_pipeline_is_that_of_training():
    """What is written of the paper's recipe is what its training sees, before the normalisation."""
    recipe, parser = read_recipe("paper"), read_configs(["train"])
    batch = default_collate([TemplateDataset(recipe.library, 2, 5, "train")[i] for i in range(2)])
    images, _ = SimulateBatch(recipe.pipeline)(batch)
    trained, _ = parser.get_parsed_content("prepare_batch")(batch)
    assert not torch.allclose(images, trained)
    assert torch.equal(parser.get_parsed_content("normalize").apply(images, [{}, {}]), trained)


def test_other_templates_and_other_configs_are_other_sets():
    assert read_recipe("tilt_series", "robust").library.structures == load_templates("robust").structures
    digests = [read_recipe(name).digest for name in RECIPES] + [read_recipe("tilt_series", "robust").digest]
    assert len(set(digests) - {read_recipe("robust").digest}) == 3  # robust and tilt series share their configs
    assert read_recipe("paper").digest == digests[1]


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="recipe must be one of fixed_parameters, paper, robust, tilt_series, got 'x'"):
        read_recipe("x")


def test_classes_can_be_left_out():
    library = load_templates("robust")
    kept = library.keep(["membrane", "ribosome"])
    assert kept.classes == ["ribosome", "membrane"]
    assert set(kept.amplitudes) == {"ribosome", "membrane"}
    assert len(kept.distractors) == len(library.distractors)
    assert load_without("background", "robust").classes == PAPERS
    with pytest.raises(ValueError, match="no class 'tree'"):
        library.keep(["tree"])


def test_simulate_writes_a_set(tmp_path, capsys):
    folder = tmp_path / "set"
    command = ["simulate", "--number", "5", "--recipe", "robust", "--output", str(folder), "--split", "validation"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(folder / "dataset.json")
    content = json.loads((folder / "dataset.json").read_text())
    assert (content["recipe"], content["contrast"], content["split"]) == ("robust", "protein dark", "validation")
    assert [item["class"] for item in content["test"]] == ALL
    image, voxel_size, _ = read_mrc(folder / content["test"][0]["image"])
    mask, _, _ = read_mrc(folder / content["test"][0]["label"])
    assert voxel_size == (13.68,) * 3
    assert mask.any()
    assert not read_mrc(folder / content["test"][4]["label"])[0].any()
    assert np.isfinite(image).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--recipe", "x"], "recipe must be one of"),
        (["--split", "x"], "split must be one of"),
        (["--shards", "9"], "shards must lie in 1..1"),
        (["--templates", "x.yaml"], "x.yaml"),
    ],
)
def test_simulate_refuses_in_one_line(tmp_path, capsys, change, message):
    assert main(["simulate", "--number", "5", "--output", str(tmp_path / "set"), *change]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "set").exists()
