"""The same seed gives the same bits, for any number of workers, and another time."""

from __future__ import annotations

import pytest
from kill_series import TINY, differences, finish, left_by, start

pytestmark = pytest.mark.slow
#: with dropout, batch normalisation, averaged weights and a validation; bfloat16 would round by more than is asked here
OPTIONS = {**TINY, "epoch_length": 2, "max_epochs": 2, "precision": "float32"}


def train(folder, environment=None, configs=("train", "quick"), **options):
    assert finish(start(folder / "run", {**OPTIONS, **options}, configs, environment), folder / "run")
    return left_by(folder / "run")


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return train(tmp_path_factory.mktemp("once"))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_seed_gives_the_same_bits(once, tmp_path, workers):
    assert differences(train(tmp_path, num_workers=workers), once) == []


def test_crowded_scenes_and_tilt_series_too(tmp_path):
    """What the robust recipe draws and validates on: neighbours, strangers, gold, simulated tilt series."""
    recipe = {"configs": ("train", "robust", "quick"), "max_epochs": 1, "num_workers": 0}
    first = train(tmp_path / "first", **recipe)
    assert differences(train(tmp_path / "again", **recipe | {"num_workers": 2}), first) == []


def test_two_threads_round_otherwise(once, tmp_path):
    """Sums are then cut elsewhere: each value differs in its last digits alone."""
    two = train(tmp_path, {"OMP_NUM_THREADS": "2"})
    assert [step for step, _ in two["scalars"]["train/loss"]] == [1, 2, 3, 4]
    theirs = [value for _, value in once["scalars"]["train/loss"]]
    assert [value for _, value in two["scalars"]["train/loss"]] == pytest.approx(theirs, rel=1e-5)
