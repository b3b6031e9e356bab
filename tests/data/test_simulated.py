"""Data sets on disk: what evaluation reads, the same bytes every time, and no sample lost by a kill."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monai_cryo.data import TemplateDataset, load_labelled, simulated, write_simulated
from monai_cryo.engines import SimulateBatch
from monai_cryo.io import read_mrc, write_mrc
from monai_cryo.templates import TemplateLibrary, load_templates
from monai_cryo.transforms import BatchCompose, RandPosed, RandSNRd

NUMBER = 18


@pytest.fixture(scope="module")
def library() -> TemplateLibrary:
    return load_templates(voxel_size=30.0, box=16)


class Imaging:
    """Simulate, and die when enough batches were imaged."""

    def __init__(self, lives: int = 100) -> None:
        pose = RandPosed(["image", "mask"], mode=["bilinear", "nearest"], posed_key="posed", radius_key="radius_vox")
        self.simulate = SimulateBatch(BatchCompose([pose, RandSNRd("image", snr=(0.5, 2.0))]))
        self.lives = lives

    def __call__(self, batch):
        self.lives -= 1
        if self.lives < 0:
            raise KeyboardInterrupt
        return self.simulate(batch)


def write(
    folder: Path, library: TemplateLibrary, imaging: Imaging | None = None, shards: int = 3, seed: int = 3
) -> Path:
    dataset = TemplateDataset(library, NUMBER, seed, "test", balanced=True)
    return write_simulated(folder, dataset, imaging or Imaging(), contrast="dark", shards=shards)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def written(library, tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("sets") / "set", library).parent


def test_two_processes_do_not_write_one_set(library, tmp_path):
    folder = tmp_path / "set"
    hold = f"from monai_cryo.io import hold_folder; hold_folder({str(folder)!r}); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match="another process is at work in"):
            write(folder, library)
        other.communicate(b"\n")
    assert load_labelled(str(write(folder, library).parent), library.classes).items


def test_evaluation_reads_it(written, library):
    found = load_labelled(str(written), library.classes)
    assert len(found.items) == NUMBER
    assert (found.voxel_size, found.contrast, found.skipped) == (30.0, "dark", {})
    assert [item["class"] for item in found.items] == [n % 4 for n in range(NUMBER)]
    image, voxel_size, _ = read_mrc(found.items[5]["image"])
    mask, _, _ = read_mrc(found.items[5]["mask"])
    assert image.shape == mask.shape == (16, 16, 16)
    assert (image.dtype, mask.dtype, voxel_size) == (np.float32, np.int8, (30.0, 30.0, 30.0))
    assert set(np.unique(mask)) == {0, 1}


def test_images_are_those_of_the_simulation_and_not_normalised(written, library):
    dataset = TemplateDataset(library, NUMBER, 3, "test", balanced=True)
    from torch.utils.data import default_collate

    images, label = Imaging()(default_collate([dataset[i] for i in range(8, 16)]))
    (path,) = written.glob("shard_*/12.mrc")
    assert np.array_equal(read_mrc(path)[0], images[4, 0].numpy())
    assert np.array_equal(read_mrc(path.with_name("12_mask.mrc"))[0] > 0, label["mask"][4, 0].numpy() > 0)
    assert not np.isclose(images[4].std(), 1, atol=0.05)


def test_the_table_holds_a_line_a_sample(written):
    with (written / "parameters.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    items = json.loads((written / "dataset.json").read_text())["test"]
    assert [row["image"] for row in rows] == [item["image"] for item in items]
    assert len({row["RandSNRd.snr"] for row in rows}) == NUMBER
    assert all(0.5 <= float(row["RandSNRd.snr"]) <= 2 for row in rows)
    assert {row["class"] for row in rows} == {"ribosome", "proteasome", "tric", "membrane"}
    # which item it is, so that it can be drawn again
    assert [(r["item.seed"], r["item.split"], r["item.index"]) for r in rows] == [
        ("3", "test", str(n)) for n in range(NUMBER)
    ]
    assert [row["item.structure"] for row in rows] == [item["structure"] for item in items]
    # membranes come posed: what was drawn for them was not done
    assert all((row["RandPosed.zoom"] == "") == (row["class"] == "membrane") for row in rows)


def test_same_seed_same_bytes(written, library, tmp_path):
    assert contents(write(tmp_path / "again", library).parent) == contents(written)


def test_shards_change_no_sample(written, library, tmp_path):
    whole = contents(write(tmp_path / "one", library, shards=1).parent)
    one = {Path(name).name: data for name, data in whole.items() if name.endswith(".mrc")}
    assert one == {Path(name).name: data for name, data in contents(written).items() if name.endswith(".mrc")}


@pytest.mark.parametrize("lives", [0, 1, 2])
def test_what_was_cut_off_goes_on(written, library, tmp_path, lives):
    folder = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        write(folder, library, Imaging(lives))
    assert not (folder / "dataset.json").exists()
    (folder / "shard_0" / f".{'0af9' * 8}.00.mrc").touch()  # as a kill leaves it
    rest = Imaging(3 - lives)  # one batch a shard here: what was whole is not imaged again
    write(folder, library, rest)
    assert rest.lives == 0
    assert contents(folder) == contents(written)


@pytest.mark.parametrize("lives", [1, 2])
def test_what_was_killed_goes_on_to_the_same_bytes(written, library, tmp_path, lives):
    """By SIGKILL, in the middle of a shard: nothing of Python's runs after it."""
    folder = tmp_path / "set"
    program = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_simulated as t

class Killed(t.Imaging):
    def __call__(self, batch):
        if not self.lives:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)

t.write(Path({str(folder)!r}), t.load_templates(voxel_size=30.0, box=16), Killed({lives}), shards=2)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert not (folder / "dataset.json").exists()
    assert len(list(folder.rglob("*.mrc"))) == 16 * lives
    write(folder, library, shards=2)
    assert contents(folder) == contents(write(tmp_path / "other", library, shards=2).parent)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_simulated as t

library = t.load_templates(voxel_size=30.0, box=16)
imaging = t.Imaging(10**6)
for number in (300, 3000):
    dataset = t.TemplateDataset(library, number, 3, "test", balanced=True)
    t.write_simulated({str(tmp_path)!r} + f"/{{number}}", dataset, imaging, contrast="dark", shards=3)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    few, many = (int(line) / 1024 for line in done.stdout.split())
    assert many - few < 16, f"{few:.0f} MiB of 300 samples, {many:.0f} MiB of 3000"


def test_a_whole_set_is_left_alone(written, library):
    assert write(written, library, Imaging(0)) == written / "dataset.json"


@pytest.mark.parametrize(("change", "message"), [({"seed": 4}, "seed 3, not 4"), ({"shards": 2}, "shards 3, not 2")])
def test_another_set_in_the_folder_is_refused(written, library, change, message):
    with pytest.raises(ValueError, match=message):
        write(written, library, **change)


@pytest.mark.parametrize("module", ["torch", "numpy"])
def test_shards_of_two_versions_are_not_mixed(library, tmp_path, module, monkeypatch):
    """A whole set is left as it is."""
    folder = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        write(folder, library, Imaging(1))
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.__version__", "0.1")
        with pytest.raises(ValueError, match=f"holds a set with {module} '.*', not '0.1': name another folder"):
            write(folder, library)
    whole = write(folder, library)
    monkeypatch.setattr(f"{module}.__version__", "0.1")
    assert write(folder, library, Imaging(0)) == whole


def test_a_shard_is_on_the_disk_before_its_table(library, tmp_path, monkeypatch):
    folder, flushed = tmp_path / "set", []
    flush = simulated.flush_to_disk

    def note(path):
        assert not (Path(path).parent / "parameters.csv").exists()
        flushed.append(path)
        flush(path)

    monkeypatch.setattr(simulated, "flush_to_disk", note)
    write(folder, library)
    assert {str(path) for path in folder.rglob("*.mrc")} <= {str(path) for path in flushed}


def test_a_list_of_somebody_else_is_not_replaced(tmp_path, library):
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match="not simulated here"):
        write(tmp_path, library)
    assert (tmp_path / "dataset.json").read_text() == "{}"


@pytest.mark.parametrize("shards", [0, 4])
def test_shards_that_cannot_be(tmp_path, library, shards):
    with pytest.raises(ValueError, match=r"shards must lie in 1\.\.3"):
        write(tmp_path / "set", library, shards=shards)
    assert not (tmp_path / "set").exists()


def test_a_volume_has_one_file(tmp_path, monkeypatch):
    """Headers hold no time: the same volume written a day later has the same bytes."""
    import datetime

    import mrcfile.mrcobject

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 5, 6)

    volume = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    write_mrc(tmp_path / "now.mrc", volume, 10.0)
    monkeypatch.setattr(mrcfile.mrcobject, "datetime", Later)
    write_mrc(tmp_path / "later.mrc", volume, 10.0)
    assert (tmp_path / "now.mrc").read_bytes() == (tmp_path / "later.mrc").read_bytes()
