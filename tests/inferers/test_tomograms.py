"""From a file to a reading and back to the file's grid; sizes of particles; records."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_cryo.bundle import ModelRecord, read_model
from monai_cryo.inferers import (
    Reading,
    Sightings,
    TomogramReader,
    TomogramReading,
    TomogramRecord,
    list_tomograms,
    particle_diameters,
    read_record,
    write_record,
)
from monai_cryo.io import open_tomogram, read_mrc, write_mrc
from monai_cryo.networks import TwoBranchNet
from monai_cryo.physics.resampling import covered_shape, resample_nearest
from monai_cryo.templates import load_templates
from monai_cryo.transforms import Standardize


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True)) <= radius**2


@pytest.mark.parametrize("voxel_size", [10.0, 5.0, 6.0, 16.0])
def test_picks_and_labels_are_on_the_files_own_grid(tmp_path: Path, voxel_size: float) -> None:
    shape = tuple(round(10 / voxel_size * n) for n in (40, 51, 60))
    write_mrc(tmp_path / "t.mrc", np.zeros(shape, np.float32), voxel_size, (5.0, 6.0, 7.0))
    tomogram = open_tomogram(tmp_path / "t.mrc")
    read = covered_shape(shape, voxel_size, 10.0)
    # a particle 50, 40 and -30 Å from the middle voxel, in either grid
    away = np.array([5.0, 4.0, -3.0])
    particle = ball(read, tuple(np.array([n // 2 for n in read]) + away), 7)
    labels = particle.astype(np.int8)
    seen = Sightings(np.argwhere(particle).mean(0)[None], np.array([0]), np.array([0.9]), np.array([particle.sum()]))
    reading = Reading([particle.astype(np.float16)], labels, seen)
    whole = TomogramReading(tomogram, np.zeros(read, np.float32), reading, ["ribosome"], 10.0)
    picks = whole.picks({"ribosome": 140.0}, min_score=0.25)
    expected = np.array([n // 2 for n in shape]) + away * 10 / voxel_size
    np.testing.assert_allclose(picks.index, [expected], atol=5 / voxel_size)
    assert (picks.voxel_size, picks.shape) == (voxel_size, shape)
    assert picks.sizes[0] * voxel_size**3 == pytest.approx(np.pi / 6 * 140**3, rel=0.1)
    whole.write_labels(tmp_path / "l.mrc")
    found, size, origin = read_mrc(tmp_path / "l.mrc")
    assert (found.shape, size, origin) == (shape, (voxel_size,) * 3, (5.0, 6.0, 7.0))
    np.testing.assert_allclose(np.argwhere(found).mean(0), expected, atol=0.6)
    nearest = resample_nearest(torch.from_numpy(labels)[None], 10.0, voxel_size, shape)[0]
    np.testing.assert_array_equal(found, nearest)
    assert found.sum() * voxel_size**3 == pytest.approx(labels.sum() * 1000, rel=0.1)
    assert whole.covered()["ribosome"] == pytest.approx(labels.mean())


def test_a_tomogram_of_nearly_the_models_voxel_size_is_read_index_for_index(tmp_path: Path) -> None:
    network = partial(TwoBranchNet, num_classes=2, features=(2, 2, 3, 3, 4), fc=(4, 4), norm="batch")
    record = ModelRecord(["ribosome", "background"], 10.0, 40, "dark", Standardize("item"), network).build()
    torch.save(record.state_dict(), tmp_path / "model.pt")
    volume = np.random.default_rng(0).normal(size=(16, 20, 48)).astype(np.float32)
    write_mrc(tmp_path / "t.mrc", volume, 10.009)
    tomogram = open_tomogram(tmp_path / "t.mrc")
    (tmp_path / "scratch").mkdir()
    found = TomogramReader(read_model(tmp_path / "model.pt"), {"ribosome": 140.0}).read(tomogram, tmp_path / "scratch")
    assert found.voxel_size == tomogram.voxel_size
    assert found.volume.shape == volume.shape


def test_in_bfloat16_it_reads_nearly_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = partial(TwoBranchNet, num_classes=2, features=(2, 2, 3, 3, 4), fc=(4, 4), norm="batch")
    record = ModelRecord(["membrane", "background"], 10.0, 40, "dark", Standardize("item"), network).build()
    record.segmenter.layer.bias.data.zero_()
    torch.save(record.state_dict(), tmp_path / "model.pt")
    write_mrc(tmp_path / "t.mrc", np.random.default_rng(0).normal(size=(16, 20, 48)).astype(np.float32), 10.0)
    maps = []
    for precision in ("float32", "bfloat16"):
        (tmp_path / precision).mkdir()
        reader = TomogramReader(read_model(tmp_path / "model.pt"), {}, precision=precision)
        assert (reader.settings["precision"], reader.windows.network.precision) == (precision, precision)
        found = reader.read(open_tomogram(tmp_path / "t.mrc"), tmp_path / precision)
        maps.append(found.reading.maps[0].astype(float))
    difference = np.abs(maps[1] - maps[0])  # single windows are looked at in the one and not in the other
    assert 0 < difference.mean() < 0.05 * maps[0].mean()


def test_more_classes_than_labels_can_tell_are_refused(tmp_path: Path) -> None:
    names = [f"class{n}" for n in range(128)]
    network = partial(TwoBranchNet, num_classes=128, features=(2, 2, 2, 2, 2), fc=(2, 2))
    record = ModelRecord(names, 10.0, 40, "dark", Standardize("item"), network).build()
    torch.save(record.state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="labels are int8, which has room for 127 classes, found 128"):
        TomogramReader(read_model(tmp_path / "model.pt"), {})


def test_diameters_come_from_the_library_or_are_given() -> None:
    library = load_templates()
    classes = ["ribosome", "membrane", "background"]
    found = particle_diameters(classes, library)
    assert list(found) == ["ribosome"]
    assert 200 < found["ribosome"] < 320
    assert particle_diameters(classes, library, {"ribosome": 0.0, "membrane": 50.0}) == {"membrane": 50.0}
    with pytest.raises(ValueError, match="no class 'groel' to give a diameter"):
        particle_diameters(classes, library, {"groel": 1.0})
    with pytest.raises(ValueError, match="how large is a particle of class 'groel'"):
        particle_diameters(["groel"], library)


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    record = TomogramRecord("t", "7", {"a": 1}, {"ribosome": 0.25}, None)
    write_record(tmp_path / "t.json", record)
    found = read_record(tmp_path / "t.json")
    assert found is not None
    assert vars(found) == vars(record)
    assert read_record(tmp_path / "other.json") is None
    picks = {"index": [], "names": [], "scores": [], "sizes": [], "voxel_size": 1.0, "shape": [1, 1, 1]}
    shapes = [json.dumps({"picks": {**picks, "shape": shape}}) for shape in ([], [1, math.inf, 1])]
    for text in ("{}", *shapes, "[" * 100_000 + "]" * 100_000):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(ValueError, match="is no record of a tomogram"):
            read_record(tmp_path / "other.json")
    with pytest.raises(ValueError, match="is no record of a tomogram"):
        read_record(tmp_path / "other.json")


def test_lists_of_tomograms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.mrc", "a.rec.gz", "c.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert [p.name for p in list_tomograms([str(tmp_path)])] == ["a.rec.gz", "b.mrc"]
    assert [p.name for p in list_tomograms(["*.mrc", "b.mrc"])] == ["b.mrc"]
    for nothing in ("", "*.map", None):
        with pytest.raises(FileNotFoundError, match=r"no such file|no tomogram named"):
            list_tomograms([nothing])
