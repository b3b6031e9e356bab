"""Picks written for other programs and read back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monai_cryo._refusals import is_refusal
from monai_cryo.io.particles import positions, series_names, tomogram_names
from monai_cryo.io.picks import Picks, read_picks_csv, write_copick, write_picks_csv, write_relion
from monai_cryo.io.star import read_star

CLASSES = ["ribosome", "26S_cap"]


def picks(voxel_size: float = 13.68, names: tuple[str, ...] = ("26S_cap", "ribosome", "ribosome")) -> Picks:
    index = np.array([[1.25, 20, 30.5], [10, 11, 12], [0, 0, 0]])
    return Picks(index, list(names), np.array([0.9, 0.8, 0.7]), np.array([5, 6, 7]), voxel_size, (41, 60, 77))


def test_csv_round_trip(tmp_path: Path) -> None:
    write_picks_csv(tmp_path / "p.csv", {"a": picks(), "b": picks()})
    found = read_picks_csv(tmp_path / "p.csv")
    assert list(found) == ["a", "b"]
    index, names, scores = found["b"]
    np.testing.assert_allclose(index, picks().index, atol=0.005)
    assert names == picks().names
    assert scores.tolist() == [0.9, 0.8, 0.7]


WRITE = r"""
import numpy as np
from monai_cryo.io import Picks, write_copick, write_picks_csv, write_relion
picks = {"Zelle_\u00c41": Picks(np.zeros((1, 3)), ["ribosome"], np.ones(1), np.ones(1), 10.0, (9, 9, 9))}
write_picks_csv("p.csv", picks)
write_relion("p.star", picks, ["ribosome"])
write_copick("Picks", *picks.values(), *picks)
"""


def test_names_of_any_alphabet_whatever_the_locale(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", WRITE], cwd=tmp_path, env=os.environ | plain, check=True)
    assert list(read_picks_csv(tmp_path / "p.csv")) == ["Zelle_Ä1"]
    assert "Zelle_Ä1" in (tmp_path / "p.star").read_text(encoding="utf-8")


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("tomogram,class,x,y,z\na,ribosome,3,2,1\n", encoding="utf-8-sig")
    assert list(read_picks_csv(tmp_path / "p.csv")) == ["a"]


def test_csv_of_others_needs_class_and_position_only(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("class,x,y,z,more\nribosome,3,2,1,?\n")
    index, names, scores = read_picks_csv(tmp_path / "p.csv")[""]
    assert (index.tolist(), names, scores.tolist()) == ([[1, 2, 3]], ["ribosome"], [1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,x,y\na,1,2\n", "no column z"),
        ("class,x,y,z\na,1,2,?\n", "x, y, z and score must be numbers"),
        ("", "no column class"),
    ],
)
def test_csv_refusals(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=f"p.csv: {message}"):
        read_picks_csv(tmp_path / "p.csv")
    with pytest.raises(FileNotFoundError, match="no such file of picks"):
        read_picks_csv(tmp_path / "none.csv")


@pytest.mark.parametrize("style", ["relion4", "relion5"])
@pytest.mark.parametrize("pixel_size", [None, 3.42])
def test_relion_round_trip(tmp_path: Path, style: str, pixel_size: float | None) -> None:
    write_relion(tmp_path / "p.star", {"TS_1": picks()}, CLASSES, style, pixel_size=pixel_size)
    star = read_star(tmp_path / "p.star")
    size_px = [n * (1 if pixel_size is None else 4) for n in picks().shape]
    np.testing.assert_allclose(positions(star, 13.68, size_px=size_px), picks().index, atol=1e-5)
    assert tomogram_names(star) == ["TS_1"] * 3
    assert star.columns["rlnClassNumber"] == ["2", "1", "1"]
    assert star.numbers("rlnAutopickFigureOfMerit") == [0.9, 0.8, 0.7]
    assert set(star.numbers("rlnTomoTiltSeriesPixelSize")) == {pixel_size or 13.68}
    # RELION reads the first table of a list of coordinates, and takes optics from its tilt series where there are none
    assert re.findall(r"^data_\S*", star.text, re.MULTILINE) == ["data_particles"]


def test_warp_round_trip(tmp_path: Path) -> None:
    write_relion(tmp_path / "p.star", {"TS_1": picks(), "TS_2": picks(10.0)}, CLASSES, "warp", pixel_size=3.42)
    star = read_star(tmp_path / "p.star")
    assert set(star.columns["rlnMicrographName"]) == {"TS_1.tomostar", "TS_2.tomostar"}
    assert tomogram_names(star) == ["TS_1"] * 3 + ["TS_2"] * 3
    assert star.numbers("rlnCoordinateZ")[:3] == [1.25, 10, 0]  # voxels, whatever the tilt series' pixels
    one = replace(star, columns={k: v[:3] for k, v in star.columns.items()})
    np.testing.assert_allclose(positions(one, 13.68), picks().index, atol=1e-5)


def test_tomograms_of_many_pixel_sizes_in_one_file(tmp_path: Path) -> None:
    write_relion(tmp_path / "p.star", {"a": picks(), "b": picks(10.0)}, CLASSES, "relion4", pixel_size={"b": 2.5})
    star = read_star(tmp_path / "p.star")
    assert star.numbers("rlnTomoTiltSeriesPixelSize") == [13.68] * 3 + [2.5] * 3
    assert star.numbers("rlnCoordinateZ") == [1.25, 10, 0, 5, 40, 0]


def test_no_picks_make_a_table_without_rows(tmp_path: Path) -> None:
    none = Picks(np.empty((0, 3)), [], np.empty(0), np.empty(0, int), 10.0, (4, 5, 6))
    write_relion(tmp_path / "p.star", {"a": none}, CLASSES)
    text = (tmp_path / "p.star").read_text()
    assert "data_particles" in text
    assert text.rstrip().splitlines()[-1].startswith("_monaiCryoClassName")


def test_series_are_named_as_relion_and_warp_name_their_files() -> None:
    assert series_names(["rec_TS_1", "TS_2_13.68Apx", "TS_3_10Apx", "plain"]) == ["TS_1", "TS_2", "TS_3", "plain"]
    assert series_names(["TS_1_10.00Apx", "TS_1_20.00Apx"]) == ["TS_1_10.00Apx", "TS_1_20.00Apx"]


def test_relion5_centre_can_be_given(tmp_path: Path) -> None:
    write_relion(tmp_path / "p.star", {"t": picks(10.0)}, CLASSES, pixel_size=2.5, size_px={"t": (165, 240, 310)})
    x = read_star(tmp_path / "p.star").numbers("rlnCenteredCoordinateXAngst")
    assert x[2] == -310 * 2.5 / 2


def test_relion_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="t: picks of class 26S_cap, expected ribosome"):
        write_relion(tmp_path / "p.star", {"t": picks()}, ["ribosome"])
    with pytest.raises(ValueError, match="style must be one of relion5, relion4, warp, got 'm'"):
        write_relion(tmp_path / "p.star", {"a": picks()}, CLASSES, "m")
    assert not list(tmp_path.iterdir())


def test_copick_names_hold_what_copick_allows(tmp_path: Path) -> None:
    (file,) = write_copick(tmp_path, picks(names=("a/b c:d_",) * 3), "TS_1")
    assert file.name == "monai-cryo_0_a-b-c-d.json"


def test_classes_that_copick_would_call_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="would call two of the classes 70S ribosome, 70S_ribosome the same"):
        write_copick(tmp_path / "Picks", picks(names=("70S ribosome", "70S_ribosome", "70S ribosome")), "TS_1")
    assert not (tmp_path / "Picks").exists()


def test_copick_files(tmp_path: Path) -> None:
    files = write_copick(tmp_path / "Picks", picks(10.0), "TS_1")
    assert [f.name for f in files] == ["monai-cryo_0_26S-cap.json", "monai-cryo_0_ribosome.json"]
    content = json.loads(files[0].read_text())
    assert content.pop("points") == [
        {
            "location": {"x": 305.0, "y": 200.0, "z": 12.5},
            "transformation_": np.eye(4).tolist(),
            "instance_id": 0,
            "score": 0.9,
        }
    ]
    assert content == {
        "pickable_object_name": "26S-cap",
        "user_id": "monai-cryo",
        "session_id": "0",
        "run_name": "TS_1",
        "voxel_spacing": 10.0,
        "unit": "angstrom",
        "trust_orientation": False,
    }
    assert len(json.loads(files[1].read_text())["points"]) == 2
    mine = tmp_path / "Picks" / "me_1_ribosome.json"
    mine.write_text("{}")
    again = write_copick(tmp_path / "Picks", picks(10.0, names=("ribosome",) * 3), "TS_1")
    assert set((tmp_path / "Picks").iterdir()) == {mine, *again}  # the class that is no longer found is gone


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"class,x,y,z\na,1,2,nan\n", b"class,x,y,z\na,1,2\n", b"class,x,y,z,score\na,1,2,3,inf\n"]
)
def test_picks_that_are_no_table_or_no_numbers_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "picks.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"picks\.csv: ") as error:
        read_picks_csv(tmp_path / "picks.csv")
    assert is_refusal(error.value)
