"""A network that begins with what another has learnt, of the same classes or of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from monai_cryo.networks import TwoBranchNet

#: what two models must share: weights learnt on other images say nothing
_SAME_INPUT = ("voxel_size", "contrast", "normalize")


def load_pretrained(
    network: nn.Module, facts: Mapping[str, Any], state: Mapping[str, Tensor], their_facts: Mapping[str, Any], path: str
) -> None:
    """Give a network the weights of a model, in place.

    Layers with a row for each class take the rows of classes of the same name; those of new classes stay random.

    Parameters
    ----------
    network
        What begins; a :class:`monai_cryo.networks.TwoBranchNet` where the classes differ.
    facts
        Its record.
    state
        State dict of the model.
    their_facts
        Its record.
    path
        Its file, for messages.

    Raises
    ------
    ValueError
        If the model was trained on other input, or its weights have other shapes.
    """
    for key in _SAME_INPUT:
        if facts[key] != their_facts[key]:
            found, wanted = their_facts[key], facts[key]
            raise ValueError(f"pretrained {path} has {key} {found!r:.300}, this training {wanted!r:.300}")
    ours, theirs = facts["classes"], their_facts["classes"]
    of_classes: set[str] = set()
    if ours != theirs:
        if not isinstance(network, TwoBranchNet):
            raise ValueError(f"pretrained {path} has classes {', '.join(theirs)}, this training {', '.join(ours)}")
        rows = {id(p) for layer in (network.classifier[-1], network.segmenter) for p in layer.parameters()}
        of_classes = {name for name, p in network.named_parameters() if id(p) in rows}
    weights = {name: value for name, value in network.state_dict().items() if not name.endswith("_extra_state")}
    shared = [(i, theirs.index(name)) for i, name in enumerate(ours) if name in theirs]
    with torch.no_grad():
        for name, value in weights.items():
            expected = [len(theirs), *value.shape[1:]] if name in of_classes else list(value.shape)
            found = state.get(name)
            if found is None or list(found.shape) != expected:
                shape = None if found is None else list(found.shape)
                raise ValueError(f"pretrained {path} does not fit: {name} has shape {shape}, expected {expected}")
            if name in of_classes:
                for mine, other in shared:
                    value[mine] = found[other]
            else:
                value.copy_(found)
