"""Items depend on (seed, index) alone: not on workers, ranks, batches or restarts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader

from monai_cryo.data import CounterSampler, ItemRandomState, TemplateDataset, item_state
from monai_cryo.templates import load_templates


@pytest.fixture(scope="module")
def dataset():
    return TemplateDataset(load_templates(), length=8, seed=3)


def test_streams_are_repeatable_and_distinct():
    first = item_state(0, 5).rand(4)
    np.testing.assert_array_equal(first, item_state(0, 5).rand(4))
    others = [item_state(*key).rand(4) for key in ((0, 6), (1, 5), (0, 5, 1), (5, 0))]
    assert all(not np.allclose(first, other) for other in others)


def test_a_batch_state_deals_rows_from_the_items_streams():
    batch = ItemRandomState([item_state(1, i) for i in range(3)])
    singles = [item_state(1, i) for i in range(3)]
    np.testing.assert_array_equal(batch.rand(3), [s.rand() for s in singles])
    np.testing.assert_array_equal(batch.uniform(-1, 1, (3, 2)), [s.uniform(-1, 1, 2) for s in singles])
    np.testing.assert_array_equal(batch.randint(0, 9, size=3), [s.randint(0, 9) for s in singles])
    np.testing.assert_array_equal(batch.normal(size=(3, 4)), [s.normal(size=4) for s in singles])
    for wrong in (None, 2, (2, 3)):
        with pytest.raises(ValueError, match="channel_wise=True"):
            batch.uniform(size=wrong)


def test_items_are_functions_of_seed_and_index(dataset):
    again = TemplateDataset(load_templates(), length=1, seed=3)
    for index in (0, 7, 10**9):
        first, second = dataset[index], again[index]
        assert first["class"] == second["class"]
        assert torch.equal(first["image"], second["image"])
    other = TemplateDataset(load_templates(), length=8, seed=4)
    assert [dataset[i]["class"] for i in range(40)] != [other[i]["class"] for i in range(40)]


def test_classes_are_uniform(dataset):
    counts = np.bincount([item_state(3, i).randint(4) for i in range(4000)])
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
    with pytest.raises(ValueError, match="length must be >= 1"):
        TemplateDataset(load_templates(), length=0)
