"""Coordinates of RELION, Warp and M against hand examples and by round trip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_cryo._refusals import is_refusal
from monai_cryo.io.particles import (
    coordinate_columns,
    index_to_star,
    particle_images,
    positions,
    star_to_index,
    tomogram_names,
)
from monai_cryo.io.star import ParticleStar, read_star, star_text

INDEX = np.array([[10.0, 20.5, 31.25], [0, 0, 0]])  # z, y, x


def star(
    tmp_path: Path, columns: dict[str, list[object]], optics: dict[str, list[object]] | None = None
) -> ParticleStar:
    text = (star_text("optics", optics) if optics else "") + star_text("particles", columns)
    (tmp_path / "p.star").write_text(text)
    return read_star(tmp_path / "p.star")


def xyz(style: str, values: np.ndarray) -> dict[str, list[object]]:
    return {label: list(column) for label, column in zip(coordinate_columns(style), values.T, strict=True)}


def test_relion5_centre_by_hand() -> None:
    # 4 times binned, 10 Å voxels: 400 x 600 x 1001 pixels of 2.5 Å; RELION's centre of an odd axis is size / 2
    found = index_to_star(INDEX, "relion5", 10.0, 2.5, (400, 600, 1001))
    assert found.tolist() == [[312.5 - 1251.25, 205 - 750, 100 - 500], [-1251.25, -750, -500]]
    even = index_to_star([[8, 8, 8]], "relion5", 10.0, size_px=(16, 16, 16))
    assert even.tolist() == [[0, 0, 0]]  # unbinned and even: the centre is voxel N // 2


def test_relion4_and_m_by_hand() -> None:
    assert index_to_star(INDEX, "relion4", 10.0, 2.5)[0].tolist() == [125, 82, 40]
    assert index_to_star(INDEX, "m", 10.0)[0].tolist() == [312.5, 205, 100]


@pytest.mark.parametrize("size", [(99, 150, 201), (100, 150, 200)])
@pytest.mark.parametrize("binning", [1, 2, 4, 5.472])
@pytest.mark.parametrize("style", ["relion4", "relion5", "m"])
def test_round_trip_through_a_file(tmp_path: Path, style: str, binning: float, size: tuple[int, int, int]) -> None:
    voxel, pixel = 2.5 * binning, 2.5
    size_px = [round(n * binning) for n in size]
    values = index_to_star(INDEX, style, voxel, pixel, size_px)
    read = star(
        tmp_path,
        {"rlnTomoName": ["TS_1"] * 2, **xyz(style, values), "rlnOpticsGroup": [1, 1]},
        {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [pixel]},
    )
    np.testing.assert_allclose(positions(read, voxel, size_px=size_px), INDEX, atol=1e-5)
    np.testing.assert_allclose(star_to_index(values, style, voxel, pixel, size_px), INDEX, atol=1e-12)


def test_both_relion_styles_name_one_place(tmp_path: Path) -> None:
    five = index_to_star(INDEX, "relion5", 10.0, 2.5, (401, 600, 1000))
    four = index_to_star(INDEX, "relion4", 10.0, 2.5)
    np.testing.assert_allclose(four * 2.5 - np.array([1000, 600, 401]) * 1.25, five, atol=1e-9)


def test_two_optics_groups_have_their_own_pixels(tmp_path: Path) -> None:
    read = star(
        tmp_path,
        {**xyz("relion4", np.array([[8.0, 8, 8], [8, 8, 8]])), "rlnOpticsGroup": [2, 1]},
        {"rlnOpticsGroup": [1, 2], "rlnTomoTiltSeriesPixelSize": [1.0, 2.0]},
    )
    assert positions(read, 4.0).tolist() == [[4, 4, 4], [2, 2, 2]]


def test_warp_pixels_come_from_detector_and_magnification(tmp_path: Path) -> None:
    columns = {**xyz("relion4", np.array([[64.861, 415.615, 18.199]])), "rlnMicrographName": ["TS_1.tomostar"]}
    read = star(tmp_path, {**columns, "rlnMagnification": [10000.0], "rlnDetectorPixelSize": [10.0]})
    np.testing.assert_allclose(positions(read, 13.68)[0] * 1.368, [18.199, 415.615, 64.861])
    assert tomogram_names(read) == ["TS_1"]
    with pytest.raises(ValueError, match=r"pass it in Å \(--star_apix, or pixel_size\)"):
        positions(star(tmp_path, columns), 13.68)
    np.testing.assert_allclose(positions(star(tmp_path, columns), 20.0, pixel_size=10.0)[0, 0], 18.199 / 2)


def test_origins_are_subtracted_and_turned_with_the_subtomogram(tmp_path: Path) -> None:
    origin: dict[str, list[object]] = {"rlnOriginXAngst": [10], "rlnOriginYAngst": [0], "rlnOriginZAngst": [0]}
    columns = xyz("m", np.array([[100.0, 100, 100]])) | origin
    assert positions(star(tmp_path, columns), 10.0).tolist() == [[10, 10, 9]]
    columns |= {"rlnTomoSubtomogramRot": [90], "rlnTomoSubtomogramTilt": [0], "rlnTomoSubtomogramPsi": [0]}
    # RELION's matrix of rot = 90 takes x to -y (Euler::anglesToMatrix3): the particle moves to +y
    np.testing.assert_allclose(positions(star(tmp_path, columns), 10.0), [[10, 11, 10]], atol=1e-9)


def test_origins_of_relion_3_0_are_in_pixels(tmp_path: Path) -> None:
    origin: dict[str, list[object]] = {"rlnOriginX": [5], "rlnOriginY": [-2], "rlnOriginZ": [0]}
    read = star(tmp_path, xyz("relion4", np.array([[10.0, 20, 30]])) | origin)
    assert positions(read, 10.0, pixel_size=5.0).tolist() == [[15, 11, 2.5]]


def test_warps_tomograms_are_named_by_their_series(tmp_path: Path) -> None:
    columns = xyz("relion5", np.zeros((1, 3))) | {"rlnTomoName": ["TS_1.tomostar"]}
    assert tomogram_names(star(tmp_path, columns)) == ["TS_1"]


def test_optics_may_be_pairs(tmp_path: Path) -> None:
    text = star_text("particles", xyz("relion4", np.array([[10.0, 20, 30]])) | {"rlnOpticsGroup": [1]})
    pairs = "data_optics\n\n_rlnOpticsGroup 1\n_rlnTomoTiltSeriesPixelSize 5.0\n"
    (tmp_path / "p.star").write_text(pairs + text)
    assert positions(read_star(tmp_path / "p.star"), 10.0).tolist() == [[15, 10, 5]]


def test_image_names(tmp_path: Path) -> None:
    folder = tmp_path / "Extract" / "job1"
    folder.mkdir(parents=True)
    (folder / "a.mrcs").touch()
    text = star_text("particles", {"rlnImageName": ["000002@Extract/job1/a.mrcs", "Extract/job1/a.mrcs"]})
    (folder / "p.star").write_text(text)
    images = particle_images(read_star(folder / "p.star"))  # found from the project's root, two folders up
    assert [(image.path, image.section) for image in images] == [(folder / "a.mrcs", 1), (folder / "a.mrcs", None)]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("1@none.mrcs", FileNotFoundError, "1 of its image files are missing, the first is"),
        ("0@none.mrcs", ValueError, "NUMBER@FILE"),
        ("x@none.mrcs", ValueError, "NUMBER@FILE"),
    ],
)
def test_image_refusals(tmp_path: Path, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        particle_images(star(tmp_path, {"rlnImageName": [name]}))


def test_refusals(tmp_path: Path) -> None:
    bare = star(tmp_path, {"rlnImageName": ["a.mrc"]})
    with pytest.raises(ValueError, match="no coordinates, expected one of"):
        positions(bare, 10.0)
    with pytest.raises(ValueError, match="no column _rlnTomoName"):
        tomogram_names(bare)
    with pytest.raises(ValueError, match="size_px"):
        index_to_star(INDEX, "relion5", 10.0)
    with pytest.raises(ValueError, match="must be > 0"):
        index_to_star(INDEX, "relion4", 10.0, 0.0)
    with pytest.raises(ValueError, match="style must be one of"):
        index_to_star(INDEX, "dynamo", 10.0)


@pytest.mark.parametrize(("detector", "magnification"), [(5.0, 0.0), (0.0, 1e4), (-5.0, 1e4)])
def test_pixel_sizes_that_cannot_be_are_refused(tmp_path: Path, detector: float, magnification: float) -> None:
    columns: dict[str, list[object]] = {f"rlnCoordinate{axis}": [1.0] for axis in "XYZ"}
    columns |= {"rlnDetectorPixelSize": [detector], "rlnMagnification": [magnification]}
    (tmp_path / "a.star").write_text(star_text("particles", columns))
    with pytest.raises(ValueError, match="pixel sizes must be > 0 Å") as error:
        positions(read_star(tmp_path / "a.star"), 10.0)
    assert is_refusal(error.value)


def test_an_optics_table_without_numbers_is_refused(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {f"rlnCoordinate{axis}": [1.0] for axis in "XYZ"}
    optics: dict[str, list[object]] = {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": ["x"]}
    text = star_text("optics", optics) + star_text("particles", columns | {"rlnOpticsGroup": [1]})
    (tmp_path / "a.star").write_text(text)
    with pytest.raises(ValueError, match="_rlnTomoTiltSeriesPixelSize must hold numbers") as error:
        positions(read_star(tmp_path / "a.star"), 10.0)
    assert is_refusal(error.value)
