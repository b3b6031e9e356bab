"""MRC files through MONAI's LoadImage and SaveImage."""

from __future__ import annotations

import warnings

import mrcfile
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flip, LoadImage, LoadImaged, SaveImage, SaveImaged

from monai_cryo.io import MRCReader, MRCWriter, read_mrc, write_mrc

VOXEL = (13.68, 8.704, 2.1)
ORIGIN = (-100.5, 0.1, 33.25)
READERS = [MRCReader, "monai_cryo.data.MRCReader", MRCReader()]


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


@pytest.mark.parametrize("reader", READERS, ids=["class", "string", "instance"])
@pytest.mark.parametrize("name", ["a.mrc", "a.mrc.gz"])
def test_load_image_affine_is_truthful(tmp_path, reader, name):
    write_mrc(tmp_path / name, volume(), VOXEL, ORIGIN)
    image = LoadImage(reader=reader)(tmp_path / name)
    assert isinstance(image, MetaTensor)
    np.testing.assert_array_equal(image.numpy(), volume())
    assert image.pixdim.tolist() == list(VOXEL)
    for index in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 4, 5)]:
        x, y, z = (image.affine.numpy() @ [*index, 1.0])[:3]
        expected = [o + i * v for o, i, v in zip(ORIGIN, index, VOXEL, strict=True)]
        np.testing.assert_allclose([z, y, x], expected)
    assert image.meta["filename_or_obj"] == str(tmp_path / name)
    assert image.meta["spatial_shape"].tolist() == [4, 5, 6]
    assert np.isnan(image.meta["original_channel_dim"])
    assert image.meta["space"] == "RAS"
    np.testing.assert_array_equal(image.meta["original_affine"], image.affine)


def test_channel_first_dictionary_and_stacked_files(tmp_path):
    for i in range(2):
        write_mrc(tmp_path / f"{i}.mrc", volume() + i, VOXEL, ORIGIN)
    load = LoadImaged("image", reader="monai_cryo.data.MRCReader", ensure_channel_first=True)
    assert load({"image": tmp_path / "0.mrc"})["image"].shape == (1, 4, 5, 6)
    both = load({"image": [tmp_path / "0.mrc", tmp_path / "1.mrc"]})["image"]
    assert both.shape == (2, 4, 5, 6)
    np.testing.assert_array_equal(both[1].numpy(), volume() + 1)
    write_mrc(tmp_path / "1.mrc", volume(), 3.0, overwrite=True)
    with pytest.raises(ValueError, match="must share shape, voxel size and origin"):
        load({"image": [tmp_path / "0.mrc", tmp_path / "1.mrc"]})


def test_reader_chosen_by_suffix_and_voxel_size_override(tmp_path):
    reader = MRCReader(voxel_size=(4, 5, 6))
    assert all(map(reader.verify_suffix, ["a.mrc", "a.MAP.gz", "13.68.rec", ["a.st", "b.mrcs"]]))
    assert not any(map(reader.verify_suffix, ["a.star", "a.nii.gz", "a.mrc.txt", ["a.mrc", "b.npy"]]))
    path = raw(tmp_path / "a.mrc", volume(), cella=(6, 5, 4), nzstart=2)
    image = LoadImage(reader="monai_cryo.data.MRCReader", voxel_size=(4, 5, 6))(path)
    assert image.pixdim.tolist() == [4, 5, 6]
    assert image.affine[:3, 3].tolist() == [0, 0, 8]
    with pytest.raises(ValueError, match="voxel_size must be > 0"):
        MRCReader(voxel_size=0)


def test_a_header_without_voxel_size_loads_as_one_angstrom_with_a_warning(tmp_path):
    path = raw(tmp_path / "a.mrc", volume())
    with pytest.warns(UserWarning, match="pass voxel_size"):
        image = LoadImage(reader=MRCReader())(path)
    assert image.pixdim.tolist() == [1, 1, 1]


def test_the_reason_reaches_the_user_of_load_image(tmp_path):
    (tmp_path / "a.mrc").write_bytes(b"no")
    with pytest.raises(RuntimeError, match=r"a\.mrc: too short for a header, holds 2 of 1024"):
        LoadImage(reader=MRCReader)(tmp_path / "a.mrc")


@pytest.mark.parametrize("writer", [MRCWriter, "monai_cryo.data.MRCWriter"], ids=["class", "string"])
@pytest.mark.parametrize("ext", [".mrc", ".mrc.gz"])
@pytest.mark.parametrize("channel_first", [True, False])
@pytest.mark.parametrize("resample", [False, True])
def test_load_save_round_trip_is_exact(tmp_path, writer, ext, channel_first, resample):
    write_mrc(tmp_path / "a.mrc", volume(), VOXEL, ORIGIN)
    image = LoadImage(reader=MRCReader, ensure_channel_first=channel_first)(tmp_path / "a.mrc")
    save = SaveImage(tmp_path, "out", ext, resample=resample, writer=writer, separate_folder=False, print_log=False)
    for _ in range(2):  # SaveImage replaces what is there
        save(image)
    array, voxel_size, origin = read_mrc(tmp_path / f"a_out{ext}")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, volume())
    assert (voxel_size, origin) == (VOXEL, ORIGIN)


@pytest.mark.parametrize(
    ("output_dtype", "stored"),
    [(np.float32, np.float32), (None, np.int8), (np.uint8, np.int16), (np.float16, np.float16), (bool, np.int8)],
)
def test_a_predicted_mask_keeps_the_grid_of_its_image(tmp_path, output_dtype, stored):
    write_mrc(tmp_path / "a.mrc", volume(), VOXEL, ORIGIN)
    pipeline = Compose(
        [
            LoadImaged("image", reader=MRCReader, ensure_channel_first=True),
            lambda d: d | {"pred": d["image"] > 50},
            SaveImaged(
                "pred",
                output_dir=tmp_path,
                output_postfix="mask",
                output_ext=".mrc",
                output_dtype=output_dtype,
                resample=False,
                separate_folder=False,
                print_log=False,
                writer="monai_cryo.data.MRCWriter",
            ),
        ]
    )
    pipeline({"image": tmp_path / "a.mrc"})
    array, voxel_size, origin = read_mrc(tmp_path / "a_mask.mrc")
    assert array.dtype == stored
    np.testing.assert_array_equal(array, volume() > 50)
    assert (voxel_size, origin) == (VOXEL, ORIGIN)


def save(tmp_path, image, meta=None, **kwargs):
    saver = SaveImage(tmp_path, output_ext=".mrc", writer=MRCWriter, print_log=False, **kwargs)
    saver(image, meta, filename=tmp_path / "out")
    return read_mrc(tmp_path / "out.mrc")


def test_thin_and_bfloat16_volumes_keep_their_shape(tmp_path):
    meta = {"affine": np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]] * 2}
    image = torch.ones(1, 4, 5, 1, dtype=torch.bfloat16)
    assert save(tmp_path, image, meta)[0].shape == (4, 5, 1)


def test_directions_the_format_cannot_hold_are_said(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume(), VOXEL, ORIGIN)
    image = Flip(spatial_axis=0)(LoadImage(reader=MRCReader, ensure_channel_first=True)(tmp_path / "a.mrc"))
    with pytest.warns(UserWarning, match="cannot hold the directions"):
        array, voxel_size, origin = save(tmp_path, image)
    np.testing.assert_array_equal(array, volume()[::-1])
    assert (voxel_size, origin) == (VOXEL, (0.0, 0.0, 0.0))
    array, voxel_size, origin = save(tmp_path, image, resample=True)  # flips back
    np.testing.assert_array_equal(array, volume())
    assert (voxel_size, origin) == (VOXEL, ORIGIN)


def test_no_metadata_warns_and_several_channels_are_refused(tmp_path):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        array, voxel_size, _ = save(tmp_path, torch.ones(1, 4, 5, 6))
    assert "voxel size is written as 1 Å" in str(record[0].message)
    assert (array.shape, voxel_size) == ((4, 5, 6), (1.0, 1.0, 1.0))
    with pytest.raises(RuntimeError, match="an MRC file holds one volume"):
        save(tmp_path, torch.ones(2, 4, 5, 6))
    with pytest.raises(RuntimeError, match="scale must be None"):
        save(tmp_path, torch.ones(1, 4, 5, 6), scale=255)
