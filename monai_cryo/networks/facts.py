"""Plain facts that travel in a network's state dict: what the model was trained for cannot be lost from its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["FactSheet", "facts_in", "with_facts"]

Network = TypeVar("Network", bound=nn.Module)

_NAME = "record"
_LONGEST = 1 << 20


class FactSheet(nn.Module):
    """Child of a network that holds facts and no weights.

    In the state dict they are JSON in a uint8 tensor, so that tools which expect nothing but tensors there, such as
    MONAI's exports, take the file as it is. Loading a state dict replaces the facts.

    Parameters
    ----------
    facts
        Plain values; None: nothing is known.
    """

    def __init__(self, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.facts = None if facts is None else dict(facts)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`: a ``Sequential`` calls every child."""
        return x

    def get_extra_state(self) -> Tensor:
        """Return the facts as a state dict holds them."""
        text = "" if self.facts is None else json.dumps(self.facts)
        return torch.tensor(list(text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the facts of a state dict."""
        self.facts = _decode(state)


def with_facts(network: Network, facts: Mapping[str, Any]) -> Network:
    """Give a network, also one of somebody else's, its facts, and return it."""
    network.add_module(_NAME, FactSheet(facts))
    return network


def facts_in(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the facts out of a network's state dict; None where there are none.

    Raises
    ------
    ValueError
        If they cannot be read.
    """
    raw = state.get(f"{_NAME}._extra_state")
    return None if raw is None else _decode(raw)


def _decode(state: Any) -> dict[str, Any] | None:
    if not isinstance(state, Tensor) or state.dtype != torch.uint8:
        raise ValueError(f"a model's record must be JSON in a uint8 tensor, found {type(state).__name__}")
    if state.numel() > _LONGEST:
        raise ValueError(f"a model's record has at most {_LONGEST} bytes, found {state.numel()}")
    text = bytes(state.flatten().tolist())
    try:
        facts = json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a model's record must be JSON: {error}") from error
    if facts is not None and not isinstance(facts, dict):
        raise ValueError(f"a model's record must be a JSON object, found {type(facts).__name__}")
    return facts
