"""Labelled folders: what is refused, what is skipped, what comes out."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from monai_cryo._refusals import find_refusal, is_refusal
from monai_cryo.data import list_images, load_labelled, postprocessing, preprocessing
from monai_cryo.io import read_mrc, write_mrc

CLASSES = ["ribosome", "membrane"]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.RandomState(0)
    for name in ("a", "b", "c"):
        write_mrc(tmp_path / f"{name}.mrc", rng.randn(32, 32, 32).astype(np.float32), 12.0)
        write_mrc(tmp_path / f"{name}_mask.mrc", (rng.rand(32, 32, 32) > 0.9).astype(np.int8), 12.0)
    items = [
        {"image": "a.mrc", "label": "a_mask.mrc", "class": "ribosome"},
        {"image": "b.mrc", "class": "membrane"},
        {"image": "c.mrc", "label": "c_mask.mrc", "class": "background", "image_deconvolved": "a.mrc"},
    ]
    write_list(tmp_path, test=items)
    return tmp_path


def write_list(folder, **content):
    (folder / "dataset.json").write_text(json.dumps({"voxel_size": 12.0, "contrast": "protein dark", **content}))


def test_unknown_classes_are_refused_or_skipped_and_counted(folder):
    with pytest.raises(ValueError, match="'background', but the model knows ribosome, membrane"):
        load_labelled(str(folder), CLASSES)
    data = load_labelled(str(folder), CLASSES, skip_unknown=True)
    assert data.skipped == {"background": 1}
    assert [item["class"] for item in data.items] == [0, 1]
    assert [("mask" in item) for item in data.items] == [True, False]
    assert (data.voxel_size, data.contrast) == (12.0, "dark")


def test_another_image_entry(folder):
    data = load_labelled(str(folder), [*CLASSES, "background"])
    assert len(data.items) == 3
    with pytest.raises(ValueError, match="item 0 has no 'image_deconvolved'"):
        load_labelled(str(folder), CLASSES, image_key="image_deconvolved", skip_unknown=True)


@pytest.mark.parametrize("where", [None, "", "nowhere"])
def test_missing_list(where):
    with pytest.raises(FileNotFoundError, match=r"dataset\.json"):
        load_labelled(where, CLASSES)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"test": [{"image": "a.mrc"}]}, ValueError, "item 0 has no 'class'"),
        ({"test": [{"image": "no.mrc", "class": "ribosome"}]}, FileNotFoundError, "no.mrc, which does not exist"),
        ({"test": []}, ValueError, "items under 'test'"),
        ({"test": {"a": 1}}, ValueError, "items under 'test'"),
        ({"test": [1, 2]}, ValueError, "items under 'test'"),
        (
            {"test": [{"image": ["a.mrc"], "class": "ribosome"}]},
            ValueError,
            "item 0: image must be text",
        ),
        ({"test": [{"image": 0, "class": "ribosome"}]}, ValueError, "item 0: image must be text, got 0"),
        (
            {"test": [{"image": "a.mrc", "class": "ribosome"}], "voxel_size": 10**400},
            ValueError,
            "dataset.json: voxel_size must be > 0 Å",
        ),
        ({"test": [{"image": "a.mrc", "class": ["ribosome"]}]}, ValueError, "item 0: class must be text"),
        ({"test": [{"image": "a.mrc", "class": "ribosome", "label": 1}]}, ValueError, "item 0: label must be text"),
        ({"test": [{"image": "a\0.mrc", "class": "ribosome"}]}, FileNotFoundError, "which does not exist"),
        ({"train": []}, ValueError, "items under 'test'"),
        (
            {"test": [{"image": "a.mrc", "class": "ribosome"}], "voxel_size": [10, 10, 12]},
            ValueError,
            r"dataset.json: voxel_size must be that of cubes, got \[10, 10, 12\]",
        ),
        (
            {"test": [{"image": "a.mrc", "class": "ribosome"}], "voxel_size": "big"},
            ValueError,
            "dataset.json: voxel_size must be > 0 Å, one number or .*, got 'big'",
        ),
        (
            {"test": [{"image": "a.mrc", "class": "ribosome"}], "contrast": "inverted"},
            ValueError,
            "contrast must be dark or bright .*, got 'inverted'",
        ),
    ],
)
def test_malformed_lists(folder, content, error, message):
    write_list(folder, **content)
    with pytest.raises(error, match=message):
        load_labelled(str(folder), CLASSES)


@pytest.mark.parametrize("word", ["dark", "protein dark"])
def test_contrast_has_one_vocabulary(folder, word):
    write_list(folder, test=[{"image": "a.mrc", "class": "ribosome"}], contrast=word)
    assert load_labelled(str(folder), CLASSES).contrast == "dark"


def test_no_json(folder):
    (folder / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="must be a MONAI datalist"):
        load_labelled(str(folder), CLASSES)


@pytest.mark.parametrize("content", ["[" * 100_000, '["test"]', '"test"', "7", "\xff", '{"test": 1e999}'])
def test_lists_of_other_kinds_are_refused(folder, content):
    (folder / "dataset.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match="must be a MONAI datalist") as error:
        load_labelled(str(folder), CLASSES)
    assert is_refusal(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_called_as_a_class_does_not_rename_the_class(folder):
    (folder / "ribosome").mkdir()
    data = load_labelled(str(folder), CLASSES, skip_unknown=True)
    assert [item["class"] for item in data.items] == [0, 1]


@pytest.mark.parametrize("n", [20, 64])
def test_a_mask_of_another_box_is_refused(folder, n):
    write_mrc(folder / "a_mask.mrc", np.ones((n, n, n), np.int8), 12.0, overwrite=True)
    item = load_labelled(str(folder), CLASSES, skip_unknown=True).items[0]
    with pytest.raises(RuntimeError) as error:
        preprocessing(voxel_size=12.0, box=40)(item)
    refusal = find_refusal(error.value)
    assert re.search(rf"a_mask\.mrc: the mask has {n} x {n} x {n} voxels, expected 32 x 32 x 32 as its", str(refusal))


def test_preprocessing_brings_files_to_the_models_grid(folder):
    data = load_labelled(str(folder), CLASSES, skip_unknown=True)
    chain = preprocessing(voxel_size=12.0, box=40, negate=True)
    with_mask, without = chain(data.items[0]), chain(data.items[1])
    for item in (with_mask, without):
        assert item["image"].shape == item["mask"].shape == (1, 40, 40, 40)
    assert (with_mask["has_mask"], without["has_mask"]) == (True, False)
    assert set(torch.unique(with_mask["mask"]).tolist()) == {0.0, 1.0}
    assert not without["mask"].any()
    original = np.random.RandomState(0).randn(32, 32, 32).astype(np.float32)
    np.testing.assert_allclose(with_mask["image"][0, 4:36, 4:36, 4:36], -original, rtol=1e-6)


def test_preprocessing_resamples_and_smooths(folder):
    data = load_labelled(str(folder), CLASSES, skip_unknown=True)
    item = preprocessing(voxel_size=13.68, box=40)(data.items[0])
    assert item["image"].shape == (1, 40, 40, 40)
    np.testing.assert_allclose(item["image"].pixdim, [13.68] * 3, rtol=1e-4)
    smooth = preprocessing(voxel_size=13.68, box=40, smooth_sigma_vox=1.0)(data.items[0])
    assert smooth["image"].std() < 0.6 * item["image"].std()


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "NaN"), (3.0, "one value everywhere"), (3e38, "expected at most 1e+30")]
)
def test_preprocessing_refuses_what_is_no_image(folder, value, message):
    write_mrc_raw = np.full((32, 32, 32), 3.0, dtype=np.float32)
    write_mrc(folder / "a.mrc", write_mrc_raw, 12.0, overwrite=True)
    if value != 3.0:
        raw = bytearray((folder / "a.mrc").read_bytes())
        raw[1024:1028] = np.float32(value).tobytes()
        (folder / "a.mrc").write_bytes(raw)
    data = load_labelled(str(folder), CLASSES, skip_unknown=True)
    with pytest.raises(RuntimeError, match="applying transform") as error:
        preprocessing(voxel_size=12.0, box=40)(data.items[0])
    assert "a.mrc" in str(error.value.__cause__)
    assert message.lower() in str(error.value.__cause__).lower()


def test_masks_of_equally_named_files_lie_in_folders_of_their_own(tmp_path):
    rng = np.random.RandomState(0)
    for folder in ("one", "two"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        write_mrc(tmp_path / "in" / folder / "a.mrc", rng.randn(24, 24, 24).astype(np.float32), 10.0, (1.0, 2.0, 3.0))
    items = list_images(str(tmp_path / "in"), "*/*.mrc")
    chain = preprocessing("image", voxel_size=10.0, box=32)
    after = postprocessing(chain, mask_dir=str(tmp_path / "masks"), image_dir=str(tmp_path / "in"))
    output = torch.zeros(2, 32, 32, 32)
    output[0, 10:20, 10:20, 10:20] = 1  # as the network says where a particle is
    for item in items:
        after({**chain(item), "pred": output})
    found = sorted(str(path.relative_to(tmp_path / "masks")) for path in (tmp_path / "masks").rglob("*.mrc"))
    assert found == ["one/a_mask.mrc", "two/a_mask.mrc"]
    mask, voxel_size, origin = read_mrc(tmp_path / "masks" / "two" / "a_mask.mrc")
    assert (mask.shape, voxel_size, origin) == ((24, 24, 24), (10.0,) * 3, (1.0, 2.0, 3.0))
    assert mask[6:16, 6:16, 6:16].all()
    assert mask.sum() == 1000


def test_masks_need_to_know_where_their_images_lie():
    with pytest.raises(ValueError, match="mask_dir needs image_dir"):
        postprocessing(preprocessing("image", voxel_size=10.0, box=32), mask_dir="masks")


def test_a_mask_at_the_border_does_not_grow(folder):
    mask = np.zeros((32, 32, 32), np.int8)
    mask[:4, :4, 5:11] = 1
    write_mrc(folder / "a_mask.mrc", mask, 12.0, overwrite=True)
    item = preprocessing(voxel_size=12.0, box=40)(load_labelled(str(folder), CLASSES, skip_unknown=True).items[0])
    assert int(item["mask"].sum()) == 96


def test_images_of_one_name_are_refused_for_their_masks_would_meet(tmp_path):
    for name in ("a.mrc", "b.map", "in/b.mrc", "b.mrc.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert len(list_images(str(tmp_path), "*.mrc")) == 1
    with pytest.raises(ValueError, match=r"b\.map and .*b\.mrc\.gz have one name, and their masks would, too"):
        list_images(str(tmp_path), "**/*.m*")


def test_masks_are_no_images(tmp_path):
    for name in ("a.mrc", "out/masks/a_mask.mrc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list_images(str(tmp_path), "**/*.mrc", str(tmp_path / "out" / "masks"))
    assert [item["file"] for item in found] == ["a.mrc"]


@pytest.mark.parametrize("threshold", [2, -0.1, "x", float("nan")])
def test_thresholds_and_widths_that_cannot_be_are_refused(threshold):
    with pytest.raises(ValueError, match="threshold must"):
        postprocessing(preprocessing("image", voxel_size=10.0, box=32), threshold=threshold)
    with pytest.raises(ValueError, match="smooth_sigma_vox must"):
        preprocessing("image", voxel_size=10.0, box=32, smooth_sigma_vox=-1)


@pytest.mark.parametrize("pattern", ["", "../*.mrc", "sub/../../*.mrc", "/*.mrc", "**x"])
def test_patterns_stay_in_their_folder(folder, pattern):
    with pytest.raises((ValueError, FileNotFoundError), match="pattern") as error:  # Python 3.13 reads **x as *x
        list_images(str(folder), pattern)
    assert is_refusal(error.value)
