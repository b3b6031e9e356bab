"""``classify``: subtomograms and particles of STAR files, one table, resumed where it ended."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from monai_cryo.cli import main
from monai_cryo.io import read_star, write_mrc

STAR = """data_particles

loop_
_rlnTomoName #1
_rlnCenteredCoordinateXAngst #2
_rlnCenteredCoordinateYAngst #3
_rlnCenteredCoordinateZAngst #4
TS_1   10.0  -20.0   5.0
TS_1  -50.0   30.0 -10.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in "ab":
        write_mrc(tmp_path / "in" / f"{name}.mrc", rng.normal(size=(40, 40, 40)).astype(np.float32), 10.0)
    (tmp_path / "tomograms").mkdir()
    volume = rng.normal(size=(50, 60, 70)).astype(np.float32)
    write_mrc(tmp_path / "tomograms" / "TS_1_10.00Apx.mrc", volume, 10.0)
    (tmp_path / "p.star").write_text(STAR)
    return tmp_path


def call(model: Path, folder: Path, inputs: str, *more: str) -> int:
    argv = ["classify", str(folder / inputs), "--model", str(model), "--output", str(folder / "out")]
    return main([*argv, "--device", "cpu", *more])


def table(folder: Path, name: str = "predictions") -> list[dict[str, str]]:
    with (folder / "out" / f"{name}.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_folder(model: Path, folder: Path) -> None:
    assert call(model, folder, "in") == 0
    rows = table(folder)
    assert [Path(row["file"]).name for row in rows] == ["a.mrc", "b.mrc"]
    assert sum(float(rows[0][f"p_{c}"]) for c in ("ribosome", "membrane", "background")) == pytest.approx(1, abs=1e-3)


def test_flips_are_averaged(model: Path, folder: Path) -> None:
    assert call(model, folder, "in", "--tta") == 0
    data = {p.name: np.fromfile(p, np.float32, offset=1024).reshape(40, 40, 40) for p in (folder / "in").iterdir()}
    for axes in ((), (1,), (0, 2), (0, 1, 2)):
        for name, volume in data.items():
            turned = folder / "in" / f"{''.join(map(str, axes))}_{name}"
            write_mrc(turned, np.flip(volume, axes), 10.0)
    averaged = table(folder)[0]
    assert call(model, folder, "in/*_a.mrc", "--overwrite") == 0
    single = table(folder)
    assert len(single) == 4
    mean = np.mean([float(row["p_ribosome"]) for row in single])
    assert float(averaged["p_ribosome"]) == pytest.approx(mean, abs=2e-4)


def test_a_star_file_comes_back_with_classes(model: Path, folder: Path) -> None:
    assert call(model, folder, "p.star", "--tomograms", str(folder / "tomograms")) == 0
    star = read_star(folder / "out" / "p_classified.star")
    names = ["ribosome", "membrane", "background"]
    assert [names[int(n) - 1] for n in star.columns["rlnClassNumber"]] == star.columns["monaiCryoClassName"]
    assert all(0 < p <= 1 for p in star.numbers("monaiCryoClassProbability"))
    for old, new in zip(
        STAR.splitlines(), (folder / "out" / "p_classified.star").read_text().splitlines(), strict=False
    ):
        if old.startswith(("_rln", "data", "loop")):
            assert new.startswith(old)
    assert [row["class"] for row in table(folder)] == star.columns["monaiCryoClassName"]


def test_the_box_is_cut_where_the_particle_is(model: Path, folder: Path) -> None:
    from monai_cryo.data import StarParticles
    from monai_cryo.io import read_mrc

    particles = StarParticles(
        read_star(folder / "p.star"), voxel_size=10.0, box=8, tomograms=folder / "tomograms", file_voxel_size=None
    )
    volume = read_mrc(folder / "tomograms" / "TS_1_10.00Apx.mrc")[0]
    z, y, x = 25.5 - 0.5, 30 - 2, 35 + 1  # Å from the middle over 10, and half of the size
    z = round(50 / 2 + 0.5)
    expected = volume[z - 4 : z + 4, y - 4 : y + 4, x - 4 : x + 4]
    np.testing.assert_allclose(particles[0]["image"].numpy(), expected)


def test_a_broken_file_does_not_end_the_others(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    whole = (folder / "in" / "a.mrc").read_bytes()
    (folder / "in" / "aa.mrc").write_bytes(whole[:-40])
    write_mrc(folder / "in" / "one.mrc", np.zeros((40, 40, 40), np.float32), 1.0)
    write_mrc(folder / "in" / "whole.mrc", np.zeros((40, 40, 70), np.float32), 10.0)
    assert call(model, folder, "in") == 1
    assert [Path(row["file"]).name for row in table(folder)] == ["a.mrc", "b.mrc"]
    reasons = {Path(row["file"]).name: row["reason"] for row in table(folder, "refused")}
    assert "truncated" in reasons["aa.mrc"]
    assert "voxel size is 0 or 1 Å" in reasons["one.mrc"]
    assert "this is a tomogram, read it with `monai_cryo segment`" in reasons["whole.mrc"]
    err = capsys.readouterr().err
    assert "monai_cryo: error: 3 of 5 refused" in err
    assert "Traceback" not in err


def test_a_second_call_goes_on_where_the_first_was_killed(model: Path, folder: Path) -> None:
    assert call(model, folder, "in") == 0
    path = folder / "out" / "predictions.csv"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    marked = lines[1].replace("0.", "9.", 1)  # so that it is seen to be kept
    path.write_text(lines[0] + marked + lines[2][:9])
    assert call(model, folder, "in") == 0
    assert path.read_text() == lines[0] + marked + lines[2]
    assert call(model, folder, "in") == 0
    assert path.read_text() == lines[0] + marked + lines[2]
    assert call(model, folder, "in", "--overwrite") == 0
    assert path.read_text() == whole


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        (STAR, [], "no column _rlnImageName: name the folder"),
        (STAR.replace(" 10.0", " 9000"), ["T"], "1 of 2 particles lie outside"),
        (STAR.replace("TS_1", "TS_9"), ["T"], "expected one MRC file of tomogram TS_9, found none"),
        (STAR.replace("_rlnCentered", "_rlnOther"), ["T"], "no table of particles"),
        (STAR.replace("_rlnTomoName", "_rlnOther"), ["T"], "no column _rlnTomoName"),
        ("no star", ["T"], "not a STAR file"),
        (STAR.replace("_rlnCenteredCoordinateZAngst", "_rlnImageName"), [], "image files are missing"),
    ],
)
def test_star_files_that_cannot_be_read_are_refused_first(
    model: Path, folder: Path, capsys: pytest.CaptureFixture, text: str, more: list[str], message: str
) -> None:
    (folder / "p.star").write_text(text)
    assert call(model, folder, "p.star", *(["--tomograms", str(folder / "tomograms")] if more else [])) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "out").exists()


LIST = """data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoTomogramBinning #3
_rlnTomoSizeX #4
_rlnTomoSizeY #5
_rlnTomoSizeZ #6
_rlnTomoReconstructedTomogram #7
TS_1 5.0 2.0 141 120 100 tomograms/TS_1_10.00Apx.mrc
"""


def test_a_list_of_tomograms(model: Path, folder: Path) -> None:
    (folder / "tomograms.star").write_text(LIST)
    assert call(model, folder, "p.star", "--tomograms", str(folder / "tomograms.star")) == 0
    assert len(table(folder)) == 2
    assert "_monaiCryoClassName" in (folder / "out" / "p_classified.star").read_text()


def test_another_middle_or_file_does_not_go_on_with_a_table(
    model: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    listed = folder / "tomograms.star"
    listed.write_text(LIST)
    assert call(model, folder, "p.star", "--tomograms", str(listed)) == 0
    assert call(model, folder, "p.star", "--tomograms", str(listed)) == 0
    listed.write_text(LIST.replace("141", "142"))
    assert call(model, folder, "p.star", "--tomograms", str(listed)) == 1
    assert "p.star: begin anew" in capsys.readouterr().err
    twin = folder / "tomograms" / "twin.mrc"
    twin.write_bytes((folder / "tomograms" / "TS_1_10.00Apx.mrc").read_bytes())
    listed.write_text(LIST.replace("TS_1_10.00Apx", "twin"))
    assert call(model, folder, "p.star", "--tomograms", str(listed)) == 1


def test_what_was_refused_is_forgotten_with_its_file(model: Path, folder: Path) -> None:
    (folder / "in" / "broken.mrc").write_bytes(b"no MRC")
    assert call(model, folder, "in") == 1
    (folder / "in" / "broken.mrc").unlink()
    assert call(model, folder, "in") == 0
    assert not (folder / "out" / "refused.csv").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_rlnTomoSizeY", "_rlnOther", "tomograms.star: no column _rlnTomoSizeY"),
        ("_rlnTomoRec", "_rlnOther", "tomograms.star: no column _rlnTomoReconstructedTomogram, "),
        ("TS_1 ", "TS_2 ", "tomograms.star: 1 of 1 tomograms not listed: TS_1; found TS_2"),
        ("10.00Apx", "12.00Apx", "tomograms.star: 1 of 1 tomograms are missing: the file of TS_1 is "),
        ("tomograms/TS_1_10.00Apx.mrc", "None", "missing: the file of TS_1 is not named"),
        ("141", "151", "50 x 60 x 70 voxels of 10 Å, expected about 50 x 60 x 76"),
        (LIST, None, "no such STAR file"),
    ],
)
def test_lists_of_tomograms_that_do_not_fit_are_refused_first(
    model: Path, folder: Path, capsys: pytest.CaptureFixture, old: str, new: str | None, message: str
) -> None:
    if new is not None:
        (folder / "tomograms.star").write_text(LIST.replace(old, new))
    assert call(model, folder, "p.star", "--tomograms", str(folder / "tomograms.star")) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "out").exists()


def test_another_model_does_not_go_on_with_a_table(
    model: Path, spectrum_model: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert call(model, folder, "in") == 0
    capsys.readouterr()
    assert call(spectrum_model, folder, "in") == 1
    assert "predictions.csv was made with another model: " in capsys.readouterr().err
    assert call(model, folder, "in", "--apix", "12", "--star_apix", "3") == 1
    assert "predictions.csv was made with another apix, star_apix: " in capsys.readouterr().err


def test_another_file_of_a_name_does_not_get_its_answer(
    model: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    (folder / "in" / "c.mrc").write_bytes(b"broken")
    assert call(model, folder, "in") == 1
    (folder / "in" / "c.mrc").write_bytes((folder / "in" / "a.mrc").read_bytes())
    assert call(model, folder, "in") == 0  # what has no answer yet may be mended
    volume = np.random.default_rng(7).normal(size=(40, 40, 40)).astype(np.float32)
    write_mrc(folder / "in" / "a.mrc", volume, 10.0, overwrite=True)
    capsys.readouterr()
    assert call(model, folder, "in") == 1
    assert f"predictions.csv was made with another {folder / 'in' / 'a.mrc'}: " in capsys.readouterr().err
    tomograms = ["--tomograms", str(folder / "tomograms"), "--overwrite"]
    assert call(model, folder, "p.star", *tomograms) == 0
    path = folder / "tomograms" / "TS_1_10.00Apx.mrc"
    write_mrc(path, np.random.default_rng(7).normal(size=(50, 60, 70)).astype(np.float32), 10.0, overwrite=True)
    assert call(model, folder, "p.star", *tomograms[:2]) == 1
    assert f"was made with another {path}: " in capsys.readouterr().err


def test_a_star_file_that_cannot_be_written_back_is_refused_first(
    model: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    lines = STAR.splitlines()
    (folder / "p.star").write_text("\n".join([*lines[:-1], lines[-1].replace(" ", "\n", 1), ""]))
    assert call(model, folder, "p.star", "--tomograms", str(folder / "tomograms")) == 1
    assert "one particle on each line of the table" in capsys.readouterr().err
    assert not (folder / "out" / "predictions.csv").exists()


def test_tasks_of_an_array_have_calls_of_their_own(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ID": 2, "COUNT": 3}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    assert call(model, folder, "in") == 0
    assert len(table(folder)) == 2


def test_rows_in_another_order_and_other_tomograms_do_not_go_on_with_a_table(
    model: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    tomograms = ["--tomograms", str(folder / "tomograms")]
    assert call(model, folder, "p.star", *tomograms) == 0
    (folder / "more.star").write_text(STAR)
    assert call(model, folder, "more.star", *tomograms) == 0  # another file goes into the same table
    assert len(table(folder)) == 4
    lines = STAR.splitlines()
    (folder / "p.star").write_text("\n".join([*lines[:-2], lines[-1], lines[-2], ""]))
    capsys.readouterr()
    assert call(model, folder, "p.star", *tomograms) == 1
    assert f"made with another {folder / 'p.star'}: " in capsys.readouterr().err
    (folder / "tomograms").rename(folder / "denoised")
    assert call(model, folder, "more.star", "--tomograms", str(folder / "denoised")) == 1
    assert f"made with another {folder / 'more.star'}: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["unknown", "one", "oblong", "cut", "ended", "damaged", "packed"])
def test_tomograms_that_cannot_be_read_are_refused_first(
    model: Path, folder: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    plain = folder / "tomograms" / "TS_1_10.00Apx.mrc"
    whole = plain.read_bytes()
    packed = gzip.compress(whole)
    sizes = {"one": (1.0, 1.0, 1.0), "oblong": (12.0, 10.0, 10.0), "unknown": (0.0, 0.0, 0.0)}
    content = {"cut": whole[:-40], "ended": packed[:9999], "damaged": packed[:-8] + bytes(8), "packed": b"\x1f\x8b no"}
    if name in sizes:
        with mrcfile.open(plain, "r+") as mrc:
            mrc.voxel_size = sizes[name]
    elif name == "cut":
        plain.write_bytes(content[name])
    else:
        plain.unlink()
        plain.with_name(f"{plain.name}.gz").write_bytes(content[name])
    says = {
        "unknown": "the header's voxel size is 0 Å, pass the true one",
        "one": "the header's voxel size is 1 Å, pass the true one",
        "oblong": "expected cubic voxels, found (10.0, 10.0, 12.0) Å",
        "cut": "truncated, holds",
        "ended": "ended before the end-of-stream marker",
        "damaged": "CRC check failed",
        "packed": "expected an MRC2014 file",
    }
    assert call(model, folder, "p.star", "--tomograms", str(folder / "tomograms")) == 1
    err = capsys.readouterr().err
    assert f"monai_cryo: error: {plain}" in err
    assert says[name] in err
    assert err.count("\n") == 1
    assert not (folder / "out").exists()


def test_a_voxel_size_in_other_units_is_refused(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    for inputs, more in (("p.star", ["--tomograms", str(folder / "tomograms")]), ("in", [])):
        assert call(model, folder, inputs, "--apix", "0.05", *more) == 1
        err = capsys.readouterr().err
        assert "a voxel size of 0.05 Å was given, expected 0.2 to 100 Å" in err
        assert err.count("\n") == 1


def test_a_particle_in_a_large_box_is_no_tomogram(model: Path, folder: Path) -> None:
    """RELION's and Warp's subtomograms may be: what a STAR file calls a particle is read in its middle."""
    rng = np.random.default_rng(0)
    large = rng.normal(size=(96, 96, 96)).astype(np.float32)
    write_mrc(folder / "large.mrc", large, 10.0)
    write_mrc(folder / "small.mrc", large[28:68, 28:68, 28:68], 10.0)
    (folder / "large.star").write_text("data_particles\n\nloop_\n_rlnImageName #1\nlarge.mrc\nsmall.mrc\n")
    assert call(model, folder, "large.star") == 0
    rows = [[float(v) for k, v in row.items() if k.startswith("p_")] for row in table(folder)]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-3)
    assert call(model, folder, "large.mrc", "--overwrite") == 1  # by itself it may be one


def test_a_particle_whose_voxels_are_no_cubes_is_read_by_its_star_file_too(model: Path, folder: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(36, 40, 40)).astype(np.float32)
    write_mrc(folder / "flat.mrc", volume, (12.0, 10.0, 10.0))
    (folder / "flat.star").write_text("data_particles\n\nloop_\n_rlnImageName #1\nflat.mrc\n")
    assert call(model, folder, "flat.star") == 0
    assert call(model, folder, "flat.mrc", "--output", str(folder / "alone")) == 0


def test_files_of_one_name_in_two_folders_are_classified(model: Path, folder: Path) -> None:
    for name in ("TS_1", "TS_2"):
        (folder / name).mkdir()
        (folder / name / "rec.mrc").write_bytes((folder / "in" / "a.mrc").read_bytes())
    assert call(model, folder, "TS_*/rec.mrc") == 0
    assert [Path(row["file"]).parent.name for row in table(folder)] == ["TS_1", "TS_2"]


def test_bright_protein_and_other_voxel_sizes_are_read_alike(model: Path, folder: Path) -> None:
    grid = np.arange(40) - 20
    ball = np.exp(-(grid[:, None, None] ** 2 + grid[:, None] ** 2 + grid**2) / 128)
    fine = np.arange(60) - 30
    same = np.exp(-(fine[:, None, None] ** 2 + fine[:, None] ** 2 + fine**2) / 128 / 1.5**2)
    write_mrc(folder / "dark.mrc", -ball.astype(np.float32), 10.0)
    write_mrc(folder / "fine.mrc", -same.astype(np.float32), 10.0 / 1.5)
    write_mrc(folder / "bright.mrc", 3 + 2 * ball.astype(np.float32), 10.0)
    answers = []
    for name, more in (("dark", []), ("fine", []), ("bright", ["--invert"])):
        assert call(model, folder, f"{name}.mrc", "--overwrite", *more) == 0
        answers.append([float(v) for k, v in table(folder)[0].items() if k.startswith("p_")])
    np.testing.assert_allclose(answers[1:], [answers[0]] * 2, atol=2e-3)
