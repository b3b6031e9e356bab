"""A network that a file describes is no larger than the weights that come with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks

__all__ = ["no_larger_than"]

_SPARE_NUMBERS, _SPARE_TENSORS = 1 << 20, 1 << 10


@contextmanager
def no_larger_than(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Refuse what is built in here as soon as it has clearly more weights than a state dict.

    Layers are given their weights before these are filled, and memory that was never written to takes none. Twice the
    numbers and tensors are let pass, for layers that are made and replaced. Modules built by other threads count too.

    Raises
    ------
    ValueError
        Out of the constructor that asks for too much.
    """
    numbers = 2 * sum(tensor.numel() for tensor in state.values()) + _SPARE_NUMBERS
    tensors = 2 * len(state) + _SPARE_TENSORS

    def count(module: nn.Module, name: str, value: Any) -> None:
        nonlocal numbers, tensors
        numbers -= value.numel() if isinstance(value, Tensor) else 0
        tensors -= 1
        if min(numbers, tensors) < 0:
            layer = type(module).__name__
            what = f"a {layer} with a {name} of {tuple(value.shape)}" if numbers < 0 else "one layer after another"
            held = f"{len(state)} tensors of {sum(tensor.numel() for tensor in state.values())} numbers"
            raise ValueError(f"it asks for {what}, but the weights are {held}")

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
        hooks.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
