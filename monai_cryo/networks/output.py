"""What a two-branch network answers, checked in one place for loss, metrics and everybody's own networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_output", "one_tensor"]


def check_output(output: Any, *, fewer_masks: bool = False) -> tuple[Tensor, Tensor]:
    """Return the logits of classes and masks that a network gave.

    Parameters
    ----------
    output
        ``"logits"`` (B, K) and ``"masks"`` (B, K, D, H, W), as from `TwoBranchNet`; other entries are ignored.
    fewer_masks
        Take the masks of a batch's first samples alone too, as a network in training may give.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    logits, masks = (output.get("logits"), output.get("masks")) if isinstance(output, Mapping) else (None, None)
    if not (
        isinstance(logits, Tensor)
        and isinstance(masks, Tensor)
        and logits.ndim == 2
        and masks.ndim == 5
        and masks.shape[1] == logits.shape[1]
        and (len(masks) == len(logits) or (fewer_masks and 0 < len(masks) < len(logits)))
    ):
        raise ValueError(
            "the network must return a dictionary with logits (B, K) and masks (B, K, D, H, W), "
            f"got {_describe(output)}"
        )
    return logits, masks


def one_tensor(classes: Tensor, masks: Tensor) -> Tensor:
    """Return the answers as one tensor (B, K, D, H, W), as :class:`~.two_branch.TwoBranchTensorNet` describes it.

    Parameters
    ----------
    classes
        Probabilities of the classes, (B, K).
    masks
        Probabilities of their masks, (B, K, D, H, W).
    """
    index = torch.arange(classes.shape[1], device=classes.device)
    predicted = (index == classes.argmax(1, keepdim=True))[:, :, None, None, None]
    return torch.where(predicted, masks, (classes - 1)[:, :, None, None, None])


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        entries = [f"{k} {tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__}" for k, v in value.items()]
        return f"a dictionary with {', '.join(entries) or 'nothing'}"
    return f"a {type(value).__name__}"
