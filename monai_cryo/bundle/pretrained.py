"""A network that begins with what another has learnt, of the same classes or of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from monai_cryo.bundle.trained import TrainedModel
from monai_cryo.networks import TwoBranchNet

#: what two models must share: weights learnt on other images say nothing
_SAME_INPUT = ("voxel_size", "contrast", "normalize")


def load_pretrained(network: nn.Module, facts: Mapping[str, Any], model: TrainedModel) -> None:
    """Give a network the weights of a model, in place.

    Layers with a row for each class take the rows of classes of the same name; those of new classes stay random.

    Parameters
    ----------
    network
        What begins; a :class:`monai_cryo.networks.TwoBranchNet` where the classes differ.
    facts
        Its record.
    model
        What it begins with.

    Raises
    ------
    ValueError
        If the model was trained on other input, or its weights have other shapes.
    """
    path = model.path
    for key in _SAME_INPUT:
        found, wanted = model.facts[key], facts[key]
        if found != wanted:
            raise ValueError(f"pretrained {path} has {key} {found!r:.300}, this training {wanted!r:.300}")
    ours, theirs = facts["classes"], model.classes
    of_classes: dict[str, int] = {}
    if ours != theirs:
        if not isinstance(network, TwoBranchNet):
            raise ValueError(f"pretrained {path} has classes {', '.join(theirs)}, this training {', '.join(ours)}")
        of_classes = _class_axes(network)
    weights = {name: value for name, value in network.state_dict().items() if not name.endswith("_extra_state")}
    shared = [(i, theirs.index(name)) for i, name in enumerate(ours) if name in theirs]
    with torch.no_grad():
        for name, value in weights.items():
            expected = list(value.shape)
            axis = of_classes.get(name)
            if axis is not None:
                expected[axis] = len(theirs)
            weight = model.state.get(name)
            if weight is None or list(weight.shape) != expected:
                shape = None if weight is None else list(weight.shape)
                raise ValueError(f"pretrained {path} does not fit: {name} has shape {shape}, expected {expected}")
            if axis is None:
                value.copy_(weight)
                continue
            for mine, other in shared:
                value.select(axis, mine).copy_(weight.select(axis, other))


def _class_axes(network: TwoBranchNet) -> dict[str, int]:
    """Name the parameters with a row for each class, and the axis along which the rows lie."""
    axes: dict[int, int] = {}
    last = [layer for layer in network.classifier if isinstance(layer, nn.Linear)][-1]
    for layer in (last, network.segmenter.layer):
        for name, parameter in layer.named_parameters():
            # a deconvolution's kernels are (in, out, ...), all others' (out, in, ...)
            axes[id(parameter)] = int(isinstance(layer, nn.ConvTranspose3d) and name == "weight")
    return {name: axes[id(p)] for name, p in network.named_parameters() if id(p) in axes}
