"""Draws that were edited, masks of other kinds, inputs that cannot be meant: found wrong once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import LoadImage

from monai_cryo import transforms as T  # noqa: N812
from monai_cryo.data import RefusingDataset, image_in_memory, preprocessing
from monai_cryo.engines import PrepareImages
from monai_cryo.io import MRCReader, write_mrc


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_drawn_dose_counts_and_not_the_range_it_was_drawn_from() -> None:
    transform = T.RandTiltSeries(float("inf"), voxel_size=5.0)
    drawn = transform.draw(np.random.RandomState(0))
    box = noise(1, 1, 16, 16, 16)
    assert not torch.equal(transform.apply(box, [drawn | {"dose_per_tilt": 10.0}]), transform.apply(box, [drawn]))


def test_single_tilts_are_each_items_own() -> None:
    transform = T.MissingWedge((-60, 60), step_deg=3, thickness_a=100, voxel_size=10)
    wide, narrow = ({"min_tilt_deg": -a, "max_tilt_deg": a} for a in (60.0, 30.0))
    box = noise(1, 1, 16, 16, 16)
    both = transform.apply(box.expand(2, -1, -1, -1, -1), [wide, narrow])
    torch.testing.assert_close(both[0], transform.apply(box, [wide])[0])
    torch.testing.assert_close(both[1], transform.apply(box, [narrow])[0])
    assert not torch.allclose(both[0], both[1], atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8])
def test_a_mask_may_come_first_in_a_batch(dtype: torch.dtype) -> None:
    image = noise(2, 1, 12, 12, 12)
    mask = (image > 1).to(dtype)
    transform = T.RandPosed(["mask", "image"], mode=["nearest", "bilinear"])
    other = T.RandPosed(["image", "mask"], mode=["bilinear", "nearest"])
    draws = [transform.draw(np.random.RandomState(i)) for i in range(2)]
    found = transform.apply({"mask": mask, "image": image}, draws)
    expected = other.apply({"image": image, "mask": mask}, draws)
    for key in ("image", "mask"):
        assert torch.equal(found[key], expected[key])
    assert found["mask"].dtype == dtype


def test_a_labels_pose_does_not_depend_on_the_batch() -> None:
    labels = torch.zeros(2, 1, 16, 16, 16)
    labels[:, :, 4:9, 5:11, 6:12] = 1
    labels[1] *= 2
    transform = T.RandPose()
    draws = [transform.draw(np.random.RandomState(i)) for i in range(2)]
    together = transform.apply(labels, draws, mode="nearest")
    for i in range(2):
        alone = transform.apply(labels[i : i + 1], draws[i : i + 1], mode="nearest")
        assert torch.equal(together[i : i + 1], alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"band": (0.01, 0.1)}, r"has no frequency in the band \(0.01, 0.1\)"),
        ({"band": (0.01, 0.1), "power_law": 1.0}, "has no frequency in the band"),
        ({"spectrum": [[0, 1], [0.05, 0], [1, 0]]}, "noise spectrum is 0 at every frequency"),
        ({"spectrum": [[0, 0], [1, 0]]}, "noise spectrum is 0"),
    ],
)
def test_noise_that_cannot_be_scaled_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        T.AddNoise(1.0, **options)(noise(1, 8, 8, 8))


def test_neighbours_without_a_distance_reach_the_corners() -> None:
    ball = torch.zeros(9, 9, 9)
    ball[2:7, 2:7, 2:7] = 1
    transform = T.RandNeighbours([ball], 40, overlap=1.0)
    drawn = [transform.draw(np.random.RandomState(i)) for i in range(12)]
    added = transform.apply(torch.zeros(12, 1, 24, 24, 24), drawn)[:, 0]
    corners = added[:, :4, :4, :4].mean()
    assert float(corners) > 0.2 * float(added[:, 10:14, 10:14, 10:14].mean())


def test_one_mask_serves_all_channels() -> None:
    image, mask = noise(2, 8, 8, 8), torch.zeros(1, 8, 8, 8)
    mask[:, 2:6, 2:6, 2:6] = 1
    transform = T.AddNoise(1.0, region="mask")
    transform.set_random_state(0)
    one = transform(image, mask)
    transform.set_random_state(0)
    assert torch.equal(one, transform(image, mask.expand(2, -1, -1, -1)))


def test_an_image_in_memory_lies_in_space_as_one_from_a_file(tmp_path) -> None:
    volume = noise(16, 16, 16).numpy()
    write_mrc(tmp_path / "v.mrc", volume, 13.68)
    loaded = LoadImage(MRCReader, ensure_channel_first=True)(tmp_path / "v.mrc")
    held = image_in_memory(volume, 13.68, "v")
    torch.testing.assert_close(torch.as_tensor(held.affine), torch.as_tensor(loaded.affine), check_dtype=False)
    wedge = T.MissingWedge((-60, 60))
    torch.testing.assert_close(wedge(held[None]).as_tensor(), wedge(loaded).as_tensor(), atol=1e-5, rtol=1e-5)


def test_what_stands_in_for_a_refused_file_changes_no_other() -> None:
    faint = [image_in_memory(0.01 * noise(16, 16, 16, seed=i).numpy(), 10.0, str(i)) for i in range(3)]
    items = [{"image": image, "file": str(i)} for i, image in enumerate(faint)]
    prepare = PrepareImages(T.Standardize("batch"))

    def read(data: list) -> torch.Tensor:
        dataset = RefusingDataset(data, preprocessing("image", voxel_size=10.0, box=16), voxel_size=10.0, box=16)
        found = [dataset[n] for n in range(len(data))]
        batch = {
            "image": torch.stack([f["image"].as_tensor() for f in found]),
            "refused": [f["refused"] for f in found],
        }
        assert [bool(reason) for reason in batch["refused"]] == [False] * 3 + [True] * (len(data) - 3)
        return prepare(batch)[0]

    alone = read(items)
    torch.testing.assert_close(read([*items, {"image": "nowhere.mrc", "file": "nowhere.mrc"}])[:3], alone)
