"""What the model that comes with the bundle does: not its figures, but that nothing has taken them from it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_cryo.cli import main
from monai_cryo.io import read_mrc, write_mrc
from monai_cryo.physics.resampling import resample

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tilt_series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate eight tilt series of each class, of the unseen library."""
    folder = tmp_path_factory.mktemp("sets") / "tilt_series"
    argv = ["simulate", "--number", "40", "--seed", "77", "--recipe", "tilt_series", "--output", str(folder)]
    assert main(argv) == 0
    return folder


def evaluate(bundle_root: Path, dataset_dir: Path, output_dir: Path, **options: object) -> dict[str, float]:
    parser = ConfigParser()
    parser.read_config(str(bundle_root / "configs" / "evaluate.yaml"))
    parser.update({"dataset_dir": str(dataset_dir), "output_dir": str(output_dir), "device": "cpu", **options})
    parser.get_parsed_content("evaluator").run()
    recall: dict[str, float] = json.loads((output_dir / "metrics.json").read_text())["recall"]
    return recall


def test_it_names_what_it_never_saw(bundle_root: Path, tilt_series: Path, tmp_path: Path) -> None:
    recall = evaluate(bundle_root, tilt_series, tmp_path)
    assert np.mean(list(recall.values())) > 0.9


@pytest.mark.parametrize("image_key", ["image", "image_deconvolved"])
def test_it_reads_a_real_cell(bundle_root: Path, shared_data: Path, image_key: str, tmp_path: Path) -> None:
    recall = evaluate(bundle_root, shared_data / "real" / "mpneumoniae", tmp_path, image_key=image_key)
    assert min(recall["ribosome"], recall["membrane"]) > 0.95
    assert recall["background"] > 0.8


def test_a_particle_keeps_its_class_at_any_voxel_size_and_contrast(tilt_series: Path, tmp_path: Path) -> None:
    """As labs have it: boxes of 8.7, 12, 13.68 and 21 Å, protein dark or bright."""
    items = json.loads((tilt_series / "dataset.json").read_text())["test"]
    chosen = {name: next(item for item in items if item["class"] == name) for name in ("ribosome", "tric")}
    found = []
    for sign, more in ((1.0, []), (-1.0, ["--invert"])):
        folder = tmp_path / f"in{sign:g}"
        folder.mkdir()
        for name, item in chosen.items():
            image, (voxel_size, *_), _ = read_mrc(tilt_series / item["image"])
            for size in (8.7, 12.0, 13.68, 21.0):
                volume = sign * resample(torch.from_numpy(image), voxel_size, size)
                write_mrc(folder / f"{name}_{size}.mrc", volume.numpy(), size)
        out = tmp_path / f"out{sign:g}"
        assert main(["classify", str(folder), "--output", str(out), "--device", "cpu", *more]) == 0
        with (out / "predictions.csv").open() as stream:
            found += [(Path(row["file"]).name.split("_")[0], row["class"]) for row in csv.DictReader(stream)]
    assert len(found) == 16
    assert all(name == given for name, given in found), found
