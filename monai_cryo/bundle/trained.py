"""A model file, and all that its use needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from monai_cryo._abundance import parse_abundances
from monai_cryo._typing import Precision, check_word, parse_contrast
from monai_cryo.bundle.builder import build_network, build_transform, network_class
from monai_cryo.bundle.facts import check_facts
from monai_cryo.bundle.limits import no_larger_than
from monai_cryo.io.saved import read_saved
from monai_cryo.networks import TwoBranchNet, TwoBranchTensorNet, facts_in, with_facts


class TrainedModel:
    """A model file: its weights, and how its input must be made.

    Parameters
    ----------
    path
        The file.
    state
        State dict of its network.
    facts
        Its record.

    Attributes
    ----------
    classes, voxel_size, box, contrast
        As in :class:`ModelRecord`.
    normalize
        The very transform it was trained with.
    """

    def __init__(self, path: str | os.PathLike[str], state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.path, self.state, self.facts = Path(path), state, check_facts(facts)
        self.classes: list[str] = self.facts["classes"]
        self.voxel_size: float = self.facts["voxel_size"]
        self.box: int = self.facts["box"]
        self.contrast: str = self.facts["contrast"]
        self.normalize = build_transform(self.facts["normalize"])

    def __repr__(self) -> str:
        """Show the record."""
        return f"TrainedModel({str(self.path)!r}, {', '.join(f'{k}={v!r}' for k, v in self.facts.items())})"

    @property
    def abundance(self) -> dict[str, float]:
        """How common its network takes each class to be, beside the others."""
        numbers = self.facts["network"].get("abundance") or [1.0] * len(self.classes)
        return dict(zip(self.classes, numbers, strict=True))

    @property
    def absent(self) -> list[str]:
        """Classes that its network never finds."""
        return [name for name, number in self.abundance.items() if not number]

    def with_abundance(self, abundance: Mapping[str, float]) -> TrainedModel:
        """Return the model for a specimen in which some classes are rarer, or commoner, than it takes them to be.

        Parameters
        ----------
        abundance
            Class -> how common it is beside the others, >= 0, 0 for what is not there; see
            :class:`monai_cryo.networks.TwoBranchNet`. Of other classes the model's own holds.

        Raises
        ------
        ValueError
            If one is none of the model's, a number cannot be, no class is left, or its network is no `TwoBranchNet`.
        """
        found = parse_abundances(abundance, self.classes)
        if not found:
            return self
        network = self.facts["network"]
        kind = network_class(network)
        if not issubclass(kind, TwoBranchNet):
            raise ValueError(f"abundances can be told to a TwoBranchNet, not to {kind.__name__}")
        numbers = list({**self.abundance, **found}.values())
        return TrainedModel(self.path, self.state, {**self.facts, "network": {**network, "abundance": numbers}})

    def network(self, precision: str | None = None, *, one_tensor: bool = False) -> nn.Module:
        """Build the network with its weights, in evaluation mode.

        Parameters
        ----------
        precision
            As :class:`monai_cryo.networks.TwoBranchNet` takes it; None: its default.
        one_tensor
            Both answers in one tensor (:class:`monai_cryo.networks.TwoBranchTensorNet`).

        Raises
        ------
        ValueError
            If it cannot be built from the record, or the weights are not its own.
        """
        config = self.facts["network"]
        if precision is not None:
            check_word("precision", precision, Precision)
        try:
            network = self._built(config, precision)
            if one_tensor and type(network) is TwoBranchNet:
                path = f"{TwoBranchTensorNet.__module__}.{TwoBranchTensorNet.__qualname__}"
                network = self._built({**config, "_target_": path}, precision)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}; pass --network_def to build it yourself") from error
        return self.load(network)

    def _built(self, config: Mapping[str, Any], precision: str | None) -> nn.Module:
        with no_larger_than(self.state):
            return build_network(config, precision)

    def load(self, network: nn.Module) -> nn.Module:
        """Give a network these weights and this record, set it to evaluation, and return it.

        Raises
        ------
        ValueError
            If they are not its own, or its classes are not as many as the record's.
        """
        try:
            with_facts(network, self.facts).load_state_dict(self.state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.path}: the weights do not fit {type(network).__name__}: {reason}") from error
        if isinstance(network, TwoBranchNet) and network.num_classes != len(self.classes):
            found = f"the network has {network.num_classes} classes, the record {len(self.classes)}"
            raise ValueError(f"{self.path}: {found}: {', '.join(self.classes)}")
        return with_facts(network, self.facts).eval()  # the weights brought the file's own

    def negates(self, contrast: str) -> bool:
        """Tell whether images of this contrast, dark or bright, must be negated for this model."""
        return parse_contrast(contrast, "file_contrast") != self.contrast


def read_model(path: str | os.PathLike[str], abundance: Mapping[str, float] | None = None) -> TrainedModel:
    """Read a model file; nothing in it is run.

    Parameters
    ----------
    path
        The file.
    abundance
        How common classes are in the specimen, 0 for a eukaryote's in a bacterium, in place of what the model says; see
        `TrainedModel.with_abundance`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no model of this bundle, holds a weight that is not finite, or has no such classes.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model file {path}: train one, or name another")
    try:
        state = read_saved(path)
    except ValueError as error:
        raise ValueError(f"{path} is no readable model file: {error}") from error
    try:
        plain = isinstance(state, dict) and all(isinstance(v, Tensor) and isinstance(k, str) for k, v in state.items())
        facts = facts_in(state) if plain else None
        if facts is None:
            raise ValueError("expected a state dict with a record in it")
        odd = [name for name, w in state.items() if w.is_floating_point() and not bool(w.float().isfinite().all())]
        if odd:  # as the network takes them, in float32
            raise ValueError(f"expected finite weights, but {odd[0]} holds NaN or infinity")
        model = TrainedModel(path, state, facts)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no model of this bundle: {error}") from error
    return model.with_abundance(abundance or {})
