"""A checkpoint is compared with the run that would go on from it, before anything of the run is changed."""

from __future__ import annotations

import copy
import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_cryo.handlers.averaging import AverageWeights
from monai_cryo.io.saved import read_saved

__all__ = ["check_parts", "differing_options", "differing_surroundings", "read_checkpoint"]

_MOST = 2**53
_FREE = ("output_dir", "resume", "max_epochs", "device", "rank", "world_size", "num_workers", "checkpoint_minutes")
_SURROUNDINGS = ("commit", "ranks", "templates")


def read_checkpoint(path: Path, names: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint, whose parts have these names, and check the form of what stands beside them.

    Raises
    ------
    ValueError
        If it is none.
    """
    random = {"cpu": torch.get_rng_state(), "cuda": []}
    form = {"done": {"epoch": 0, "iteration": 0}, "epoch_size": [0, 0], "seed": 0, "random": random}
    try:
        content = read_saved(path)
        _check(isinstance(content, dict), f"it holds a {type(content).__name__}")
        missing = [name for name in (*form, *names) if name not in content]
        _check(not missing, f"it lacks {', '.join(missing)}")
        for name, ours in form.items():
            _compare(ours, content[name], name)
        numbers = [*content["done"].values(), *content["epoch_size"], content["seed"]]
        _check(all(0 <= number < _MOST for number in numbers), "it counts what cannot be")
        _check_random(content["random"])
    except ValueError as error:
        raise ValueError(f"{path} is no checkpoint of this bundle's training: {error}") from error
    return {name: content[name] for name in (*form, *names)} | {"provenance": _mapping(content.get("provenance"))}


def differing_options(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which options of a run are others than those of its provenance before.

    Where, how and how long it runs is left out.
    """
    return _differing(_mapping(before.get("config")), _mapping(now.get("config")), _FREE)


def differing_surroundings(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which versions, commit, number of ranks and templates are others than those of a run's provenance before."""
    then, today = (
        {name: made_with[name] for name in _SURROUNDINGS if name in made_with} | _mapping(made_with.get("versions"))
        for made_with in (before, now)
    )
    return _differing(then, today)


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], free: Sequence[str] = ()) -> str:
    other = [name for name in now if name in before and name not in free and before[name] != now[name]]
    return ", ".join(f"{name} {reprlib.repr(now[name])} (was {reprlib.repr(before[name])})" for name in other)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def check_parts(path: Path, found: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """Check that parts of a run can take what a checkpoint has of them.

    Raises
    ------
    ValueError
        If one cannot: another network, another kind of optimizer, or what no training writes.
    """
    try:
        for name, part in parts.items():
            if isinstance(part, torch.optim.Optimizer):
                _check_optimizer(part, found[name], name)
            elif not (isinstance(part, AverageWeights) and _begins(part, found[name])):
                _compare(part.state_dict(), found[name], name)
    except ValueError as error:
        raise ValueError(f"{path} does not fit this training: {error}") from error


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _begins(average: AverageWeights, found: Any) -> bool:
    """Tell whether an average begins, or ends, where a run goes on."""
    return isinstance(found, dict) and not (found and average.state_dict())


def _compare(ours: Any, found: Any, where: str) -> None:
    """Check that two values have one form: kinds, names, shapes."""
    if isinstance(ours, Mapping):
        _check(isinstance(found, Mapping), f"{where} is {_shown(found)}, expected a mapping")
        odd = [str(name) for name in [*ours, *found] if name not in found or name not in ours]
        _check(not odd, f"{where} lacks, or has beside what is expected, {', '.join(odd)[:100]!r}")
        for name, value in ours.items():
            _compare(value, found[name], f"{where}.{name}")
        return
    _check(type(found) is type(ours), f"{where} is {_shown(found)}, expected {_shown(ours)}")
    if isinstance(ours, Tensor):
        alike = found.dtype == ours.dtype and (found.shape == ours.shape or where.endswith("._extra_state"))
        _check(alike, f"{where} is {_shown(found)}, expected {_shown(ours)}")
    elif isinstance(ours, list) and ours:
        _check(len(found) == len(ours), f"{where} has {len(found)} values, expected {len(ours)}")
        for n, (value, expected) in enumerate(zip(found, ours, strict=True)):
            _compare(expected, value, f"{where}[{n}]")


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


def _check_random(states: Mapping[str, Any]) -> None:
    """Try the random streams on generators that nobody uses."""
    devices = ["cpu"] + [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    for n, state in enumerate([states["cpu"], *states["cuda"]]):
        _check(isinstance(state, Tensor) and state.dtype == torch.uint8, "random holds no random streams")
        if n < len(devices):
            try:
                torch.Generator(devices[n]).set_state(state)
            except RuntimeError as error:
                raise ValueError(f"random holds no random stream of {devices[n]}") from error


def _check_optimizer(optimizer: torch.optim.Optimizer, found: Any, where: str) -> None:
    ours = optimizer.state_dict()["param_groups"]
    _check(isinstance(found, dict) and {"state", "param_groups"} <= set(found), f"{where} has no state and groups")
    states, theirs = found["state"], found["param_groups"]
    _check(isinstance(states, dict) and isinstance(theirs, list), f"{where} has no state and groups")
    groups = [group["params"] for group in ours]
    theirs = [group.get("params") if isinstance(group, dict) else None for group in theirs]
    _compare(groups, theirs, f"{where}.param_groups")
    _check(groups == theirs, f"{where} has its parameters in another order")
    kept = _kept(optimizer)
    for n, state in states.items():
        _check(type(n) is int and 0 <= n < len(kept), f"{where} has a parameter that the network lacks")
        _compare(kept[n], state, f"{where}.state[{n}]")
        counts = [value.item() for value in state.values() if isinstance(value, Tensor) and not value.ndim]
        _check(all(0 <= count < math.inf for count in counts), f"{where}.state[{n}] counts what cannot be")


def _kept(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return what an optimizer keeps of each parameter once it has made a step, in tensors of the right shapes.

    Found by a step of its copy, whose parameters are cut to two numbers along each axis.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    small = [nn.Parameter(torch.zeros_like(p[(slice(2),) * p.ndim])) for p in parameters]
    # the copy finds these where it looks for copies of the parameters, and nothing that is kept of them by now
    known: dict[int, Any] = {id(p): s for p, s in zip(parameters, small, strict=True)}
    known[id(optimizer.state)] = type(optimizer.state)(dict)
    probe = copy.deepcopy(optimizer, known)
    for parameter in small:
        parameter.grad = torch.zeros_like(parameter)
    probe.step()
    return [
        {name: _grown(value, s, p) for name, value in probe.state[s].items()}
        for s, p in zip(small, parameters, strict=True)
    ]


def _grown(value: Any, small: Tensor, parameter: Tensor) -> Any:
    """Return an empty tensor of a parameter's shape for one of its cut copy's shape; it takes no memory."""
    if not isinstance(value, Tensor) or value.ndim != small.ndim:
        return value
    axes = zip(value.shape, small.shape, parameter.shape, strict=True)
    shape = [whole if kept == cut else kept for kept, cut, whole in axes]
    return torch.empty(shape, dtype=value.dtype, device="meta")
