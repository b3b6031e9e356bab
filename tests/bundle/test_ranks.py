"""Several processes train as one: the same items, losses and metrics, one log; and refuse what they cannot share."""

from __future__ import annotations

import csv
import json
import math
import socket
import time

import pytest
import torch
from kill_series import TINY, finish, left_by, start

from monai_cryo.bundle import join_ranks, share_batch

#: nothing that depends on the other items of a process's share: those differ with the number of processes
ALIKE = {**TINY, "standardize": "item", "dropout": 0, "batch_size": 4, "max_epochs": 2}


def launched(monkeypatch, processes):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", str(processes))


def test_a_batch_is_dealt_evenly(monkeypatch):
    assert share_batch(3, 1) == 3
    launched(monkeypatch, 2)
    assert share_batch(6, 2) == 3
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 2 processes, got 3"):
        share_batch(3, 2)
    with pytest.raises(ValueError, match="world_size is 1, the number of processes 2: begin with torchrun"):
        share_batch(6, 1)


def test_half_the_data_is_not_trained_on_in_silence():
    with pytest.raises(ValueError, match="world_size is 2, the number of processes 1"):
        share_batch(4, 2)


def test_several_processes_need_a_beginner(monkeypatch):
    with pytest.raises(ValueError, match="begin it with torchrun"):
        join_ranks("cpu")
    launched(monkeypatch, 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="process 3 of this node has no GPU, there are 2"):
        join_ranks("cuda:3")


def begin(folder, ranks, options):
    """Start a training over gloo, each rank forked as torchrun would start it in a SLURM job."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "SLURM_JOB_ID": "1",
        "SLURM_LOCALID": "0",
        "WORLD_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_RUN_ID": "x",
    }
    processes = []
    for rank in range(ranks):
        environment = {**common, "RANK": rank, "LOCAL_RANK": rank}
        given = {name: str(value) for name, value in environment.items()}
        processes.append(start(folder / "run", {**options, "device": "cpu"}, ("train", "multi_gpu_train"), given))
    return processes


def train(folder, ranks, options):
    """Train to the end, over gloo where there are several ranks."""
    if ranks == 1:
        finish(start(folder / "run", options, ("train",)), folder / "run")
        return
    for process in begin(folder, ranks, options):
        assert finish(process, folder / "run")


@pytest.mark.slow
def test_two_ranks_train_as_one_process(tmp_path):
    found = []
    for ranks in (1, 2):
        train(tmp_path / str(ranks), ranks, ALIKE)
        assert len(list((tmp_path / str(ranks) / "run").glob("events*"))) == 1
        found.append(left_by(tmp_path / str(ranks) / "run"))
    one, two = found
    with (tmp_path / "2" / "run" / "parameters.csv").open() as file:
        indices = {int(row["item.index"]) for row in csv.DictReader(file)}
    assert indices == set(range(16, 32, 2))  # of rank 0: every other one
    assert one["scalars"].keys() == two["scalars"].keys()
    for tag, values in one["scalars"].items():
        assert [step for step, _ in values] == [step for step, _ in two["scalars"][tag]]
        theirs = [value for _, value in two["scalars"][tag]]
        assert [value for _, value in values] == pytest.approx(theirs, rel=1e-6, abs=1e-6), tag
    for name, weight in one["model"].items():
        assert torch.allclose(weight.float(), two["model"][name].float(), rtol=0, atol=1e-6), name
    assert one["metrics"]["confusion_matrix"] == two["metrics"]["confusion_matrix"]


@pytest.mark.slow
def test_a_killed_rank_ends_the_other_and_both_go_on_as_if_never_cut(tmp_path):
    """With dropout."""
    options = {**ALIKE, "dropout": 0.5, "max_epochs": 3}
    train(tmp_path / "whole", 2, options)
    first, second = begin(tmp_path / "cut", 2, options)
    checkpoint = tmp_path / "cut" / "run" / "checkpoint.pt"
    while first.is_alive() and not checkpoint.is_file():
        time.sleep(0.01)
    second.kill()
    first.join(60)
    assert first.exitcode not in (None, 0)
    done = torch.load(checkpoint, weights_only=True)["done"]["iteration"]
    assert 0 < done < options["max_epochs"] * options["epoch_length"]
    train(tmp_path / "cut", 2, {**options, "resume": "auto"})
    whole, cut = left_by(tmp_path / "whole" / "run"), left_by(tmp_path / "cut" / "run")
    assert whole["scalars"]["train/loss"] == cut["scalars"]["train/loss"]
    for name, weight in whole["checkpoint"]["network"].items():
        assert torch.equal(weight, cut["checkpoint"]["network"][name])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "run").iterdir()}
    train(tmp_path / "cut", 2, {**options, "resume": "auto"})  # is finished: nothing is done, and all end well
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "run").iterdir()} == before


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_both_ranks_and_keeps_the_whole_batch(tmp_path):
    """A rate that is far too high spoils the second iteration."""
    for process in begin(tmp_path, 2, {**ALIKE, "learning_rate": 1e30}):
        process.join(120)
        assert process.exitcode == 1
    kept = json.loads((tmp_path / "run" / "not_finite.json").read_text())
    assert kept["iteration"] == 2
    assert not math.isfinite(float(kept["loss"]))
    assert [drawn["item"]["index"] for drawn in kept["parameters"]] == [4, 5, 6, 7]
    assert (tmp_path / "said.txt").read_text().count("monai_cryo: error: the loss of iteration 2 is ") == 2
