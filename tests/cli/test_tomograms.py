"""``segment`` and ``pick``: whole tomograms, one after another, and what is refused before anything long."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mrcfile
import numpy as np
import pytest
from matplotlib import image as picture

from monai_cryo.bundle import bundle_root
from monai_cryo.cli import main
from monai_cryo.inferers import MIN_SCORE, TomogramReader
from monai_cryo.io import Tomogram, read_mrc, read_star, tomogram_name, write_mrc

SHAPE = (18, 26, 48)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in "ab":
        write_mrc(tmp_path / "in" / f"{name}.mrc", rng.normal(size=SHAPE).astype(np.float32), 10.0, (1.0, 2.0, 3.0))
    return tmp_path


def call(verb: str, model: Path, folder: Path, *more: str, inputs: str = "in") -> int:
    argv = [verb, str(folder / inputs), "--model", str(model), "--output", str(folder / "out"), "--device", "cpu"]
    return main([*argv, *more])


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_pick_writes_labels_picks_pictures_and_records(
    model: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    more = ["--format", "csv", "relion5", "copick", "--min_score", "0.01", "--diameter", "membrane=40", "--scores"]
    assert call("pick", model, folder, *more) == 0
    out = folder / "out"
    record = json.loads((out / "a.json").read_text())
    count = len(record["picks"]["names"])
    assert count > 0
    assert capsys.readouterr().out.startswith(f"a: 0 ribosome, {count} membrane")
    labels, voxel_size, origin = read_mrc(out / "a_labels.mrc")
    assert (labels.shape, labels.dtype, voxel_size, origin) == (SHAPE, np.int8, (10.0,) * 3, (1.0, 2.0, 3.0))
    assert set(np.unique(labels)) <= {0, 1, 2}
    score, _, _ = read_mrc(out / "a_membrane.mrc")
    assert score.dtype == np.float16
    assert 0 < score.max() <= 1
    with (out / "picks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["tomogram"] for row in rows].count("a") == count
    assert "_rlnCenteredCoordinateXAngst" in (out / "particles_relion5.star").read_text()
    assert json.loads((out / "a" / "Picks" / "monai-cryo_0_membrane.json").read_text())["run_name"] == "a"
    assert picture.imread(out / "a.png").shape[0] > 100
    assert not [name for name in names(out) if name.startswith(".")]


LIST = """data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoTomogramBinning #3
_rlnTomoSizeX #4
_rlnTomoSizeY #5
_rlnTomoSizeZ #6
_rlnTomoReconstructedTomogram #7
TS_1 5.0 2.0 97 52 36 in/a.mrc
TS_2 5.0 2.0 97 52 36 in/b.mrc
TS_3 5.0 2.0 97 52 36 None
"""


def test_the_least_score_is_the_same_in_the_command_the_config_and_python(model: Path, folder: Path) -> None:
    config = (bundle_root() / "configs" / "tomogram.yaml").read_text()
    assert f"min_score: {MIN_SCORE}\n" in config
    for more, expected in (([], MIN_SCORE), (["--min_score", "0.5"], 0.5)):
        assert call("pick", model, folder, "--no_picture", "--overwrite", *more) == 0
        record = json.loads((folder / "out" / "a.json").read_text())
        assert record["settings"]["picking"] == {"min_score": expected}


def test_a_list_of_relion5_names_what_is_picked(model: Path, folder: Path) -> None:
    (folder / "tomograms.star").write_text(LIST)
    more = ["--format", "csv", "relion5", "--min_score", "0.01", "--diameter", "membrane=40", "--no_picture"]
    assert call("pick", model, folder, *more, inputs="tomograms.star") == 0
    star = read_star(folder / "out" / "particles_relion5.star")
    assert set(star.columns["rlnTomoName"]) == {"TS_1", "TS_2"}
    with (folder / "out" / "picks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["tomogram"] for row in rows} == {"a", "b"}
    x = star.numbers("rlnCenteredCoordinateXAngst")
    assert x == pytest.approx([float(row["x"]) * 10 - 97 * 5 / 2 for row in rows], abs=0.06)


def test_files_that_do_not_fit_their_list_are_refused(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "tomograms.star").write_text(LIST.replace("97 52 36 in/a", "97 52 48 in/a"))
    assert call("segment", model, folder, "--no_picture", inputs="tomograms.star") == 1
    assert "a.mrc: 18 x 26 x 48 voxels of 10 Å, expected about 24 x 26 x 48" in capsys.readouterr().err
    assert "b_labels.mrc" in names(folder / "out")
    (folder / "tomograms.star").write_text(LIST.replace("in/a", "in/c"))
    assert call("segment", model, folder, inputs="tomograms.star") == 1
    assert "tomograms.star: 1 of 2 tomograms are missing, the first is " in capsys.readouterr().err
    (folder / "tomograms.star").write_text(LIST)
    assert call("pick", model, folder, "--format", "relion5", "--tilt_apix", "4", inputs="tomograms.star") == 1
    err = capsys.readouterr().err
    assert "tomogram TS_1 is listed with a tilt-series pixel size of 5 Å, got 4 Å: leave it out" in err
    assert err.count("\n") == 1


def test_finished_ones_are_skipped_and_broken_leftovers_cleared(
    model: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert call("segment", model, folder, "--no_picture") == 0
    out = folder / "out"
    assert names(out) == ["a.json", "a_labels.mrc", "b.json", "b_labels.mrc"]
    capsys.readouterr()
    before = (out / "a_labels.mrc").stat().st_mtime_ns
    # as a kill in the middle of b leaves it
    (out / "b.json").unlink()
    (out / ".b.part" / "scratch").mkdir(parents=True)
    (out / ".b.part" / "scratch" / "map_0").write_bytes(b"half")
    assert call("segment", model, folder, "--no_picture") == 0
    said = capsys.readouterr().out
    assert said.startswith("b: ")
    assert "a: " not in said
    assert (out / "a_labels.mrc").stat().st_mtime_ns == before
    assert names(out) == ["a.json", "a_labels.mrc", "b.json", "b_labels.mrc"]
    (out / "a_labels.mrc").unlink()  # not all is there that was asked for
    assert call("segment", model, folder, "--no_picture") == 0
    assert capsys.readouterr().out.startswith("a: ")
    assert names(out) == ["a.json", "a_labels.mrc", "b.json", "b_labels.mrc"]
    # picks were not asked for then: they are read again
    assert call("pick", model, folder, "--no_picture") == 0
    assert (out / "a_labels.mrc").stat().st_mtime_ns > before


def test_results_of_other_settings_are_not_mixed(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert call("segment", model, folder, "--no_picture") == 0
    assert call("segment", model, folder, "--no_picture", "--invert") == 1
    assert "a.json was made with another negate: pass --overwrite" in capsys.readouterr().err
    assert call("segment", model, folder, "--no_picture", "--apix", "12") == 1
    assert "a.json was made with another voxel_size: pass --overwrite" in capsys.readouterr().err
    assert call("segment", model, folder, "--no_picture", "--invert", "--overwrite") == 0


def test_picks_of_other_settings_are_not_mixed(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def picked() -> set[str]:
        with (folder / "out" / "picks.csv").open() as stream:
            return {row["tomogram"] for row in csv.DictReader(stream)}

    more = ["--no_picture", "--diameter", "membrane=40"]
    assert call("pick", model, folder, *more, "--min_score", "0.01") == 0
    assert picked() == {"a", "b"}
    read = TomogramReader.read

    def stopped(self: TomogramReader, tomogram: Tomogram, *arguments: Any) -> Any:
        if tomogram.path.name == "b.mrc":
            raise KeyboardInterrupt
        return read(self, tomogram, *arguments)

    monkeypatch.setattr(TomogramReader, "read", stopped)
    assert call("pick", model, folder, *more, "--min_score", "0.02") != 0
    assert picked() == {"a"}


def test_picks_of_other_calls_stay_in_the_lists(model: Path, folder: Path) -> None:
    more = ["--no_picture", "--diameter", "membrane=40", "--min_score", "0.01"]
    for name in "ab":
        assert call("pick", model, folder, *more, inputs=f"in/{name}.mrc") == 0
    with (folder / "out" / "picks.csv").open() as stream:
        assert {row["tomogram"] for row in csv.DictReader(stream)} == {"a", "b"}


@pytest.mark.filterwarnings("ignore:RELION 4 counts pixels of the tilt series")
def test_what_a_list_said_stays_with_its_tomograms(model: Path, folder: Path) -> None:
    """Also where a later call names others, and where its own files lie beside another program's JSON."""
    (folder / "tomograms.star").write_text(LIST.replace("TS_2 5.0 2.0 97 52 36 in/b.mrc\n", ""))
    more = ["--format", "csv", "relion4", "relion5", "--min_score", "0.01", "--diameter", "membrane=40", "--no_picture"]
    assert call("pick", model, folder, *more, inputs="tomograms.star") == 0
    stars = [folder / "out" / f"particles_{kind}.star" for kind in ("relion4", "relion5")]
    before = [star.read_text().splitlines() for star in stars]
    (folder / "out" / "scores.json").write_text('{"classes": {}}')
    assert call("pick", model, folder, *more, inputs="in/b.mrc") == 0
    for star, lines in zip(stars, before, strict=True):
        assert set(lines) <= set(star.read_text().splitlines())
        assert set(read_star(star).columns["rlnTomoName"]) == {"TS_1", "b"}
    (folder / "in" / "b.mrc").rename(folder / "in" / "TS_1.mrc")
    assert call("pick", model, folder, *more, inputs="in/TS_1.mrc") == 1


@pytest.mark.parametrize("where", ["everywhere", "between the pieces that its digest is of"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    where: str, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    read = TomogramReader.read

    def slow(self: TomogramReader, tomogram: Tomogram, *rest: Any) -> Any:
        reading = read(self, tomogram, *rest)
        if where == "everywhere":
            write_mrc(folder / "in" / "a.mrc", np.ones(SHAPE, np.float32), 10.0, overwrite=True)
        else:
            (folder / "in" / "a.mrc").touch()
        return reading

    if where != "everywhere":
        monkeypatch.setattr("monai_cryo.inferers.workflow.file_digest", lambda path: "as before")

    monkeypatch.setattr(TomogramReader, "read", slow)
    assert call("segment", model, folder, "--no_picture", inputs="in/a.mrc") == 1
    assert "a.mrc: changed while it was read" in capsys.readouterr().err
    assert not (folder / "out" / "a.json").exists()


def test_what_another_process_has_finished_is_not_read_again(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    read, calls = TomogramReader.read, []

    def meanwhile(self: TomogramReader, tomogram: Tomogram, *rest: Any) -> Any:
        calls.append(tomogram.path.name)
        if len(calls) == 1:
            assert call("segment", model, folder, "--no_picture", inputs="in/b.mrc") == 0
        return read(self, tomogram, *rest)

    monkeypatch.setattr(TomogramReader, "read", meanwhile)
    assert call("segment", model, folder, "--no_picture") == 0
    assert calls == ["a.mrc", "b.mrc"]
    assert "2/2 b: finished by another process" in capsys.readouterr().out


def test_a_disk_without_room_is_told_first(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1 << 10))
    assert call("segment", model, folder, inputs="in/a.mrc") == 1
    assert "expected room for 0 MiB for a while, found 0" in capsys.readouterr().err


def test_one_tomogram_is_every_tasks(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ID": 2, "COUNT": 3, "MIN": 0}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    assert call("segment", model, folder, "--no_picture", inputs="in/b.mrc") == 0
    assert names(folder / "out") == ["b.json", "b_labels.mrc"]


@pytest.mark.parametrize("name", ["a$_{$b", "ü b"])
def test_names_are_drawn_as_they_are(model: Path, folder: Path, name: str) -> None:
    (folder / "in" / "a.mrc").rename(folder / "in" / f"{name}.mrc")
    assert call("segment", model, folder, inputs=f"in/{name}.mrc") == 0
    assert f"{name}.png" in names(folder / "out")


def test_names_that_results_cannot_have_are_refused_first(
    model: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    (folder / "in" / "a.mrc").rename(folder / "in" / ("a" * 215 + ".mrc"))
    assert call("segment", model, folder) == 1
    assert "expected a name of at most 200 bytes" in capsys.readouterr().err
    os.rename(folder / "in" / ("a" * 215 + ".mrc"), os.fsencode(folder / "in") + b"/\xff.mrc")
    assert call("segment", model, folder) == 1
    assert "expected a file name in UTF-8" in capsys.readouterr().err
    assert call("segment", model, folder, inputs="in/b**") == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["segment", str(folder / "in"), "--output", ""])
    assert "argument --output: must name a file or folder, got ''" in capsys.readouterr().err
    assert call("pick", model, folder, "--diameter", "ribosome=1e9") == 1
    assert "the diameter of ribosome must be 0 or 1 to 10000 Å, got 1000000000.0" in capsys.readouterr().err


def test_a_new_file_of_the_same_size_is_another_one(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert call("segment", model, folder, "--scores", "--no_picture") == 0
    path = folder / "in" / "a.mrc"
    before = path.stat()
    volume = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    write_mrc(path, volume, 10.0, (1.0, 2.0, 3.0), overwrite=True)
    assert path.stat().st_size == before.st_size
    assert call("segment", model, folder, "--scores", "--no_picture") == 1
    assert "a.json was made with another file: pass --overwrite" in capsys.readouterr().err
    # what the old one left is not taken for the new one's
    assert call("segment", model, folder, "--overwrite", "--no_picture") == 0
    assert not list((folder / "out").glob("*_ribosome.mrc"))
    assert call("segment", model, folder) == 0
    assert (folder / "out" / "a.png").is_file()  # asked for later


def test_a_killed_overwrite_is_gone_on_with(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert call("segment", model, folder, "--no_picture") == 0
    read, count = TomogramReader.read, iter(range(9))

    def once(*arguments: Any) -> Any:
        if next(count):
            raise KeyboardInterrupt
        return read(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TomogramReader, "read", once)
        assert call("segment", model, folder, "--no_picture", "--invert", "--overwrite") != 0
    capsys.readouterr()
    assert call("segment", model, folder, "--no_picture", "--invert") == 0
    said = capsys.readouterr().out
    assert said.startswith("b: ")
    assert "a: " not in said


def test_packed_tomograms_are_refused_before_anything_is_read(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_mrc(folder / "in" / "z.mrc", np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), 1.0)
    (folder / "in" / "z.mrc.gz").write_bytes(gzip.compress((folder / "in" / "z.mrc").read_bytes()))
    (folder / "in" / "z.mrc").unlink()
    (folder / "out").mkdir()
    (folder / "out" / "refused_1.csv").write_text("of an earlier call of several processes")
    said: list[str] = []
    read = TomogramReader.read
    monkeypatch.setattr(TomogramReader, "read", lambda *a: said.append(caplog.text) or read(*a))
    assert call("segment", model, folder, "--no_picture") == 1
    assert "z.mrc.gz: the header's voxel size is 1 Å" in said[0]
    assert names(folder / "out") == ["a.json", "a_labels.mrc", "b.json", "b_labels.mrc", "refused.csv"]


def test_lists_of_an_earlier_reading_do_not_stay(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    more = ["--no_picture", "--diameter", "membrane=40", "--format"]
    assert call("pick", model, folder, "--min_score", "0.01", *more, "csv", "relion5", "copick") == 0
    assert call("pick", model, folder, "--min_score", "0.01", *more, "warp") == 0  # the same picks: they stay
    assert {"picks.csv", "particles_relion5.star", "particles_warp.star"} <= set(names(folder / "out"))
    capsys.readouterr()
    theirs = ["a/Picks/alice_1_membrane.json", "particles_mine.star", "refused_by_me.csv"]  # what others have put there
    for name in theirs:
        (folder / "out" / name).write_text("kept")
    assert call("pick", model, folder, "--min_score", "0.02", *more, "csv") == 0
    assert "particles_relion5.star was of an earlier reading and is removed" in capsys.readouterr().out
    left = [name for name in names(folder / "out") if "Picks" in name or name.endswith(("csv", "star"))]
    assert left == sorted(["picks.csv", *theirs])


def test_voxels_written_for_relion_4_are_said(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert call("pick", model, folder, "--no_picture", "--format", "relion4") == 0
    assert "warning: RELION 4 counts pixels of the tilt series: those of the tomograms" in capsys.readouterr().err


def test_picks_are_not_left_of_a_reading_that_is_gone(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert call("pick", model, folder, "--no_picture") == 0
    before = (folder / "out" / "a.json").read_bytes()
    assert call("segment", model, folder, "--no_picture") == 0  # they may stand
    assert call("segment", model, folder, "--no_picture", "--invert", "--overwrite") == 1
    assert "a.json has picks, which lists beside it name: read it again with" in capsys.readouterr().err
    assert (folder / "out" / "a.json").read_bytes() == before
    assert call("pick", model, folder, "--no_picture", "--invert", "--overwrite") == 0
    assert (folder / "out" / "a.json").read_bytes() != before


def test_results_beside_the_tomograms_are_not_read(model: Path, folder: Path) -> None:
    argv = ["pick", str(folder / "in"), "--model", str(model), "--output", str(folder / "in"), "--device", "cpu"]
    argv += ["--scores", "--no_picture"]
    assert main(argv) == 0
    found = names(folder / "in")
    assert "a_labels.mrc" in found
    assert main(argv) == 0
    assert names(folder / "in") == found


def test_classes_that_are_not_there_are_never_found(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    more = ["--no_picture", "--min_score", "0.01", "--diameter", "membrane=40", "--scores"]
    assert call("pick", model, folder, *more, "--abundance", "membrane=0", inputs="in/a.mrc") == 0
    assert "membrane" not in capsys.readouterr().out
    assert not read_mrc(folder / "out" / "a_membrane.mrc")[0].any()
    assert call("pick", model, folder, *more, inputs="in/a.mrc") == 1
    assert "made with another abundance, diameters_a" in capsys.readouterr().err


def test_a_model_of_the_common_spectrum_and_another_voxel_size(spectrum_model: Path, folder: Path) -> None:
    more = ["--apix", "14", "--tta", "--no_picture", "--scores"]
    assert call("segment", spectrum_model, folder, *more, inputs="in/a.mrc") == 0
    for name in ("labels", "ribosome"):
        volume, voxel_size, _ = read_mrc(folder / "out" / f"a_{name}.mrc")
        assert (volume.shape, voxel_size) == (SHAPE, (14.0,) * 3)
    assert volume.any()


def test_broken_files_are_listed_and_the_others_read(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    whole = (folder / "in" / "a.mrc").read_bytes()
    (folder / "in" / "cut.mrc").write_bytes(whole[:-100])
    (folder / "in" / "packed.mrc.gz").write_bytes(b"\x1f\x8b no gzip")
    write_mrc(folder / "in" / "nan.mrc", np.ones(SHAPE, np.float32), 10.0)
    with mrcfile.open(folder / "in" / "nan.mrc", "r+") as mrc:
        mrc.data[0, 0, 0] = np.nan
    write_mrc(folder / "in" / "nothing.mrc", np.ones(SHAPE, np.float32), 10.0)
    packed = gzip.compress(whole)
    (folder / "in" / "ended.mrc.gz").write_bytes(packed[: len(packed) // 2])
    (folder / "in" / "damaged.mrc.gz").write_bytes(packed[:-8] + bytes(8))
    write_mrc(folder / "in" / "small.mrc", np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32), 10.0)
    for name, size in (("one", 1.0), ("oblong", (10.0, 10.0, 12.0))):
        write_mrc(folder / "in" / f"{name}.mrc", np.zeros(SHAPE, np.float32), size)
    write_mrc(folder / "in" / "unknown.mrc", np.zeros(SHAPE, np.float32), 10.0)
    with mrcfile.open(folder / "in" / "unknown.mrc", "r+") as mrc:
        mrc.header.cella = (0, 0, 0)
    assert call("segment", model, folder, "--no_picture") == 1
    with (folder / "out" / "refused.csv").open() as stream:
        reasons = {Path(row["file"]).name: row["reason"] for row in csv.DictReader(stream)}
    assert "the header's voxel size is 1 Å, pass the true one" in reasons["one.mrc"]
    assert "the header's voxel size is 0 Å, pass the true one" in reasons["unknown.mrc"]
    assert "ended before the end-of-stream marker" in reasons["ended.mrc.gz"]
    assert "CRC check failed" in reasons["damaged.mrc.gz"]
    assert "one value everywhere" in reasons["nothing.mrc"]
    assert "NaN" in reasons["nan.mrc"]
    assert "expected cubic voxels" in reasons["oblong.mrc"]
    assert "this is a subtomogram" in reasons["small.mrc"]
    assert {"cut.mrc", "packed.mrc.gz"} < set(reasons)
    assert all(str(folder) in reason for reason in reasons.values())
    assert capsys.readouterr().err.splitlines()[-1].startswith("monai_cryo: error: 10 of 12 tomograms refused: ")
    assert {"a_labels.mrc", "b_labels.mrc"} <= set(names(folder / "out"))


@pytest.mark.parametrize(
    ("verb", "more", "message"),
    [
        ("pick", ["--diameter", "groel=150"], "the model has no class 'groel'"),
        ("segment", ["--device", "nodevice"], "--device must be such as cpu, cuda or cuda:1, got 'nodevice'"),
        ("pick", ["--min_score", "2"], "min_score must be 0 to 1, got 2.0"),
        ("pick", ["--min_score", "nan"], "min_score must be 0 to 1, got nan"),
        ("pick", ["--abundance", "groel=1"], "the classes ribosome, membrane, background, got {'groel': 1.0}"),
        ("pick", ["--model", "nowhere.pt"], "no model file nowhere.pt"),
    ],
)
def test_wrong_options_end_in_one_line(
    model: Path, folder: Path, capsys: pytest.CaptureFixture, verb: str, more: list[str], message: str
) -> None:
    assert call(verb, model, folder, *more) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "out").exists()


def test_a_model_of_another_spectrum_is_refused_first(
    mtf_model: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert call("segment", mtf_model, folder) == 1
    err = capsys.readouterr().err
    assert "tomograms can be read with Standardize or NormalizeSpectrum, the model has MTF" in err
    assert err.count("\n") == 1
    assert not (folder / "out").exists()


@pytest.mark.parametrize(("option", "value"), [("--abundance", "CLASS=X"), ("--diameter", "CLASS=A")])
@pytest.mark.parametrize("wrong", ["ribosome", "ribosome=", "=1", "ribosome=-3", "ribosome=nan", "ribosome=many"])
def test_numbers_of_classes_are_read_or_refused(
    model: Path, folder: Path, capsys: pytest.CaptureFixture, option: str, value: str, wrong: str
) -> None:
    with pytest.raises(SystemExit):
        call("pick", model, folder, option, "ribosome=2", wrong)
    assert f"{option}: must read {value}, got {wrong}" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["1000", "0.1"])
def test_a_voxel_size_in_other_units_is_refused_first(
    model: Path, folder: Path, capsys: pytest.CaptureFixture, size: str
) -> None:
    assert call("pick", model, folder, "--apix", size, inputs="in/a.mrc") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"1 of 1 tomograms refused: {folder / 'in' / 'a.mrc'}: a voxel size of {size} Å was given, expected" in last


def test_a_tomogram_thinner_than_a_block_is_read(model: Path, folder: Path) -> None:
    thin = np.random.default_rng(0).normal(size=(4, 60, 60)).astype(np.float32)
    write_mrc(folder / "thin.mrc", thin, 10.0)
    assert call("segment", model, folder, "--no_picture", inputs="thin.mrc") == 0
    assert read_mrc(folder / "out" / "thin_labels.mrc")[0].shape == thin.shape


def test_inputs_that_are_not_there_or_have_one_name(model: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert call("segment", model, folder, inputs="nowhere*.mrc") == 1
    assert "no such file" in capsys.readouterr().err
    (folder / "in" / "a.map").write_bytes((folder / "in" / "a.mrc").read_bytes())
    assert call("segment", model, folder) == 1
    assert "have one name" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_a_list(model: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "monai_cryo", "pick", str(folder / "in"), "--model", str(model), "--no_picture"]
    command += ["--output", str(folder / "out"), "--device", "cpu", "--min_score", "0.01", "--diameter", "membrane=40"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    running = [
        subprocess.Popen(command, env={**environment, "RANK": rank}, stdout=subprocess.PIPE, text=True) for rank in "01"
    ]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said[0].startswith("1 of 2 tomograms are for this process, number 0 of 2\na: ")
    assert said[1].startswith("1 of 2 tomograms are for this process, number 1 of 2\nb: ")
    with (folder / "out" / "picks.csv").open() as stream:
        assert {row["tomogram"] for row in csv.DictReader(stream)} == {"a", "b"}


@pytest.mark.slow
def test_a_broken_tomogram_does_not_end_other_processes(model: Path, folder: Path) -> None:
    """torchrun ends all processes once one ends in an error: it does so when all are done."""
    (folder / "in" / "a.mrc").write_bytes(b"no tomogram")
    large = np.random.default_rng(0).normal(size=(80, 96, 96)).astype(np.float32)
    write_mrc(folder / "in" / "b.mrc", large, 10.0, overwrite=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "monai_cryo", "pick", str(folder / "in"), "--model", str(model), "--no_picture"]
    command += ["--output", str(folder / "out"), "--device", "cpu", "--min_score", "0.01"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "\nb: " in done.stdout
    assert names(folder / "out") == ["b.json", "b_labels.mrc", "picks.csv", "refused_0.csv"]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.4])
def test_a_killed_reading_is_gone_on_with(model: Path, folder: Path, seconds: float) -> None:
    """Killed after its first tomogram is there and some time more, it ends as the one that was left alone."""
    (folder / "in" / "c.mrc").write_bytes((folder / "in" / "b.mrc").read_bytes())
    more = ["--no_picture", "--min_score", "0.01", "--diameter", "membrane=40"]
    assert call("pick", model, folder, *more, "--output", str(folder / "alone")) == 0
    command = [sys.executable, "-m", "monai_cryo", "pick", str(folder / "in"), "--model", str(model), *more]
    running = subprocess.Popen([*command, "--output", str(folder / "out"), "--device", "cpu"])
    while not (folder / "out" / "a.json").exists():
        assert running.poll() is None
        time.sleep(0.01)
    time.sleep(seconds)
    running.kill()
    running.wait()
    assert call("pick", model, folder, *more) == 0
    assert names(folder / "out") == names(folder / "alone")
    for name in names(folder / "out"):
        if not name.endswith(".mrc"):
            assert (folder / "out" / name).read_bytes() == (folder / "alone" / name).read_bytes()
        else:
            assert np.array_equal(read_mrc(folder / "out" / name)[0], read_mrc(folder / "alone" / name)[0])


def test_names_and_models_that_cannot_read_tomograms(model: Path, tmp_path: Path) -> None:
    from monai_cryo.bundle import read_model

    assert [tomogram_name(Path(n)) for n in ("x/TS_1.mrc", "TS_1.rec.gz", "a.b.map")] == ["TS_1", "TS_1", "a.b"]
    trained = read_model(model)
    trained.box = 48
    with pytest.raises(ValueError, match="boxes of 40 voxels, found TwoBranchNet of boxes of 48"):
        TomogramReader(trained, {})


@pytest.mark.parametrize("name", ["model", "spectrum_model"])
def test_bright_protein_is_read_like_dark(name: str, folder: Path, request: pytest.FixtureRequest) -> None:
    model: Path = request.getfixturevalue(name)
    data, _, _ = read_mrc(folder / "in" / "a.mrc")
    write_mrc(folder / "in" / "bright.mrc", 5 - 3 * data, 10.0)
    more = ["--no_picture", "--scores"]
    assert call("segment", model, folder, *more, inputs="in/a.mrc") == 0
    dark, _, _ = read_mrc(folder / "out" / "a_ribosome.mrc")
    more += ["--invert", "--output", str(folder / "bright")]
    assert call("segment", model, folder, *more, inputs="in/bright.mrc") == 0
    bright, _, _ = read_mrc(folder / "bright" / "bright_ribosome.mrc")
    assert (abs(bright.astype(float) - dark) < 2e-3).mean() > 0.999
    assert dark.any()
