"""Particles of STAR files, from wherever their images are."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from monai_cryo._refusals import is_refusal
from monai_cryo.data import StarParticles, find_tomograms
from monai_cryo.inferers import TomogramRecord, listed_tomograms, write_pick_files
from monai_cryo.io import Picks, index_to_star, read_star, star_text, write_mrc


def images(tmp_path: Path, names: list[str]) -> StarParticles:
    (tmp_path / "p.star").write_text(star_text("particles", {"rlnImageName": names}))
    return StarParticles(read_star(tmp_path / "p.star"), voxel_size=10.0, box=8)


def test_files_and_images_of_a_stack(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)
    with mrcfile.new(tmp_path / "stack.mrc") as mrc:
        mrc.set_data(data)
        mrc.voxel_size = 12.0
    write_mrc(tmp_path / "one.mrc", data[0], 10.0)
    particles = images(tmp_path, ["one.mrc", "000002@stack.mrc", "3@stack.mrc"])
    assert particles[0]["image"] == str(tmp_path / "one.mrc")
    image = particles[1]["image"]
    np.testing.assert_array_equal(image.numpy(), data[1])
    assert image.pixdim.tolist() == [12.0] * 3
    assert particles[1]["file"] == particles.file(1) == f"{tmp_path / 'p.star'}:2"
    with pytest.raises(ValueError, match="no volume number 3"):
        particles[2]


def test_a_stacks_voxel_size_is_believed_as_a_tomograms_is(tmp_path: Path) -> None:
    for name, size in (("unknown", 1.0), ("oblong", (10.0, 10.0, 30.0))):
        with mrcfile.new(tmp_path / f"{name}.mrc") as mrc:
            mrc.set_data(np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32))
            mrc.voxel_size = size
    for name, text in (("unknown", "voxel size is 1 Å, pass the true one"), ("oblong", "expected cubic voxels")):
        particles = images(tmp_path, [f"1@{name}.mrc"])
        with pytest.raises(ValueError, match=text):
            particles[0]
        particles.file_voxel_size = 1.0
        assert particles[0]["image"].pixdim.tolist() == [1.0] * 3


def test_stacks_of_tilt_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p1_stack2d.mrcs").touch()
    with pytest.raises(ValueError, match="is a stack of tilt images"):
        images(tmp_path, ["p1_stack2d.mrcs"])


@pytest.mark.parametrize("style", ["relion4", "relion5"])
def test_boxes_are_cut_at_another_voxel_size(tmp_path: Path, style: str) -> None:
    grids = np.meshgrid(*(np.arange(n) for n in (60, 70, 81)), indexing="ij")
    where = np.array([[20.0, 30.0, 40.0], [35.0, 41.0, 22.0]])
    volume = sum(np.exp(-sum((g - c) ** 2 for g, c in zip(grids, w, strict=True)) / 32) for w in where)
    write_mrc(tmp_path / "rec_TS.mrc", volume.astype(np.float32), 8.0)
    pixel = 2.0 if style == "relion4" else 8.0
    values = index_to_star(where, style, 8.0, pixel, volume.shape)  # type: ignore[arg-type]
    names = {"relion4": "rlnCoordinate{}", "relion5": "rlnCenteredCoordinate{}Angst"}[style]
    columns = {"rlnTomoName": ["TS", "TS"], **{names.format(a): values[:, n] for n, a in enumerate("XYZ")}}
    (tmp_path / "p.star").write_text(star_text("particles", columns))
    options = {"voxel_size": 10.0, "box": 24, "tomograms": tmp_path}
    particles = StarParticles(read_star(tmp_path / "p.star"), pixel_size=2.0, **options)  # type: ignore[arg-type]
    for item in particles:
        peak = np.unravel_index(int(item["image"].argmax()), (24, 24, 24))
        assert peak == (12, 12, 12)
    assert len(list(particles)) == 2


def list_tomogram(
    folder: Path, size_px: tuple[int, int, int], pixel: float, binning: float | None, **more: str
) -> Path:
    """Write RELION 5's list of one tomogram TS, rec_TS.mrc; sizes (z, y, x)."""
    columns: dict[str, list[object]] = {"rlnTomoName": ["TS"], "rlnTomoReconstructedTomogram": ["rec_TS.mrc"]}
    columns |= {f"rlnTomoSize{axis}": [n] for axis, n in zip("ZYX", size_px, strict=True)}
    columns["rlnTomoTiltSeriesPixelSize"] = [pixel]
    if binning is not None:
        columns["rlnTomoTomogramBinning"] = [binning]
    (folder / "tomograms.star").write_text(star_text("global", columns))
    return folder / "tomograms.star"


@pytest.mark.parametrize("size_px", [(240, 280, 320), (241, 283, 319), (239, 281, 325)])
@pytest.mark.parametrize("binning", [1.0, 4.0, 5.472])
def test_centred_coordinates_and_a_list_of_tomograms(
    tmp_path: Path, size_px: tuple[int, int, int], binning: float
) -> None:
    size_px = tuple(n // 4 for n in size_px) if binning == 1 else size_px  # type: ignore[assignment]
    pixel = 2.5
    # RELION rounds the binned x and y, and cuts z off; voxel i of the file is pixel i * binning of the tilt series
    shape = (int(size_px[0] / binning), round(size_px[1] / binning), round(size_px[2] / binning))
    voxels = np.array([[20, 25, 30], [11, 31, 12]])
    volume = np.zeros(shape, np.float32)
    volume[tuple(voxels.T)] = 1
    write_mrc(tmp_path / "rec_TS.mrc", volume, 1.0)  # the list's voxel size is believed
    path = list_tomogram(tmp_path, size_px, pixel, binning)
    centred = (voxels * binning - np.array(size_px) / 2) * pixel
    labels = [f"rlnCenteredCoordinate{axis}Angst" for axis in "ZYX"]
    text = star_text("particles", {"rlnTomoName": ["TS"] * 2, **dict(zip(labels, centred.T, strict=True))})
    (tmp_path / "p.star").write_text(text)
    options = {"voxel_size": pixel * binning, "box": 8, "tomograms": path}
    particles = StarParticles(read_star(tmp_path / "p.star"), **options)  # type: ignore[arg-type]
    files, index = particles.places()
    assert files == [tmp_path / "rec_TS.mrc"] * 2
    np.testing.assert_allclose(index, voxels, atol=1e-5)
    for item in particles:
        assert np.unravel_index(int(item["image"].argmax()), (8, 8, 8)) == (4, 4, 4)

    # what `pick` writes of the same list is read back, and reads as RELION has it
    picks = Picks(voxels.astype(float), ["a"] * 2, np.ones(2), np.ones(2, np.int64), pixel * binning, shape)
    record = TomogramRecord("rec_TS", "", {}, {}, picks)
    listed = listed_tomograms([str(path)])
    with pytest.raises(ValueError, match=r"TS is listed with a tilt-series pixel size of 2\.5 Å, got 3\.5 Å"):
        write_pick_files(tmp_path, [record], ["a"], ["csv", "relion5"], pixel_size=pixel + 1, listed=listed)
    assert not (tmp_path / "picks.csv").exists()  # refused before anything is written
    (file,) = write_pick_files(tmp_path, [record], ["a"], ["csv"], pixel_size=pixel + 1, listed=listed)
    assert file.name == "picks.csv"  # which has no pixel size
    (file,) = write_pick_files(tmp_path, [record], ["a"], ["relion5"], listed=listed)
    written = read_star(file)
    assert written.columns["rlnTomoName"] == ["TS"] * 2
    assert set(written.numbers("rlnTomoTiltSeriesPixelSize")) == {pixel}
    np.testing.assert_allclose(np.stack([written.numbers(label) for label in labels], 1), centred, atol=1e-5)
    np.testing.assert_allclose(StarParticles(written, **options).places()[1], voxels, atol=1e-5)  # type: ignore[arg-type]


def test_a_list_says_in_which_pixels_coordinates_are(tmp_path: Path) -> None:
    """As RELION takes coordinates in: a tomogram, and pixels of its tilt series."""
    write_mrc(tmp_path / "rec_TS.mrc", np.zeros((30, 40, 50), np.float32), 10.0)
    path = list_tomogram(tmp_path, (60, 80, 100), 5.0, 2.0)
    columns = {f"rlnCoordinate{axis}": [value] for axis, value in zip("XYZ", (30.0, 20.0, 10.0), strict=True)}
    (tmp_path / "p.star").write_text(star_text("particles", {"rlnTomoName": ["TS"], **columns}))
    options = {"voxel_size": 10.0, "box": 8, "tomograms": path}
    particles = StarParticles(read_star(tmp_path / "p.star"), **options)  # type: ignore[arg-type]
    assert particles.places()[1].tolist() == [[5.0, 10.0, 15.0]]
    particles = StarParticles(read_star(tmp_path / "p.star"), pixel_size=10.0, **options)  # type: ignore[arg-type]
    assert particles.places()[1].tolist() == [[10.0, 20.0, 30.0]]


def test_a_list_without_binning_takes_the_headers_voxel_size(tmp_path: Path) -> None:
    write_mrc(tmp_path / "rec_TS.mrc", np.zeros((30, 40, 50), np.float32), 10.0)
    path = list_tomogram(tmp_path, (61, 80, 100), 5.0, None)
    columns = {f"rlnCenteredCoordinate{axis}Angst": [0.0] for axis in "ZYX"}
    (tmp_path / "p.star").write_text(star_text("particles", {"rlnTomoName": ["TS"], **columns}))
    particles = StarParticles(read_star(tmp_path / "p.star"), voxel_size=10.0, box=8, tomograms=path)
    assert particles.places()[1].tolist() == [[15.25, 20, 25]]


def test_one_file_a_tomogram(tmp_path: Path) -> None:
    names = (
        "TS_1",
        "TS_10",
        "TS_2_10.00Apx",
        "rec_TS_3",
        "rec_TS_3_10.00Apx",
        "Position_1_2_10.00Apx",
        "rec_TS_4_8Apx",
    )
    for name in (f"{name}.mrc" for name in names):
        (tmp_path / name).touch()
    found = find_tomograms(tmp_path, ["TS_1", "TS_2"])
    assert {k: v.name for k, v in found.items()} == {"TS_1": "TS_1.mrc", "TS_2": "TS_2_10.00Apx.mrc"}
    assert find_tomograms(tmp_path, ["TS_4"])["TS_4"].name == "rec_TS_4_8Apx.mrc"
    for other in (".TS_1.mrc", "TS_1.st", "TS_1.mrcs"):  # hidden, and tilt series
        (tmp_path / other).touch()
    assert find_tomograms(tmp_path, ["TS_1"])["TS_1"].name == "TS_1.mrc"
    assert find_tomograms(tmp_path, ["Tomograms/TS_2/TS_2"])["Tomograms/TS_2/TS_2"].name == "TS_2_10.00Apx.mrc"
    with pytest.raises(FileNotFoundError, match="of tomogram a/TS_1, found none"):  # which of the two is it?
        find_tomograms(tmp_path, ["a/TS_1", "b/TS_1"])
    with pytest.raises(FileNotFoundError, match="of tomogram Position_1, found none"):  # it is Position_1_2's
        find_tomograms(tmp_path, ["Position_1"])
    with pytest.raises(FileNotFoundError, match=r"of tomogram TS_3, found rec_TS_3.mrc, rec_TS_3_10.00Apx.mrc"):
        find_tomograms(tmp_path, ["TS_3"])
    with pytest.raises(FileNotFoundError, match="no such folder of tomograms"):
        find_tomograms(tmp_path / "nowhere", ["TS_1"])


def test_stacks_are_checked_as_volumes_are(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "stack.mrc") as mrc:
        mrc.set_data(np.ones((2, 8, 8, 8), np.float32))
        mrc.voxel_size = 500.0
    with mrcfile.new(tmp_path / "packed.mrc", compression="gzip") as mrc:
        mrc.set_data(np.ones((2, 8, 8, 8), np.float32))
        mrc.voxel_size = 12.0
    (tmp_path / "cut.mrc").write_bytes((tmp_path / "stack.mrc").read_bytes()[:-100])
    says = {"stack": "expected 0.2 to 100 Å", "packed": "a compressed stack", "cut": "truncated, holds"}
    for number, (name, text) in enumerate(says.items()):
        particles = images(tmp_path, [f"1@{n}.mrc" for n in says])
        with pytest.raises(ValueError, match=rf"{name}\.mrc: .*{text}") as error:
            particles[number]
        assert is_refusal(error.value)
    with pytest.raises(ValueError, match="NUMBER@FILE"):
        images(tmp_path, ["1" * 5000 + "@stack.mrc"])
