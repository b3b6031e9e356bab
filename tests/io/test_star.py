"""Particle STAR files: what is read, and what is kept byte for byte when columns are added."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_cryo._refusals import is_refusal
from monai_cryo.io.star import read_star, star_text

RELION = """
# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnImagePixelSize #2
           1     2.619996


# version 30001

data_particles

loop_ 
_rlnMicrographName #1 
_rlnCoordinateX #2 
_rlnImageName #3 
_rlnClassNumber #4 
_rlnOpticsGroup #5 
TS_1.mrc  2512.000000 000001@Extract/a.mrcs            7            1 
'TS 2.mrc'  21.5 000002@Extract/a.mrcs            1            1 
 

# the end
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "particles.star"
    path.write_bytes(text.encode())
    return path


def test_columns_and_optics_are_read(tmp_path: Path) -> None:
    star = read_star(written(tmp_path, RELION))
    assert len(star) == 2
    assert star.columns["rlnMicrographName"] == ["TS_1.mrc", "TS 2.mrc"]
    assert star.numbers("rlnCoordinateX") == [2512.0, 21.5]
    assert star.optics["1"]["rlnImagePixelSize"] == "2.619996"


@pytest.mark.parametrize(("newline", "mark"), [("\n", ""), ("\r\n", ""), ("\r\n", "\ufeff")])
def test_added_columns_leave_every_other_byte(tmp_path: Path, newline: str, mark: str) -> None:
    text = mark + RELION.replace("\n", newline)
    star = read_star(written(tmp_path, text))
    out = tmp_path / "out.star"
    star.write(out, {"monaiCryoClassName": ["80S ribosome", "tric"], "monaiCryoClassProbability": [0.75, 1.0]})
    result = out.read_bytes().decode()
    added = "_monaiCryoClassName #6", "_monaiCryoClassProbability #7", "'80S ribosome'", "tric", "0.750000", "1.000000"
    back = result
    for word in added:
        assert result.count(word) == 1
    for tag in added[:2]:
        back = back.replace(tag + newline, "")
    back = back.replace(" '80S ribosome'     0.750000", "").replace("         tric     1.000000", "")
    assert back == text
    assert read_star(out).columns["monaiCryoClassName"] == ["80S ribosome", "tric"]


@pytest.mark.parametrize(
    "name", ["data_001", "DATA_1", "save_x", "loop_", "stop_", "global_", "?", ".", "_a", "a#b", "it's"]
)
def test_names_that_mean_something_in_star_files_come_back(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, star_text("particles", {"rlnTomoName": [name, "TS_1"], "rlnCoordinateX": [1.0, 2.0]}))
    assert read_star(path).columns["rlnTomoName"] == [name, "TS_1"]


def test_a_column_that_is_there_is_replaced_in_place(tmp_path: Path) -> None:
    star = read_star(written(tmp_path, RELION))
    assert star.with_columns({"rlnClassNumber": [2, 3]}) == RELION.replace(
        "            7            1 ", "            2            1 "
    ).replace("a.mrcs            1            1 ", "a.mrcs            3            1 ")


def test_last_row_without_a_line_end(tmp_path: Path) -> None:
    text = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n3 4"
    star = read_star(written(tmp_path, text))
    assert star.with_columns({"rlnClassNumber": [1, 2]}).splitlines() == [
        *text.splitlines()[:4],
        "_rlnClassNumber",
        "1 2            1",
        "3 4            2",
    ]


def test_a_comment_between_rows_stays(tmp_path: Path) -> None:
    text = "data_particles\nloop_\n_rlnCoordinateX #1\n1\n# bad one next\n2\n\ndata_other\n_a b\n"
    star = read_star(written(tmp_path, text))
    assert "\n# bad one next\n" in star.with_columns({"rlnClassNumber": [1, 2]})


def test_a_written_table_is_read_back(tmp_path: Path) -> None:
    path = written(tmp_path, star_text("particles", {"rlnCoordinateX": [1.5, 2], "rlnTomoName": ["a b", "c"]}))
    assert read_star(path).columns == {"rlnCoordinateX": ["1.500000", "2"], "rlnTomoName": ["a b", "c"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_particles\nloop_\n_rlnAngleRot\n1\n", "no table of particles"),
        ("hello\n", "not a STAR file"),
        ("data_particles\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2 3\n", "not a STAR file"),
    ],
)
def test_refusals_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"particles.star: {message}"):
        read_star(written(tmp_path, text))


def test_rows_over_several_lines_are_refused(tmp_path: Path) -> None:
    star = read_star(written(tmp_path, "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1\n2\n3\n4\n"))
    with pytest.raises(ValueError, match="one particle on each line"):
        star.with_columns({"rlnClassNumber": [1, 2]})


def test_missing_file_column_and_length(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such STAR file"):
        read_star(tmp_path / "none.star")
    star = read_star(written(tmp_path, RELION))
    with pytest.raises(ValueError, match="no column _rlnCoordinateZ"):
        star.numbers("rlnCoordinateZ")
    with pytest.raises(ValueError, match="must hold numbers"):
        star.numbers("rlnImageName")
    with pytest.raises(ValueError, match="has 1 values for 2 particles"):
        star.with_columns({"rlnClassNumber": [1]})


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e999", "x"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, word: str) -> None:
    (tmp_path / "a.star").write_text(star_text("particles", {"rlnCoordinateX": ["1.0", word]}))
    with pytest.raises(ValueError, match="column _rlnCoordinateX must hold") as error:
        read_star(tmp_path / "a.star").numbers("rlnCoordinateX")
    assert is_refusal(error.value)


def test_a_table_that_would_not_be_the_same_again_is_refused(tmp_path: Path) -> None:
    text = "data_particles\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2 # a comment at the end\n"
    (tmp_path / "a.star").write_text(text)
    star = read_star(tmp_path / "a.star")
    with pytest.raises(ValueError, match="one particle on each line") as error:
        star.with_columns({"monaiCryoClassName": ["x"]})
    assert is_refusal(error.value)


def test_an_optics_table_in_other_letters_is_none(tmp_path: Path) -> None:
    text = star_text("optics", {"rlnopticsgroup": [1]}) + star_text("particles", {"rlnCoordinateX": [1.0]})
    (tmp_path / "a.star").write_text(text)
    assert read_star(tmp_path / "a.star").optics == {}
