"""Checkpoints that are damaged or of another training: refused in one line, before anything of the run is changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from monai_cryo._refusals import is_refusal
from monai_cryo.handlers import AverageWeights, Checkpoints, KeepBest
from monai_cryo.handlers.resuming import check_parts
from monai_cryo.networks import with_facts

Run = SimpleNamespace
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.1), amsgrad=True),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.1, centered=True),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=0.1),
}


def make(folder: Path, optimizer: str = "AdamW", decay: float | None = 0.9) -> Run:
    """Make a run of two epochs of two iterations."""
    torch.manual_seed(0)
    network = with_facts(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), {"classes": ["a", "b"]})
    network.add_module("unused", nn.Linear(1, 1))
    parameters = [{"params": list(network[0].parameters())}, {"params": list(network[1:].parameters()), "lr": 0.01}]
    steps = OPTIMIZERS[optimizer](parameters)
    engine = Engine(lambda engine, batch: None)
    engine.state.max_epochs, engine.state.epoch_length = 2, 2
    engine.data_loader = SimpleNamespace(dataset=range(4))
    average = AverageWeights(network, decay)
    state = {"network": network, "averaging": average, "optimizer": steps, "best": KeepBest(network, str(folder))}
    return Run(
        engine=engine, network=network, optimizer=steps, state=state, checkpoints=Checkpoints(state, str(folder))
    )


def step(run: Run) -> None:
    run.optimizer.zero_grad()
    run.network[2](run.network[1](run.network[0](torch.ones(2, 2)))).sum().backward()
    run.optimizer.step()


def saved(folder: Path, optimizer: str = "AdamW", decay: float | None = 0.9) -> dict[str, Any]:
    """Save a run after its first epoch, and return what the file holds."""
    run = make(folder, optimizer, decay)
    step(run)
    run.engine.state.iteration = 2
    run.checkpoints.save(run.engine)
    content: dict[str, Any] = torch.load(run.checkpoints.path, weights_only=True)
    return content


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_goes_on(tmp_path: Path, optimizer: str) -> None:
    """Also where a parameter has had no gradient, and with the options of now."""
    content = saved(tmp_path, optimizer)
    run = make(tmp_path, optimizer)
    before = copy.deepcopy(run.optimizer.state_dict())
    run.checkpoints.load(run.engine, tmp_path / "checkpoint.pt")
    found = run.optimizer.state_dict()
    assert before["param_groups"] == found["param_groups"]
    assert found["state"].keys() == content["optimizer"]["state"].keys()
    check_parts(tmp_path, content, run.state)  # what is loaded already is no hindrance
    step(run)
    whole = make(tmp_path, optimizer)
    step(whole)
    step(whole)
    for ours, theirs in zip(run.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("before", "now"), [(0.9, None), (None, 0.9), (None, None)])
def test_an_average_begins_and_ends(tmp_path: Path, before: float | None, now: float | None) -> None:
    saved(tmp_path, decay=before)
    run = make(tmp_path, decay=now)
    run.checkpoints.load(run.engine, tmp_path / "checkpoint.pt")
    assert run.engine.state.iteration == 2


EMPTY = torch.zeros(0, dtype=torch.uint8)
DAMAGE: list[tuple[tuple[Any, ...], Any, str]] = [
    ((), [1], "it holds a list"),
    (("done",), 3, "done is int, expected a mapping"),
    (("done", "epoch"), 1.0, "done.epoch is float, expected int"),
    (("done", "epoch"), True, "done.epoch is bool, expected int"),
    (("done", "iteration"), 2**60, "it counts what cannot be"),
    (("done", "iteration"), 10**12, "has 1000000000000 iterations of 2 an epoch, not 1 epochs"),
    (("done", "iteration"), -1, "it counts what cannot be"),
    (("epoch_size",), [2], "epoch_size has 1 values, expected 2"),
    (("epoch_size",), torch.tensor([2, 4]), r"epoch_size is int64 \(2,\), expected list"),
    (("seed",), torch.tensor([0, 0]), r"seed is int64 \(2,\), expected int"),
    (("random", "cpu"), EMPTY, r"random.cpu is uint8 \(0,\), expected uint8"),
    (("random", "cpu"), torch.zeros_like(torch.get_rng_state()), "random holds no random stream of cpu"),
    (("random", "cuda"), ["x"], "random holds no random streams"),
    (("network",), {}, "trained with classes None, not"),
    (("network", "record._extra_state"), EMPTY + 1, "trained with classes None, not"),
    (("network", "record._extra_state"), torch.tensor([123], dtype=torch.uint8), "a model's record must be JSON"),
    (("network", "record._extra_state"), "x", "a model's record must be JSON in a uint8 tensor, found str"),
    (("network", "0.weight"), torch.ones(1), r"network.0.weight is float32 \(1,\), expected float32 \(3, 2\)"),
    (("network", "0.weight"), torch.ones(3, 2).double(), r"network.0.weight is float64 \(3, 2\), expected float32"),
    (("network", "other\nkey"), torch.ones(1), "network lacks, or has beside what is expected, 'other\\\\nkey'"),
    (("network", 7), torch.ones(1), "has beside what is expected, '7'"),
    (("averaging",), "x", "averaging is str, expected a mapping"),
    (("averaging",), {"0.weight": torch.ones(3, 2)}, "averaging lacks"),
    (("best", "score"), "x", "best.score is str, expected float"),
    (("best",), {}, "best lacks"),
    (("optimizer",), [], "optimizer has no state and groups"),
    (("optimizer",), {"state": {}}, "optimizer has no state and groups"),
    (("optimizer", "state"), None, "optimizer has no state and groups"),
    (("optimizer", "param_groups"), [], "optimizer.param_groups has 0 values, expected 2"),
    (("optimizer", "param_groups", 0), "x", r"optimizer.param_groups\[0\] is NoneType, expected list"),
    (("optimizer", "param_groups", 0, "params"), [1, 0], "optimizer has its parameters in another order"),
    (("optimizer", "param_groups", 0, "params"), [EMPTY, 0], r"param_groups\[0\]\[0\] is uint8 \(0,\), expected int"),
    (("optimizer", "state", 99), {}, "optimizer has a parameter that the network lacks"),
    (("optimizer", "state", "x"), {}, "optimizer has a parameter that the network lacks"),
    (("optimizer", "state", 0), {}, r"optimizer.state\[0\] lacks"),
    (("optimizer", "state", 0, "exp_avg"), torch.ones(1), r"exp_avg is float32 \(1,\), expected float32 \(3, 2\)"),
    (("optimizer", "state", 0, "step"), "x", r"state\[0\].step is str, expected float32 \(\)"),
    (("optimizer", "state", 0, "step"), torch.tensor(-1e9), r"state\[0\] counts what cannot be"),
    (("optimizer", "state", 0, "step"), torch.tensor(float("nan")), r"state\[0\] counts what cannot be"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "message"), DAMAGE)
def test_damage_is_named_in_one_line_and_nothing_is_changed(
    tmp_path: Path, place: tuple[Any, ...], value: Any, message: str
) -> None:
    content: Any = saved(tmp_path)
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    if place:
        inner[place[-1]] = value
    torch.save(content if place else value, tmp_path / "checkpoint.pt")
    run = make(tmp_path)
    before = copy.deepcopy([part.state_dict() for part in run.state.values()]), torch.get_rng_state()
    with pytest.raises(ValueError, match=rf"checkpoint\.pt.*{message}") as error:
        run.checkpoints.load(run.engine, tmp_path / "checkpoint.pt")
    assert is_refusal(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    after = [part.state_dict() for part in run.state.values()], torch.get_rng_state()
    assert str(before) == str(after)


@pytest.mark.parametrize("name", ["done", "epoch_size", "seed", "random", "network", "optimizer", "best"])
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    content = saved(tmp_path)
    del content[name]
    torch.save(content, tmp_path / "checkpoint.pt")
    run = make(tmp_path)
    with pytest.raises(ValueError, match=f"is no checkpoint of this bundle's training: it lacks {name}"):
        run.checkpoints.load(run.engine, tmp_path / "checkpoint.pt")


def test_another_kind_of_optimizer_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "momentum")
    run = make(tmp_path, "AdamW")
    with pytest.raises(ValueError, match=r"does not fit this training: optimizer.state\[0\] lacks, or has beside"):
        run.checkpoints.load(run.engine, tmp_path / "checkpoint.pt")
