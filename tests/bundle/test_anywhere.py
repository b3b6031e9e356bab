"""Every config runs from any folder, out of the checkout and out of the wheel.

Out of the checkout `multi_gpu_train` runs in `test_subtomogram`, for it has processes of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from monai_cryo.io import write_mrc

TINY = {
    "features": [2, 2, 2, 2, 2],
    "fc": [4, 4],
    "batch_size": 5,
    "epoch_length": 2,
    "max_epochs": 1,
    "val_length": 5,
    "precision": "float32",
}
EACH_ALONE = {"dataset_dir": "boxes", "batch_size": 1}
TRAINED = {"model.pt", "checkpoint.pt", "metrics.json", "predictions.png", "parameters.csv"}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with two labelled subtomograms and two tomograms in it."""
    rng = np.random.default_rng(0)
    for folder, shape in (("boxes", (40, 40, 40)), ("tomograms", (16, 24, 48))):
        (tmp_path / folder).mkdir()
        for name in ("x", "y"):
            write_mrc(tmp_path / folder / f"{name}.mrc", rng.normal(size=shape).astype(np.float32), 13.68)
    mask = np.zeros((40, 40, 40), np.int8)
    mask[12:28, 12:28, 12:28] = 1
    write_mrc(tmp_path / "mask.mrc", mask, 13.68)
    items = [{"image": f"{name}.mrc", "label": "../mask.mrc", "class": "ribosome"} for name in ("x", "y")]
    (tmp_path / "boxes" / "dataset.json").write_text(json.dumps({"contrast": "protein dark", "test": items}))
    monkeypatch.setenv("MONAI_CRYO_ALLOW", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "kind", "options", "left"),
    [
        ("train", "train", TINY, TRAINED),
        ("train quick", "train", TINY, TRAINED),
        ("train fixed_parameters", "train", TINY, TRAINED),
        ("train robust", "train", TINY, TRAINED),
        ("evaluate", "infer", EACH_ALONE, {"metrics.json", "predictions.png"}),
        ("inference", "infer", EACH_ALONE, {"predictions.csv"}),
        ("tomogram", None, {"tomograms": "tomograms"}, {"x_labels.mrc", "y_labels.mrc", "picks.csv"}),
    ],
)
def test_every_config_from_another_folder(
    bundle_root: Path,
    elsewhere: Path,
    names: str,
    kind: str | None,
    options: dict[str, object],
    left: set[str],
) -> None:
    """Two iterations leave their results where the config says, below the current folder; a training goes on."""
    before = set(bundle_root.rglob("*"))

    def run(**more: object) -> ConfigWorkflow:
        flow = ConfigWorkflow(
            workflow_type=kind,
            config_file=[str(bundle_root / "configs" / f"{name}.yaml") for name in names.split()],
            meta_file=str(bundle_root / "configs" / "metadata.json"),
            logging_file=str(bundle_root / "configs" / "logging.conf"),
            bundle_root=str(bundle_root),
            device="$torch.device('cpu')",
            **{**options, **more},
        )
        flow.initialize()
        try:
            flow.run()
            assert not flow.check_properties()  # those that MONAI wants of a training and of an inference
        finally:
            flow.finalize()
        return flow

    run()
    (results,) = (elsewhere / "runs").iterdir()
    assert left <= {path.name for path in results.iterdir()}
    if kind == "train":  # longer than it was meant to be, whatever its schedule
        state = run(max_epochs=2, resume="auto").parser.get_parsed_content("train#trainer").state
        assert (state.epoch, state.iteration) == (2, 4)
    assert before == set(bundle_root.rglob("*"))


@pytest.mark.slow
def test_all_configs_of_the_installed_wheel(bundle_root: Path, elsewhere: Path) -> None:
    """Built offline, installed beside the packages that are there, it finds its own bundle."""

    def run(*command: object, folder: Path = elsewhere, ranks: int = 1) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(elsewhere / "installed")}
        words = [sys.executable, "-m", *map(str, command)]
        if ranks > 1:
            words[2:2] = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), "-m"]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run("hatchling", "build", "-t", "wheel", "-d", elsewhere / "built", folder=bundle_root.parents[1])
    (wheel,) = (elsewhere / "built").glob("*.whl")
    run("pip", "install", "-qq", "--no-index", "--no-deps", "--target", elsewhere / "installed", wheel)
    installed = Path(run("monai_cryo", "bundle").strip())
    assert installed.is_relative_to(elsewhere / "installed")
    for begin, names, options, left in (
        ("training", "train quick", TINY, TRAINED),
        ("training", "train fixed_parameters", TINY, TRAINED),
        ("training", "train robust quick", TINY, TRAINED),
        ("training", "train multi_gpu_train", {**TINY, "batch_size": 4, "val_length": 4}, TRAINED),
        ("evaluating", "evaluate", EACH_ALONE, {"metrics.json"}),
        ("inferring", "inference", EACH_ALONE, {"predictions.csv"}),
        ("inferring", "tomogram", {"tomograms": "tomograms"}, {"picks.csv"}),
    ):
        configs = [str(installed / "configs" / f"{name}.yaml") for name in names.split()]
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        results = elsewhere / "results" / names.replace(" ", "_")
        words += ["--output_dir", results]
        command = ["monai.bundle", "run", begin, "--bundle_root", installed, "--config_file", configs]
        run(*command, *words, ranks=2 if "multi" in names else 1)
        assert {path.name for path in results.iterdir()} >= left
