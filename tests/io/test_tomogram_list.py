"""RELION 5's ``tomograms.star``: what is read of it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_cryo._refusals import is_refusal
from monai_cryo.io import read_tomogram_list

# as RELION 5.0 writes it, but for columns that say nothing here
TEXT = """
# version 50001

data_global

loop_ 
_rlnTomoName #1 
_rlnTomoTiltSeriesStarFile #2 
_rlnTomoHand #3 
_rlnTomoTiltSeriesPixelSize #4 
_rlnTomoTomogramBinning #5 
_rlnTomoSizeX #6 
_rlnTomoSizeY #7 
_rlnTomoSizeZ #8 
_rlnTomoReconstructedTomogram #9 
Position_1 Align/job5/Position_1.star -1.0 2.390000 6.000000 4092 4090 1391 Tomograms/job6/tomograms/rec_Position_1.mrc 
Position_2 Align/job5/Position_2.star -1.0 2.390000 6.000000 4092 4090 1391 None 
"""


def write(folder: Path, text: str = TEXT) -> Path:
    (folder / "Tomograms" / "job6" / "tomograms").mkdir(parents=True)
    (folder / "Tomograms" / "job6" / "tomograms" / "rec_Position_1.mrc").touch()
    path = folder / "Tomograms" / "job6" / "tomograms.star"
    path.write_text(text)
    return path


def test_files_are_found_from_the_project(tmp_path: Path) -> None:
    path = write(tmp_path)
    listed = read_tomogram_list(path)
    first = listed["Position_1"]
    assert first.path == path.parent / "tomograms" / "rec_Position_1.mrc"
    assert (first.size_px, first.pixel_size, first.binning) == ((1391, 4090, 4092), 2.39, 6.0)
    assert first.voxel_size == pytest.approx(14.34)
    assert (listed["Position_2"].name, listed["Position_2"].path) == ("Position_2", None)


def test_halves_stand_in_and_one_row_may_be_no_loop(tmp_path: Path) -> None:
    columns = {"Name": "a", "TiltSeriesPixelSize": "2", "SizeX": "8", "SizeY": "9", "SizeZ": "10"}
    columns |= {"ReconstructedTomogramDenoised": "d.mrc", "ReconstructedTomogramHalf1": "h.mrc"}
    text = "data_global\n" + "".join(f"_rlnTomo{label} {value}\n" for label, value in columns.items())
    entry = read_tomogram_list(write(tmp_path, text))["a"]
    assert entry.path is not None
    assert (entry.path.name, entry.size_px, entry.voxel_size) == ("h.mrc", (10, 9, 8), None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_rlnTomoSizeZ", "_rlnOther", "no column _rlnTomoSizeZ, expected RELION 5's tomograms.star"),
        ("_rlnTomoName", "_rlnOther", "no column _rlnTomoName, "),
        ("_rlnTomoReconstructedTomogram ", "_rlnOther ", "no column _rlnTomoReconstructedTomogram, "),
        ("Position_2 ", "Position_1 ", "tomogram Position_1 is listed twice"),
        ("2.390000 ", "x ", "_rlnTomoTiltSeriesPixelSize of tomogram Position_1 must be a number > 0, got 'x'"),
        ("6.000000", "0", "_rlnTomoTomogramBinning of tomogram Position_1 must be a number > 0, got '0'"),
        (TEXT, "no star", "not a STAR file"),
    ],
)
def test_lists_that_say_too_little_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, TEXT.replace(old, new))
    with pytest.raises(ValueError, match=f"tomograms.star: {message}") as error:
        read_tomogram_list(path)
    assert is_refusal(error.value)


@pytest.mark.parametrize(
    ("shape", "right"), [((231, 681, 682), True), ((231, 678, 682), False), ((682, 681, 231), False)]
)
def test_a_file_of_another_size_is_refused(tmp_path: Path, shape: tuple[int, int, int], right: bool) -> None:
    entry = read_tomogram_list(write(tmp_path))["Position_1"]
    if right:
        entry.check(shape, 14.34)
        return
    with pytest.raises(ValueError, match=r"expected about 232 x 682 x 682: .* 1391 x 4090 x 4092 pixels of 2.39 Å"):
        entry.check(shape, 14.34)
