"""Headers that lie: refused in one line, before memory is taken for what they claim."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monai_cryo._refusals import is_refusal
from monai_cryo.io import open_tomogram, read_mrc, write_mrc

MEASURE = """
import json, resource, sys
from monai_cryo.io import open_tomogram, read_mrc
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_mrc(sys.argv[1], voxel_size=2.0)
open_tomogram(sys.argv[1], voxel_size=2.0)
said = []
for path in sys.argv[2:]:
    for read in (read_mrc, open_tomogram):
        before = peak()
        try:
            read(path, voxel_size=2.0)
        except ValueError as error:
            said.append([path, peak() - before, str(error)])
        else:
            said.append([path, peak() - before, ""])
print(json.dumps(said))
"""


def header(n: int, extended: int = 0, cell: float = 80.0, itemsize_mode: int = 2) -> bytes:
    """Header of a cube of n voxels."""
    fields = np.zeros(256, "<i4")
    fields[:4] = [n, n, n, itemsize_mode]
    fields[7:10] = n
    fields[10:13] = np.full(3, cell, "<f4").view("<i4")
    fields[13:16] = np.full(3, 90.0, "<f4").view("<i4")
    fields[16:19] = [1, 2, 3]
    fields[22:24] = [1, extended]
    fields[52] = int.from_bytes(b"MAP ", "little")
    fields[53] = 0x4144
    return fields.tobytes()


def test_memory_stays_small_whatever_a_file_claims(tmp_path: Path) -> None:
    zeros = bytes(1 << 27)
    files = {
        "extended.mrc": header(8, extended=2**31 - 1) + bytes(2048),
        "size.mrc": header(1290) + bytes(2048),
        "extended.mrc.gz": gzip.compress(header(8, extended=2**31 - 1) + bytes(2048)),
        "size.mrc.gz": gzip.compress(header(1290) + bytes(2048)),
        "size.mrc.bz2": bz2.compress(header(1290) + bytes(2048)),
        "zeros.mrc.gz": gzip.compress(header(322) + zeros, 1),
        "behind.mrc.gz": gzip.compress(header(8, extended=(1 << 27) - 4096) + zeros, 1),
    }
    assert len(files["zeros.mrc.gz"]) < 1 << 20
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    write_mrc(tmp_path / "fine.mrc.gz", np.random.RandomState(0).randn(8, 8, 8), 2.0)
    names = [str(tmp_path / name) for name in ("fine.mrc.gz", *files)]
    done = subprocess.run([sys.executable, "-c", MEASURE, *names], check=True, capture_output=True, text=True)
    for path, grown_kib, message in json.loads(done.stdout):
        assert grown_kib < 16 << 10, path
        assert "truncated, holds" in message or "would unpack from" in message
        assert "\n" not in message


def test_masks_that_pack_well_are_read(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc.gz", np.zeros((128, 128, 128), np.int8), 2.0)
    assert (tmp_path / "a.mrc.gz").stat().st_size < (1 << 21) / 200
    assert not read_mrc(tmp_path / "a.mrc.gz")[0].any()


@pytest.mark.parametrize("size", [1e-30, 1e-3, 0.1, 101.0, 500.0, 1e30, np.nan, np.inf, -13.68])
@pytest.mark.parametrize("read", [read_mrc, open_tomogram])
def test_a_voxel_size_that_cannot_be_is_refused_unless_given(tmp_path: Path, size: float, read: object) -> None:
    with np.errstate(over="ignore"):
        (tmp_path / "a.mrc").write_bytes(header(4, cell=4 * size) + bytes(256))
    with pytest.raises(ValueError, match=r"voxel size .* expected 0\.2 to 100 Å: pass the true one") as error:
        read(tmp_path / "a.mrc")  # type: ignore[operator]
    assert is_refusal(error.value)
    assert "\n" not in str(error.value)
    read(tmp_path / "a.mrc", voxel_size=13.68)  # type: ignore[operator]


@pytest.mark.parametrize("read", [read_mrc, open_tomogram])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, read: object) -> None:
    os.mkfifo(tmp_path / "pipe.mrc")
    (tmp_path / "folder.mrc").mkdir()
    (tmp_path / "empty.mrc").touch()
    says = {"pipe.mrc": "a device", "folder.mrc": "a directory", "empty.mrc": "holds 0 of 1024 bytes"}
    for name, text in says.items():
        with pytest.raises(ValueError, match=text) as error:
            read(tmp_path / name)  # type: ignore[operator]
        assert is_refusal(error.value)
    with pytest.raises(FileNotFoundError, match=r"none\.mrc: no such"):
        read(tmp_path / "none.mrc")  # type: ignore[operator]


@pytest.mark.filterwarnings("error")
def test_a_cell_near_the_largest_float_is_refused_without_a_warning(tmp_path):
    """Rounded up to few digits, its size is beyond float32."""
    path = tmp_path / "cell.mrc"
    path.write_bytes(header(4, cell=float(np.finfo(np.float32).max)) + bytes(4 * 4**3))
    for read in (read_mrc, open_tomogram):
        with pytest.raises(ValueError, match=r"voxel size .* 8.50706e\+37"):
            read(path)
