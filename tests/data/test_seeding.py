"""Items depend on (seed, split, index) alone: not on workers, ranks, batches or restarts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader

from monai_cryo.data import CounterSampler, TemplateDataset, item_state
from monai_cryo.templates import load_templates


@pytest.fixture(scope="module")
def dataset():
    return TemplateDataset(load_templates(), length=8, seed=3)


def test_streams_are_repeatable_and_distinct():
    keys = [(0, "train", 5), (0, "train", 6), (1, "train", 5), (5, "train", 0), (0, "validation", 5), (0, "test", 5)]
    streams = [item_state(*key).rand(4) for key in keys] + [item_state(0, "train", 5, stream=1).rand(4)]
    np.testing.assert_array_equal(streams[0], item_state(0, "train", 5).rand(4))
    assert len({tuple(s) for s in streams}) == len(streams)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ((0, "validate", 5), "split must be one of train, validation, test, got 'validate'"),
        ((-1, "train", 5), "seed, index and stream must be >= 0, got -1, 5 and 0"),
        ((0, "train", -1), "seed, index and stream must be >= 0"),
    ],
)
def test_impossible_keys(key, message):
    with pytest.raises(ValueError, match=message):
        item_state(*key)


@pytest.mark.parametrize("seed", [0, 1])
def test_splits_share_no_item_whatever_the_seed(seed):
    """Seed 1 once trained on what seed 0 validated on."""
    library = load_templates()
    items = {
        (s, split, i): TemplateDataset(library, 3, seed=s, split=split)[i]
        for s in (seed, seed + 1)
        for split in ("train", "validation", "test")
        for i in range(3)
    }
    drawn = {key: item_state(*key).rand(8) for key in items}
    assert len({tuple(d) for d in drawn.values()}) == len(items)
    membranes = [i["image"] for i in items.values() if i["posed"]]
    assert len(membranes) >= 2
    for k, image in enumerate(membranes):
        assert not any(torch.equal(image, other) for other in membranes[:k])
    assert all((v["seed"], v["split"], v["index"]) == key for key, v in items.items())


@pytest.mark.parametrize("length", [8, 10])
def test_balanced_classes_take_turns(length):
    dataset = TemplateDataset(load_templates(), length, split="validation", balanced=True)
    assert [dataset[i]["class"] for i in range(length)] == [i % 4 for i in range(length)]
    assert "balanced=True" in repr(dataset)


def test_items_are_functions_of_seed_split_and_index(dataset):
    again = TemplateDataset(load_templates(), length=1, seed=3)
    for index in (0, 7, 10**9):
        first, second = dataset[index], again[index]
        assert first["class"] == second["class"]
        assert torch.equal(first["image"], second["image"])
    other = TemplateDataset(load_templates(), length=8, seed=4)
    assert [dataset[i]["class"] for i in range(40)] != [other[i]["class"] for i in range(40)]


def test_classes_are_uniform(dataset):
    counts = np.bincount([item_state(3, "train", i).randint(4) for i in range(4000)])
    assert counts.min() > 900
    assert {dataset[i]["class"] for i in range(30)} == {0, 1, 2, 3}


def test_workers_and_ranks_do_not_change_the_items(dataset):
    def run(workers, world_size=1):
        found = {}
        for rank in range(world_size):
            sampler = CounterSampler(8, rank, world_size)
            sampler.set_epoch(2)
            loader = DataLoader(dataset, sampler=sampler, batch_size=2, num_workers=workers)
            for batch in loader:
                found.update({int(i): v for i, v in zip(batch["index"], batch["image"], strict=True)})
        return found

    plain, workers, ranks = run(0), run(2), run(0, world_size=2)
    assert sorted(plain) == list(range(16, 24))
    for other in (workers, ranks):
        assert sorted(other) == sorted(plain)
        assert all(torch.equal(other[i], plain[i]) for i in plain)


def test_the_number_of_threads_does_not_change_the_items(dataset):
    before = torch.get_num_threads()
    try:
        items = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            items.append([dataset[i]["image"] for i in range(40)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*items, strict=True))


def test_sampler_epochs_and_ranks_are_disjoint():
    sampler = CounterSampler(6)
    first = list(sampler)
    sampler.set_epoch(1)
    assert first + list(sampler) == list(range(12))
    ranks = [list(CounterSampler(6, r, 3)) for r in range(3)]
    assert sorted(i for rank in ranks for i in rank) == list(range(6))
    with pytest.raises(ValueError, match="positive multiple of the 4 ranks, got 6"):
        CounterSampler(6, 0, 4)


def test_dataset_refuses_impossible_arguments():
    for bad, message in (
        ({"length": 0}, "length must be >= 1 and seed >= 0, got 0 and 0"),
        ({"length": 1, "seed": -1}, "length must be >= 1 and seed >= 0, got 1 and -1"),
        ({"length": 1, "split": "val"}, "split must be one of train, validation, test, got 'val'"),
    ):
        with pytest.raises(ValueError, match=message):
            TemplateDataset(load_templates(), **bad)
