"""Batches simulated on the device: the same as their items one by one, whatever the batch; draws travel and replay."""

from __future__ import annotations

import json

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, NormalizeIntensity, RandGaussianNoised
from torch.utils.data import default_collate

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo.data import TemplateDataset, item_state
from monai_cryo.engines import PrepareImages, PrepareLabelled, SimulateBatch
from monai_cryo.templates import load_templates


def pipeline():
    return T.BatchCompose(
        [
            T.RandPosed(
                ["image", "mask"], mode=["bilinear", "nearest"], posed_key="posed", radius_key="radius_vox", prob=0.9
            ),
            T.FourierComposed(
                "image",
                transforms=[T.RandSNR(), T.RandMissingWedge(), T.RandCTF(prob=0.8), T.MTF()],
                voxel_size=13.68,
                mask_key="mask",
            ),
            T.RandIntensityd("image"),
        ]
    )


def simulator(**more):
    return SimulateBatch(pipeline(), T.Standardize(), **more)


@pytest.fixture(scope="module")
def items():
    dataset = TemplateDataset(load_templates(), length=6, balanced=True)
    return [dataset[i] for i in range(6)]


def test_shapes_and_types(items):
    image, label = simulator()(default_collate(items), device="cpu")
    assert image.shape == label["mask"].shape == (6, 1, 40, 40, 40)
    assert type(image) is torch.Tensor
    assert image.dtype == label["mask"].dtype == torch.float32
    assert label["class"].tolist() == [item["class"] for item in items]
    assert set(label["mask"].unique().tolist()) == {0.0, 1.0}
    assert not image.requires_grad
    torch.testing.assert_close(image.std(dim=(1, 2, 3, 4), correction=0), torch.ones(6), atol=1e-4, rtol=0)


def test_an_item_does_not_depend_on_its_batch(items):
    whole, labels = simulator()(default_collate(items))
    for chosen in ([2], [5, 0, 2]):
        part, part_labels = simulator()(default_collate([items[i] for i in chosen]))
        torch.testing.assert_close(part, whole[chosen], atol=2e-4, rtol=1e-4)
        assert torch.equal(part_labels["mask"], labels["mask"][chosen])
        assert part_labels["parameters"] == [labels["parameters"][i] for i in chosen]


def test_repeatable_and_independent_of_global_state(items):
    torch.manual_seed(0)
    first, _ = simulator()(default_collate(items))
    torch.manual_seed(1)
    second, _ = simulator()(default_collate(items))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_saved_draws_replay_bit_for_bit_and_edited_ones_do_as_they_say(items):
    batch = default_collate(items)
    image, label = simulator()(batch)
    saved = json.loads(json.dumps(label["parameters"]))
    assert saved == label["parameters"]
    assert list(saved[0]) == ["item", "RandPosed", "FourierComposed", "RandIntensityd"]
    again, labels = simulator()(batch, parameters=saved)
    torch.testing.assert_close(again, image, rtol=0, atol=0)
    assert torch.equal(labels["mask"], label["mask"])
    saved[1]["RandPosed"] = saved[1]["FourierComposed"] = saved[1]["RandIntensityd"] = None
    edited, labels = simulator()(batch, parameters=saved)
    assert torch.equal(labels["mask"][1], items[1]["mask"].float())
    torch.testing.assert_close(edited[1], T.Standardize()(items[1]["image"]), atol=1e-6, rtol=0)
    torch.testing.assert_close(edited[2], image[2], atol=1e-5, rtol=0)


def test_every_item_of_every_split_and_seed_is_drawn_from_a_stream_of_its_own(items):
    item, drawn = items[0], []
    for change in ({}, {"index": 9}, {"seed": 1}, {"split": "validation"}, {"split": "test"}):
        drawn += simulator().draw(default_collate([item | change]))
    snr = [d["FourierComposed"]["RandSNR"]["snr"] for d in drawn]
    assert len(set(snr)) == 5


def test_imaging_does_not_repeat_the_numbers_that_drew_the_particle(items):
    item = items[2]
    particle, imaging = (pipeline().draw(item_state(item["seed"], "train", item["index"], stream=k)) for k in (0, 1))
    (drawn,) = simulator().draw(default_collate([item]))
    assert {k: v for k, v in drawn.items() if k != "item"} == imaging
    assert imaging != particle


def test_membranes_keep_their_pose_and_no_other_is_told(items):
    _, label = simulator()(default_collate(items))
    assert {item["posed"] for item in items} == {True, False}
    for item, mask, drawn in zip(items, label["mask"], label["parameters"], strict=True):
        assert torch.equal(item["mask"].float(), mask) == (drawn["RandPosed"] is None)
        assert not item["posed"] or drawn["RandPosed"] is None


def test_the_parameters_tell_which_item_it_is():
    dataset = TemplateDataset(load_templates("robust"), 8, seed=4, split="validation", balanced=True)
    chosen = [dataset[i] for i in (7, 2)]
    _, label = SimulateBatch(T.BatchCompose([]))(default_collate(chosen))
    for item, drawn in zip(chosen, label["parameters"], strict=True):
        assert drawn == {"item": {k: item[k] for k in ("seed", "split", "index", "class", "structure", "amplitude")}}
        assert torch.equal(dataset[drawn["item"]["index"]]["image"], item["image"])


def test_transforms_of_monai_run_beside_ours(items):
    mixed = T.BatchCompose([RandGaussianNoised("image", prob=1.0), *pipeline().transforms])
    batch = default_collate(items)
    image, label = SimulateBatch(mixed, T.Standardize())(batch)
    again, _ = SimulateBatch(mixed)(batch, parameters=label["parameters"])
    torch.testing.assert_close(T.Standardize().apply(again, [{}] * 6), image, atol=1e-5, rtol=0)
    assert not torch.allclose(image, simulator()(batch)[0], atol=1e-2)


def test_kept_batches_are_simulated_once(items, monkeypatch):
    kept, fresh = simulator(keep=True), simulator()
    batch, other = default_collate(items[:3]), default_collate(items[3:])
    first, label = kept(batch)
    torch.testing.assert_close(first, fresh(batch)[0], rtol=0, atol=0)
    second, _ = kept(other)
    monkeypatch.setattr(kept.pipeline, "apply", None)
    assert kept(batch)[0] is first
    assert kept(batch)[1]["parameters"] == label["parameters"]
    assert kept(other)[0] is second


def test_it_shows_what_it_is():
    assert repr(SimulateBatch(T.BatchCompose([T.RandIntensityd("image")]), T.Standardize())) == (
        "SimulateBatch(pipeline=BatchCompose(transforms=[RandIntensityd(keys='image', contrast=(0.8, 1.2), "
        "brightness=(-0.2, 0.2), prob=1.0, allow_missing_keys=False)]), "
        "normalize=Standardize(scope='item'), keep=False)"
    )


def labelled():
    image = torch.randn(3, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    return {
        "image": image * 4 + torch.arange(3).view(3, 1, 1, 1, 1),
        "class": torch.tensor([0, 1, 2]),
        "mask": torch.zeros(3, 1, 8, 8, 8),
        "has_mask": torch.tensor([True, True, False]),
    }


def test_labelled_batches_are_normalised_as_trained():
    each, label = PrepareLabelled(T.Standardize())(labelled())
    assert each.mean(dim=(1, 2, 3, 4)).abs().max() < 1e-5
    together, _ = PrepareLabelled(T.Standardize("batch"))(labelled())
    assert together.mean().abs() < 1e-5
    assert together.mean(dim=(1, 2, 3, 4)).abs().max() > 0.1
    assert set(label) == {"class", "mask", "has_mask"}
    plain, _ = PrepareLabelled(None)(labelled())
    assert torch.equal(plain, labelled()["image"])


def test_several_normalisations_follow_one_another(items):
    both = [T.NormalizeSpectrum(), T.MTF(0.5), T.Standardize("batch")]
    image, _ = PrepareImages(Compose([both[0], Compose(both[1:])]))(labelled())
    expected = labelled()["image"]
    for part in both:
        expected = part.apply(expected, [part.draw(None)] * 3)
    torch.testing.assert_close(image, expected, rtol=0, atol=0)
    simulated, _ = SimulateBatch(pipeline(), Compose(both))(default_collate(items))
    plain, _ = SimulateBatch(pipeline())(default_collate(items))
    torch.testing.assert_close(simulated, PrepareImages(Compose(both))({"image": plain})[0])


@pytest.mark.parametrize("odd", [NormalizeIntensity(), T.RandIntensity(), Compose([T.Standardize(), abs])])
def test_what_a_batch_cannot_go_through_is_refused_at_once(odd):
    for make in (PrepareImages, PrepareLabelled, lambda n: SimulateBatch(pipeline(), n)):
        with pytest.raises(ValueError, match=r"images are normalised by transforms of monai_cryo\.transforms"):
            make(odd)


def test_images_keep_the_history_that_takes_a_mask_back():
    image = labelled()["image"]
    loaded = MetaTensor(image, meta={"filename_or_obj": "a.mrc"}, applied_operations=[{"class": "Spacing"}])
    loaded.is_batch = True
    got, label = PrepareImages(T.Standardize())({"image": loaded})
    assert label is None
    assert isinstance(got, MetaTensor)
    assert got.is_batch
    assert got.meta["filename_or_obj"] == "a.mrc"
    assert [op["class"] for op in got.applied_operations] == ["Spacing"]
    torch.testing.assert_close(got.as_tensor(), T.Standardize().apply(image, [{}] * 3))
