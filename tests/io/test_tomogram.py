"""Tomograms by pieces: memory maps, boxes at other voxel sizes and over the edge, whole ones on another grid."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from monai_cryo._refusals import is_refusal
from monai_cryo.io.mrc import read_mrc, write_mrc
from monai_cryo.io.particles import index_to_star, star_to_index
from monai_cryo.io.tomogram import (
    cut_boxes,
    mapped_mrc,
    new_map,
    open_tomogram,
    release_pages,
    resample_tomogram,
    sections,
    to_source_index,
)
from monai_cryo.physics.resampling import covered_shape


def blob(shape: tuple[int, ...], centre: tuple[float, ...], sigma: float) -> np.ndarray:
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    square = sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True))
    return np.exp(-square / 2 / sigma**2).astype(np.float32)


def centroid(volume: np.ndarray) -> np.ndarray:
    grids = np.meshgrid(*(np.arange(n) for n in volume.shape), indexing="ij")
    return np.array([(g * volume).sum() / volume.sum() for g in grids])


def only(boxes: object) -> tuple[torch.Tensor, float]:
    ((box, outside),) = boxes  # type: ignore[attr-defined]
    return box, outside


def test_a_plain_file_is_mapped_and_a_compressed_one_read(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    write_mrc(tmp_path / "a.mrc", data, 13.68, (1.0, 2.0, 3.0))
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress((tmp_path / "a.mrc").read_bytes()))
    plain, packed = open_tomogram(tmp_path / "a.mrc"), open_tomogram(tmp_path / "a.mrc.gz")
    assert isinstance(plain.data, np.memmap)
    for tomogram in (plain, packed):
        np.testing.assert_array_equal(tomogram.data, data)
        assert (tomogram.voxel_size, tomogram.origin) == (13.68, (1.0, 2.0, 3.0))
        assert not tomogram.data.flags.writeable


@pytest.mark.parametrize("said", [0.0, 1.0, 10.0])
def test_where_a_grid_starts_is_in_the_voxels_given(tmp_path: Path, said: float) -> None:
    write_mrc(tmp_path / "a.mrc", np.zeros((5, 6, 7), np.float32), said or 1.0)
    with mrcfile.open(tmp_path / "a.mrc", "r+") as mrc:
        mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart = 10, 20, 30
        mrc.header.cella = (7 * said, 6 * said, 5 * said)
    tomogram = open_tomogram(tmp_path / "a.mrc", 13.68)
    assert tomogram.origin == read_mrc(tmp_path / "a.mrc", voxel_size=13.68)[2]
    assert tomogram.origin == pytest.approx((410.4, 273.6, 136.8))


@pytest.mark.parametrize(
    ("size", "message"),
    [(0.0, "is 0 Å, pass"), (1.0, "is 1 Å, pass the true one"), ((10.0, 10, 12), "expected cubic voxels")],
)
def test_a_doubtful_voxel_size_is_refused_unless_given(tmp_path: Path, size: object, message: str) -> None:
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(np.zeros((4, 4, 4), np.float32))
        mrc.voxel_size = size
    with pytest.raises(ValueError, match=message):
        open_tomogram(tmp_path / "a.mrc")
    assert open_tomogram(tmp_path / "a.mrc", voxel_size=13.68).voxel_size == 13.68


def test_unreadable_files_are_refused_in_one_line(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc", np.zeros((8, 8, 8), np.float32), 10.0)
    whole = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "cut.mrc").write_bytes(whole[:1500])
    (tmp_path / "cut.mrc.gz").write_bytes(gzip.compress(whole)[:60])
    for name in ("cut.mrc", "cut.mrc.gz"):
        with pytest.raises(ValueError, match=f"{name}: ") as caught:
            open_tomogram(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_tomogram(tmp_path / "none.mrc")


@pytest.mark.parametrize("box", [8, 9])
@pytest.mark.parametrize("shape", [(20, 24, 28), (21, 25, 27)])
def test_a_copied_box_is_centred_on_its_voxel(shape: tuple[int, int, int], box: int) -> None:
    data = np.zeros(shape, np.float32)
    data[10, 11, 12] = 1
    found, outside = only(cut_boxes(data, [10.3, 10.8, 12], box, 10.0))
    assert found.nonzero().tolist() == [[box // 2] * 3]
    assert outside == 0


@pytest.mark.parametrize(("box", "new"), [(24, 8.0), (25, 8.0), (12, 21.0), (13, 21.0), (20, 13.68)])
@pytest.mark.parametrize("centre", [(20.0, 21.0, 22.0), (20.37, 21.5, 21.83)])
def test_a_resampled_box_keeps_the_particle_in_its_centre(box: int, new: float, centre: tuple[float, ...]) -> None:
    data = blob((41, 42, 45), centre, 5.0)
    found, _ = only(cut_boxes(data, centre, box, 10.0, new))
    expected = blob((box,) * 3, (box // 2,) * 3, 50.0 / new)
    # half a permille of the peak, for what the low-pass takes of the blob
    assert float((found - torch.from_numpy(expected)).abs().max()) < 5e-3


def test_noise_is_filtered_not_aliased() -> None:
    data = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    found, _ = only(cut_boxes(data, [32, 32, 32], 12, 5.0, 20.0))
    assert float(found.var()) < 2.5 / 64  # a quarter of the band along each axis


@pytest.mark.parametrize("new", [10.0, 14.0])
def test_outside_is_filled_as_declared(new: float) -> None:
    data = np.full((30, 30, 30), 3.0, np.float32)
    found, outside = only(cut_boxes(data, [15, 15, 0], 10, 10.0, new, fill=-1.0))
    assert outside == pytest.approx(0.5 if new == 10 else 7.2 / 14)
    assert float(found[5, 5, 0]) == pytest.approx(-1, abs=0.2)
    assert float(found[5, 5, 9]) == pytest.approx(3, abs=0.2)
    same, _ = only(cut_boxes(data, [15, 15, 0], 10, 10.0, new))
    torch.testing.assert_close(same, torch.full((10, 10, 10), 3.0))


def test_boxes_outside_or_not_finite_are_refused() -> None:
    data = np.zeros((10, 10, 10), np.float32)
    with pytest.raises(ValueError, match="lies outside"):
        list(cut_boxes(data, [5, 5, 40], 8, 10.0))
    data[5, 5, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        list(cut_boxes(data, [5, 5, 5], 8, 10.0))


@pytest.mark.parametrize("shape", [(40, 44, 50), (41, 43, 51)])
@pytest.mark.parametrize("style", ["relion4", "relion5"])
@pytest.mark.parametrize("binning", [1, 4])
@pytest.mark.parametrize("origin", [(0.0, 0.0, 0.0), (-500.0, 20.0, 1e4)])
def test_star_to_box_and_back_to_half_a_voxel(
    tmp_path: Path, shape: tuple[int, int, int], style: str, binning: int, origin: tuple[float, float, float]
) -> None:
    where = (19.0, 22.0, 27.0)
    write_mrc(tmp_path / "t.mrc", blob(shape, where, 2.0), 10.0, origin)
    tomogram = open_tomogram(tmp_path / "t.mrc")
    size_px = [n * binning for n in shape]
    star = index_to_star([where], style, 10.0, 10.0 / binning, size_px)
    index = star_to_index(star, style, 10.0, 10.0 / binning, size_px)
    box, _ = only(cut_boxes(tomogram.data, index, 16, 10.0))
    assert np.abs(centroid(box.numpy()) - 8).max() < 0.5


@pytest.mark.parametrize("new", [8.0, 13.68])
def test_a_tomogram_resampled_in_blocks_is_the_one_resampled_at_once(tmp_path: Path, new: float) -> None:
    data = np.random.default_rng(0).normal(size=(30, 41, 36)).astype(np.float32)
    write_mrc(tmp_path / "t.mrc", data, 10.0)
    tomogram = open_tomogram(tmp_path / "t.mrc")
    at_once = resample_tomogram(tomogram, new, tmp_path / "a.raw", block=1000)
    blocks = resample_tomogram(tomogram, new, tmp_path / "b.raw", block=16)
    assert blocks.shape == covered_shape(data.shape, 10.0, new)
    assert np.abs(blocks - at_once).max() < 0.05 * at_once.std()
    centre = [[n // 2 for n in blocks.shape]]
    assert to_source_index(centre, tomogram, blocks.shape, new).tolist() == [[15, 20, 18]]


@pytest.mark.parametrize("dtype", [np.float16, np.int8])
def test_a_mapped_volume_is_there_once_it_is_whole(tmp_path: Path, dtype: type[np.generic]) -> None:
    path = tmp_path / "v.mrc"
    with mapped_mrc(path, (3, 4, 5), dtype, 13.68, (1.0, 2.0, 3.0)) as data:
        data[1, 2, 3] = 7
        assert not path.exists()
    array, size, origin = read_mrc(path)
    assert (array.dtype, array[1, 2, 3], array.sum()) == (dtype, 7, 7)
    assert (size, origin) == ((13.68,) * 3, (1.0, 2.0, 3.0))
    assert b"written by monai_cryo" in path.read_bytes()[224:304]  # not the time: the same volume is the same bytes


def test_a_mapped_volume_that_failed_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyError), mapped_mrc(tmp_path / "v.mrc", (3, 4, 5), np.int8, 10.0):
        raise KeyError
    with pytest.raises(ValueError, match="float64"), mapped_mrc(tmp_path / "v.mrc", (3, 4, 5), np.float64, 10.0):
        pass
    assert not list(tmp_path.iterdir())


def test_pages_that_are_let_go_keep_what_was_written(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(300, 64, 64)).astype(np.float32)
    mapped = np.memmap(tmp_path / "v", np.float32, "w+", shape=values.shape)
    mapped[:] = values
    release_pages(mapped.transpose(2, 1, 0))
    np.testing.assert_array_equal(mapped, values)
    release_pages(values)  # no map: nothing happens
    mapped.flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "v", np.float32).reshape(values.shape), values)


def test_a_private_map_keeps_what_was_written(tmp_path: Path) -> None:
    np.zeros(4096, np.float32).tofile(tmp_path / "v")
    private = np.memmap(tmp_path / "v", np.float32, "c", shape=(64, 8, 8))
    private[:] = 3
    for _ in sections(private.transpose(2, 1, 0)):
        pass
    assert bool((private == 3).all())


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device \(240 bytes\): .*map_0") as error:
        new_map(tmp_path / "map_0", np.float32, (3, 4, 5))
    assert is_refusal(error.value)
    with (
        pytest.raises(OSError, match=r"No space left on device") as error,
        mapped_mrc(tmp_path / "v.mrc", (3, 4, 5), np.int8, 10.0),
    ):
        pass
    assert str(error.value.filename) == str(tmp_path / "v.mrc")
    assert not (tmp_path / "v.mrc").exists()


def test_a_new_map_is_zeros_that_stay_when_written(tmp_path: Path) -> None:
    mapped = new_map(tmp_path / "v", np.float16, (3, 4, 5))
    assert not mapped.any()
    mapped[1] = 2
    release_pages(mapped)
    assert np.fromfile(tmp_path / "v", np.float16).reshape(3, 4, 5)[1].min() == 2


def test_finely_sampled_tomograms_are_resampled_in_small_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mrc(tmp_path / "t.mrc", np.zeros((300, 16, 16), np.float32), 5.0)
    asked = []

    def note(data: np.ndarray, centres: object, size: list[int], *_: object, **__: object) -> list[object]:
        asked.append(size)
        return [(torch.zeros(size), 0.0)]

    monkeypatch.setattr("monai_cryo.io.tomogram.cut_boxes", note)
    resample_tomogram(open_tomogram(tmp_path / "t.mrc"), 20.0, tmp_path / "r")
    assert max(size[0] for size in asked) == 32  # 128 voxels of the file


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's own account of memory")
def test_pages_that_are_let_go_take_no_memory(tmp_path: Path) -> None:
    def mapped_kib() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(("RssFile", "RssShmem"))).split()[1])

    mapped = np.memmap(tmp_path / "v", np.uint8, "w+", shape=(2**26,))
    mapped[:] = 1
    before = mapped_kib()
    release_pages(mapped)
    assert before - mapped_kib() > 2**15
