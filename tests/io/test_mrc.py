"""MRC files in and out."""

from __future__ import annotations

import gzip
import logging
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monai_cryo.io.mrc import read_mrc, write_mrc

VOXEL = (13.68, 8.704, 2.1)
ORIGIN = (-100.5, 0.1, 33.25)


def volume(shape=(4, 5, 6), dtype=np.float32):
    values = np.random.RandomState(0).randint(0, 100, shape)
    return values.astype(dtype)


def raw(path, data, *, compression=None, **header):
    """Write with mrcfile alone; `header` sets fields, cella as (x, y, z)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.new(path, data, compression=compression, overwrite=True) as mrc:
            for name, value in header.items():
                mrc.header[name] = value
    return path


def one_line(error: pytest.ExceptionInfo, path: Path) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert path.name in text
    return text


@pytest.mark.parametrize("name", ["a.mrc", "a.map", "a.REC", "a.mrcs", "a.st", "a.mrc.gz", "13.68A.rec.gz"])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_round_trip_keeps_dtype_values_voxel_size_and_origin(tmp_path, name, dtype):
    data = volume(dtype=dtype)
    write_mrc(tmp_path / name, data, VOXEL, ORIGIN)
    array, voxel_size, origin = read_mrc(tmp_path / name)
    assert array.dtype == dtype
    assert array.flags.writeable
    np.testing.assert_array_equal(array, data)
    assert voxel_size == VOXEL
    assert origin == ORIGIN
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (volume() > 50, np.int8),
        (volume(dtype=np.uint8), np.int16),
        (volume(dtype=np.int64) - 32768, np.int16),
        (volume(dtype=np.int32) + 32767, np.float32),
        (volume(dtype=np.float64), np.float32),
        (volume(dtype=">f4"), np.float32),
        (volume().transpose(2, 1, 0), np.float32),
    ],
)
def test_other_types_are_converted_without_loss(tmp_path, data, dtype):
    write_mrc(tmp_path / "a.mrc", data, 2.0)
    array, voxel_size, _ = read_mrc(tmp_path / "a.mrc")
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, data)
    assert voxel_size == (2.0, 2.0, 2.0)


def test_mrcfile_agrees_with_what_was_written(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume(), VOXEL, ORIGIN)
    assert mrcfile.validate(tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc") as mrc:
        np.testing.assert_array_equal(mrc.data, volume())
        np.testing.assert_allclose(mrc.voxel_size.item(), VOXEL[::-1], rtol=1e-6)
        np.testing.assert_allclose(mrc.header.origin.item(), ORIGIN[::-1], rtol=1e-6)
        assert mrc.is_volume()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.floats(0.2, 100).map(lambda v: float(f"{v:.5g}")), n=st.integers(1, 9))
def test_voxel_sizes_come_back_as_the_decimals_they_were(tmp_path, size, n):
    write_mrc(tmp_path / "a.mrc", np.zeros((n, 7, 3), np.int8), size, overwrite=True)
    assert read_mrc(tmp_path / "a.mrc", voxel_size=None if size != 1 else 1)[1] == (size,) * 3


@pytest.mark.parametrize(
    "bad",
    [
        {"array": np.full((2, 2, 2), np.nan)},
        {"array": np.full((2, 2, 2), 1e300)},
        {"array": np.zeros((2, 2))},
        {"array": np.zeros((0, 2, 2))},
        {"array": np.zeros((2, 2, 2), complex)},
        {"array": np.full((2, 2, 2), "a")},
        {"voxel_size": 0.0},
        {"voxel_size": (1.0, -1.0, 1.0)},
        {"voxel_size": (1.0, 1.0)},
        {"voxel_size": float("nan")},
        {"origin": (0.0, float("inf"), 0.0)},
        {"origin": (0.0, 0.0)},
    ],
)
def test_a_refused_write_leaves_nothing_behind(tmp_path, bad):
    with pytest.raises(ValueError, match=r"expected|must be|not written") as error:
        write_mrc(tmp_path / "a.mrc", **({"array": volume(), "voxel_size": 2.0} | bad))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", [(mrcfile.mrcfile.MrcFile, "set_data"), (Path, "replace")], ids=["data", "rename"])
def test_a_write_that_breaks_off_keeps_the_old_file(tmp_path, monkeypatch, where):
    write_mrc(tmp_path / "a.mrc", volume(), 2.0)
    before = (tmp_path / "a.mrc").read_bytes()

    def full(*args):
        raise OSError("disk full")

    monkeypatch.setattr(*where, full)
    with pytest.raises(OSError, match="disk full"):
        write_mrc(tmp_path / "a.mrc", volume() + 1, 2.0, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mrc"]
    assert (tmp_path / "a.mrc").read_bytes() == before


def test_write_refuses_names_folders_and_silent_replacement(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume(), 2.0)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_mrc(tmp_path / "a.mrc", volume(), 2.0)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        write_mrc(tmp_path / "no" / "a.mrc", volume(), 2.0)
    for name in ("a.npy", "a.star", "a.gz", "a.mrc.bz2"):
        with pytest.raises(ValueError, match="unknown suffix"):
            write_mrc(tmp_path / name, volume(), 2.0)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.mrc: no such file"):
        read_mrc(tmp_path / "no.mrc")
    with pytest.raises(ValueError, match="directory") as error:
        read_mrc(tmp_path)
    one_line(error, tmp_path)


def test_broken_files_are_one_line(tmp_path):
    whole = raw(tmp_path / "whole.mrc", volume()).read_bytes()
    packed = gzip.compress(whole, mtime=0)
    stored = gzip.compress(whole + b"more", 0)  # not compressed: the same bytes, whichever zlib
    bomb = gzip.compress(whole + bytes(2**27))
    cases = {
        "empty.mrc": (b"", "header"),
        "short.mrc": (whole[:700], "header"),
        "text.mrc": (b"data_\nloop_\n" * 200, "Map ID"),
        "cut.mrc": (whole[:-3], "truncated, holds 477 of the 480 data bytes"),
        "nodata.mrc": (whole[:1024], "truncated, holds 0 of"),
        "cut.mrc.gz": (packed[:-20], "end-of-stream"),
        "short.mrc.gz": (gzip.compress(whole[:-4]), "truncated, holds 476 of"),
        "flip.mrc.gz": (stored.replace(volume().tobytes()[:8], bytes(8)), "CRC check failed"),
        "bomb.mrc.gz": (bomb, "would unpack from"),
        "mode.mrc": (whole[:12] + b"\x65\0\0\0" + whole[16:], "mode '101'"),
        "huge.mrc": (b"\xff\xff\xff\x7f" * 2 + whole[8:], "truncated"),
        "extended.mrc": (whole[:92] + b"\xff\xff\xff\xff" + whole[96:], "negative"),
    }
    for name, (content, text) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=text) as error:
            read_mrc(tmp_path / name)
        assert "expected an MRC2014 file" in one_line(error, tmp_path / name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 255), what=st.binary(min_size=4, max_size=4), packed=st.booleans())
def test_a_damaged_header_is_read_or_refused_in_one_line(tmp_path, where, what, packed):
    whole = raw(tmp_path / "whole.mrc", volume(), cella=(6, 5, 4)).read_bytes()
    content = whole[: 4 * where] + what + whole[4 * where + 4 :]
    path = tmp_path / "damaged.mrc"
    path.write_bytes(gzip.compress(content) if packed else content)
    message = ""
    try:
        array, voxel_size, origin = read_mrc(path, voxel_size=2.0, allow_nonfinite=True)
    except ValueError as error:
        message = str(error)
    if message:
        assert re.fullmatch(r".*damaged\.mrc: [^\n]+", message)
    else:
        assert array.ndim == 3
        assert voxel_size == (2.0, 2.0, 2.0)
        assert np.isfinite(origin).all()


def test_extra_bytes_are_logged_and_never_raised(tmp_path, caplog):
    path = raw(tmp_path / "long.mrc", volume(), cella=(12, 10, 8))
    path.write_bytes(path.read_bytes() + b"more")
    with caplog.at_level(logging.WARNING):
        array, _, _ = read_mrc(path)
    np.testing.assert_array_equal(array, volume())
    assert "long.mrc: longer than its header says" in caplog.text


def test_reading_in_threads_leaves_the_warning_filters_alone(tmp_path):
    paths = [raw(tmp_path / f"{i}.mrc", volume(), cella=(12, 10, 8)) for i in range(8)]
    before, show = list(warnings.filters), warnings.showwarning
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_mrc, paths * 5))
    assert warnings.filters == before
    assert warnings.showwarning is show


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_values(tmp_path, value):
    data = volume()
    data[0, 0, 0] = value
    path = raw(tmp_path / "a.mrc", data, cella=(12, 10, 8))
    with pytest.raises(ValueError, match="1 of 120 values are NaN or infinite") as error:
        read_mrc(path)
    one_line(error, path)
    np.testing.assert_array_equal(read_mrc(path, allow_nonfinite=True)[0], data)


@pytest.mark.parametrize(
    ("header", "expected", "text"),
    [
        ({}, None, "holds no voxel size"),
        ({"cella": (12, 10, 0)}, None, "holds no voxel size"),
        ({"cella": (12, 10, 8), "mx": 0}, None, "holds no voxel size"),
        ({"cella": (6, 5, 4)}, (1.0, 1.0, 1.0), "1.0 Å often means unknown"),
    ],
)
def test_a_doubtful_voxel_size_warns_once_unless_given(tmp_path, header, expected, text):
    path = raw(tmp_path / "a.mrc", volume(), **header)
    with pytest.warns(UserWarning, match=text) as record:
        assert read_mrc(path)[1] == expected
    assert len(record) == 1
    assert "a.mrc" in str(record[0].message)
    assert "pass voxel_size" in str(record[0].message)
    assert read_mrc(path, voxel_size=10)[1] == (10.0, 10.0, 10.0)


@pytest.mark.parametrize("order", [(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)])
def test_axis_order_is_honoured(tmp_path, order):
    truth = volume()  # [z, y, x]
    stored = truth.transpose([3 - axis for axis in order[::-1]])  # slowest = maps
    mapc, mapr, maps = order
    header = {"mapc": mapc, "mapr": mapr, "maps": maps, "mx": 6, "my": 5, "mz": 4, "cella": (12, 15, 16)}
    starts = {1: 7, 2: -3, 3: 11}
    header |= {"nxstart": starts[mapc], "nystart": starts[mapr], "nzstart": starts[maps]}
    array, voxel_size, origin = read_mrc(raw(tmp_path / "a.mrc", np.ascontiguousarray(stored), **header))
    np.testing.assert_array_equal(array, truth)
    assert voxel_size == (4.0, 3.0, 2.0)
    assert origin == (44.0, -9.0, 14.0)


@pytest.mark.parametrize(
    ("data", "header", "text"),
    [
        (volume(), {"mapc": 2}, r"axis order .*\(2, 2, 3\)"),
        (volume(), {"cellb": (90, 90, 120)}, "cell angles .*orthogonal"),
        (volume()[0], {}, "expected 3 dimensions"),
        (volume((2, 2, 2, 2)), {}, "expected 3 dimensions"),
        (volume(dtype=np.complex64), {}, "complex"),
    ],
)
def test_what_is_no_plain_volume_is_refused(tmp_path, data, header, text):
    path = raw(tmp_path / "a.mrc", data, **header)
    with pytest.raises(ValueError, match=text) as error:
        read_mrc(path, voxel_size=1)
    one_line(error, path)


def test_ndim_opens_images_and_volume_stacks(tmp_path):
    for ndim, shape in ((2, (5, 6)), (4, (2, 3, 4, 5))):
        path = raw(tmp_path / "a.mrc", volume(shape))
        np.testing.assert_array_equal(read_mrc(path, ndim=ndim, voxel_size=1)[0], volume(shape))


def test_sloppy_headers_still_read(tmp_path):
    zero = {"mapc": 0, "mapr": 0, "maps": 0, "cellb": (0, 0, 0), "dmin": 5, "dmax": -5, "dmean": np.nan}
    path = raw(tmp_path / "a.mrc", volume(), cella=(12, 10, 8), origin=(np.nan, 0, 0), **zero)
    array, voxel_size, origin = read_mrc(path)
    np.testing.assert_array_equal(array, volume())
    assert (voxel_size, origin) == ((2.0, 2.0, 2.0), (0.0, 0.0, 0.0))


@pytest.mark.parametrize(("flags", "dtype"), [(0, np.uint8), (1, np.int8)])
def test_imod_says_whether_bytes_are_signed(tmp_path, flags, dtype):
    data = np.arange(-60, 60, dtype=np.int8).reshape(4, 5, 6)
    extra = bytearray(84)
    extra[40:48] = np.array([1146047817, flags], "<i4").tobytes()
    array, _, _ = read_mrc(raw(tmp_path / "a.mrc", data, cella=(12, 10, 8), extra2=np.void(bytes(extra))))
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, data.view(dtype))


def test_big_endian_and_extended_header(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(volume(dtype=">f4"))
        mrc.set_extended_header(np.frombuffer(b"x" * 256, "S1"))
        mrc.voxel_size = 3.5
    array, voxel_size, _ = read_mrc(tmp_path / "a.mrc")
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, volume())
    assert voxel_size == (3.5, 3.5, 3.5)


def test_every_shared_file_reads(shared_data):
    paths = [*sorted((shared_data / "maps").glob("*.mrc.gz")), *sorted((shared_data / "real").rglob("*_00[0-2].mrc"))]
    assert len(paths) > 25
    for path in paths:
        array, voxel_size, _ = read_mrc(path)
        with mrcfile.open(path) as mrc:
            np.testing.assert_array_equal(array, mrc.data)
            np.testing.assert_allclose(voxel_size, mrc.voxel_size.item()[::-1], rtol=1e-6)
