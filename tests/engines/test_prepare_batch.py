"""Batches simulated on the device: the same as their items one by one, whatever the batch."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose
from torch.utils.data import default_collate

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.data import TemplateDataset
from monai_cryo.engines import PrepareLabelled, SimulateBatch
from monai_cryo.templates import load_templates


def pipeline(channel_wise=True):
    each = {"channel_wise": channel_wise}
    return Compose(
        [
            T.RandPosed(["image", "mask"], mode=["bilinear", "nearest"], radius_key="radius_vox", **each),
            T.FourierComposed(
                "image",
                [T.RandSNR(**each), T.RandMissingWedge(**each), T.RandCTF(**each), T.MTF()],
                voxel_size=13.68,
                mask_key="mask",
            ),
            T.RandIntensityd("image", **each),
            T.Standardized("image"),
        ]
    )


@pytest.fixture(scope="module")
def items():
    dataset = TemplateDataset(load_templates(), length=6, seed=0)
    return [dataset[i] for i in range(6)]


def test_shapes_and_types(items):
    image, label = SimulateBatch(pipeline())(default_collate(items), device="cpu")
    assert image.shape == label["mask"].shape == (6, 1, 40, 40, 40)
    assert type(image) is torch.Tensor
    assert image.dtype == label["mask"].dtype == torch.float32
    assert label["class"].tolist() == [item["class"] for item in items]
    assert set(label["mask"].unique().tolist()) == {0.0, 1.0}
    assert not image.requires_grad


def test_an_item_does_not_depend_on_its_batch(items):
    whole, labels = SimulateBatch(pipeline())(default_collate(items))
    for chosen in ([2], [5, 0, 2]):
        part, part_labels = SimulateBatch(pipeline())(default_collate([items[i] for i in chosen]))
        torch.testing.assert_close(part, whole[chosen], atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(part_labels["mask"], labels["mask"][chosen])


def test_repeatable_and_independent_of_global_state(items):
    simulate = SimulateBatch(pipeline())
    torch.manual_seed(0)
    first, _ = simulate(default_collate(items))
    torch.manual_seed(1)
    second, _ = simulate(default_collate(items))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_membranes_keep_their_pose(items):
    _, label = SimulateBatch(pipeline())(default_collate(items))
    for item, mask in zip(items, label["mask"], strict=True):
        assert torch.equal(item["mask"].float(), mask) == (item["radius_vox"] == 0)


def test_a_pipeline_that_is_not_channel_wise_is_refused(items):
    with pytest.raises(RuntimeError, match="RandPosed") as error:
        SimulateBatch(pipeline(channel_wise=False))(default_collate(items))
    assert "channel_wise=True" in str(error.value.__cause__)


def test_labelled_batches_are_standardised_as_trained():
    batch = {
        "image": torch.randn(3, 1, 8, 8, 8) * 4 + torch.arange(3).view(3, 1, 1, 1, 1),
        "class": torch.tensor([0, 1, 2]),
        "mask": torch.zeros(3, 1, 8, 8, 8),
        "has_mask": torch.tensor([True, True, False]),
    }
    each, label = PrepareLabelled(T.Standardize())(batch)
    assert each.mean(dim=(1, 2, 3, 4)).abs().max() < 1e-5
    together, _ = PrepareLabelled(T.Standardize(channel_wise=False))(batch)
    assert together.mean().abs() < 1e-5
    assert together.mean(dim=(1, 2, 3, 4)).abs().max() > 0.1
    assert set(label) == {"class", "mask", "has_mask"}
