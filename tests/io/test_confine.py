"""Files that lists name: those of their own folder, others where they are allowed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from monai_cryo.data import load_labelled
from monai_cryo.io import named_file, particle_images, read_star, read_tomogram_list, star_text, write_mrc
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of lists, and one beside it."""
    for name in ("lists", "outside"):
        (tmp_path / name).mkdir()
        z, y, x = np.ogrid[-4:5, -4:5, -4:5]
        write_mrc(tmp_path / name / "own.mrc", (z**2 + y**2 + x**2 < 9).astype(np.float32), 10.0)
    return tmp_path / "lists"


READERS = [dataset, mask, library, star, tomograms]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("way", ["absolute", "above", "there and above"])
def test_what_lies_outside_is_refused_unless_allowed(reader, way, folder, monkeypatch):
    outside = folder.parent / "outside"
    (folder / "sub").mkdir()
    ways = {"absolute": str(outside / "own.mrc"), "above": "../outside/own.mrc"}
    named = ways.get(way, "sub/../../outside/own.mrc")
    monkeypatch.setenv("MONAI_CRYO_ALLOW", f"/no/such{os.pathsep}{outside}")
    reader(folder, named)
    for elsewhere in ("", "/no/such", str(folder / "sub"), str(outside) + "_too"):
        monkeypatch.setenv("MONAI_CRYO_ALLOW", elsewhere)
        with pytest.raises(ValueError, match=f"outside of its folder: MONAI_CRYO_ALLOW={folder.parent} allows it"):
            reader(folder, named)
    (outside / "own.mrc").unlink()  # whether it is there is not said
    with pytest.raises(ValueError, match="outside of its folder"):
        reader(folder, named)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("way", ["relative", "absolute", "there and back", "link"])
def test_what_lies_in_the_folder_is_read_from_anywhere(reader, way, folder, monkeypatch):
    (folder / "link.mrc").symlink_to(folder.parent / "outside" / "own.mrc")
    ways = {"absolute": str(folder / "own.mrc"), "there and back": "../lists/own.mrc", "link": "link.mrc"}
    reader(folder, ways.get(way, "own.mrc"))
    monkeypatch.chdir(folder.parent)
    reader(Path("lists"), ways.get(way, "own.mrc"))


@pytest.mark.parametrize("reader", [star, tomograms])
def test_relions_lists_name_files_from_their_project(reader, folder):
    deep = folder / "Extract" / "job001"
    deep.mkdir(parents=True)
    reader(deep, "own.mrc")
    (folder / "Extract" / "own.mrc").write_bytes(b"")  # the nearest is taken
    assert named_file("own.mrc", deep / "own.star", project=True) == folder / "Extract" / "own.mrc"
    with pytest.raises(ValueError, match="outside of its folder"):
        reader(deep, "../../own.mrc")


@pytest.mark.parametrize("reader", [dataset, mask, library])
def test_other_lists_name_files_from_their_own_folder(reader, folder):
    deep = folder / "deep"
    deep.mkdir()
    (deep / "own.mrc").write_bytes((folder / "own.mrc").read_bytes())
    reader(deep, "own.mrc")
    (folder / "above.mrc").write_bytes((folder / "own.mrc").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"deep/above\.mrc"):
        reader(deep, "above.mrc")


def test_a_link_does_not_lead_back_out(folder: Path) -> None:
    """`link/..` is the folder of the list, not the one above where the link leads."""
    (folder / "link").symlink_to(folder.parent / "outside")
    (folder.parent / "secret.mrc").write_bytes(b"")
    for project in (False, True):
        assert named_file("link/../secret.mrc", folder / "own.star", project=project) == folder / "secret.mrc"
    assert named_file("link/own.mrc", folder / "own.star") == folder / "link" / "own.mrc"
    (folder.parent / "also").symlink_to(folder)
    assert named_file("own.mrc", folder.parent / "also" / "own.star") == folder / "own.mrc"


def test_the_hint_does_not_allow_everything(folder: Path) -> None:
    with pytest.raises(ValueError, match="MONAI_CRYO_ALLOW=/no/such/place allows it"):
        named_file("/no/such/place/a.mrc", folder / "own.star")


def test_the_root_is_no_project(tmp_path: Path) -> None:
    assert named_file("etc/passwd", tmp_path / "a.star", project=True) == tmp_path / "etc" / "passwd"
