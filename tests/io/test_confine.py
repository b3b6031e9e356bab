"""Files that lists name: any by default, only those of one folder where they are confined to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from monai_cryo.data import load_labelled
from monai_cryo.io import particle_images, read_star, read_tomogram_list, star_text, write_mrc
from monai_cryo.templates import load_templates


def dataset(folder: Path, named: str) -> None:
    (folder / "dataset.json").write_text(json.dumps({"test": [{"image": named, "class": "a"}]}))
    load_labelled(str(folder), ["a"])


def mask(folder: Path, named: str) -> None:
    items = [{"image": "own.mrc", "label": named, "class": "a"}]
    (folder / "dataset.json").write_text(json.dumps({"test": items}))
    load_labelled(str(folder), ["a"])


def library(folder: Path, named: str) -> None:
    content = {"box": 16, "voxel_size": 10, "classes": {"a": {"sources": named}}}
    (folder / "own.yaml").write_text(json.dumps(content))
    load_templates(folder / "own.yaml")


def star(folder: Path, named: str) -> None:
    (folder / "own.star").write_text(star_text("particles", {"rlnImageName": [named]}))
    particle_images(read_star(folder / "own.star"))


def tomograms(folder: Path, named: str) -> None:
    sizes = {f"rlnTomoSize{axis}": [16] for axis in "XYZ"}
    columns = {
        "rlnTomoName": ["t"],
        "rlnTomoTiltSeriesPixelSize": [10.0],
        **sizes,
        "rlnTomoReconstructedTomogram": [named],
    }
    (folder / "tomograms.star").write_text(star_text("global", columns | sizes))
    assert read_tomogram_list(folder / "tomograms.star")["t"].path is not None


def test_the_embedded_libraries_are_not_confined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONAI_CRYO_CONFINE", str(tmp_path))
    assert load_templates("robust").classes


@pytest.mark.parametrize("reader", [dataset, mask, library, star, tomograms])
@pytest.mark.parametrize("way", ["absolute", "above", "link"])
def test_what_lies_outside_is_refused_where_asked(reader, way, tmp_path, monkeypatch):
    inside, outside = tmp_path / "inside" / "lists", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
        z, y, x = np.ogrid[-4:5, -4:5, -4:5]
        write_mrc(folder / "own.mrc", (z**2 + y**2 + x**2 < 9).astype(np.float32), 10.0)
    (inside / "link.mrc").symlink_to(outside / "own.mrc")
    named = {"absolute": str(outside / "own.mrc"), "above": "../../outside/own.mrc", "link": "link.mrc"}[way]
    reader(inside, named)
    monkeypatch.setenv("MONAI_CRYO_CONFINE", str(tmp_path / "inside"))
    reader(inside, "own.mrc")
    (outside / "own.mrc").unlink()  # whether it is there is not said
    with pytest.raises(ValueError, match=f"outside of {tmp_path}/inside, to which MONAI_CRYO_CONFINE confines it"):
        reader(inside, named)
