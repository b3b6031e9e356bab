"""What a model is trained for: checked when training begins, and kept in its weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from monai.transforms import Transform
from torch import nn

from monai_cryo._abundance import parse_abundances
from monai_cryo._described import Described
from monai_cryo.bundle.builder import describe_network, describe_transform
from monai_cryo.bundle.facts import check_facts
from monai_cryo.bundle.pretrained import load_pretrained
from monai_cryo.bundle.trained import read_model
from monai_cryo.networks import TwoBranchNet, with_facts


class ModelRecord(Described):
    """What a training is for.

    Parameters
    ----------
    classes
        Names, in the order of the network's channels.
    voxel_size
        Å.
    box
        Voxels along each axis.
    contrast
        Of the particles in its images, dark or bright.
    normalize
        Transform, or ``Compose``, that simulated and real images go through last.
    network
        Class or ``functools.partial`` that builds the network.
    abundance
        Class -> how common it is where the model is used, beside the others; see `TrainedModel.with_abundance`. The
        network that is trained and validated knows nothing of it, nor does one that is no `TwoBranchNet`.

    Raises
    ------
    ValueError
        If one of them is not as it must be (`check_facts`).
    """

    def __init__(
        self,
        classes: list[str],
        voxel_size: float,
        box: int,
        contrast: str,
        normalize: Transform,
        network: Callable[..., nn.Module],
        abundance: Mapping[str, float] | None = None,
    ) -> None:
        self._factory = network
        described = describe_network(network)
        factory = getattr(network, "func", network)
        if abundance and isinstance(factory, type) and issubclass(factory, TwoBranchNet):
            found = parse_abundances(abundance, classes)
            described["abundance"] = [found.get(name, 1.0) for name in classes]
        self.facts = check_facts(
            {
                "classes": list(classes),
                "voxel_size": float(voxel_size),
                "box": int(box),
                "contrast": contrast,
                "normalize": describe_transform(normalize),
                "network": described,
            }
        )

    def build(self, pretrained: str | os.PathLike[str] | None = None) -> nn.Module:
        """Build the network, with its record in it.

        Parameters
        ----------
        pretrained
            Model file whose weights it begins with (:func:`monai_cryo.bundle.pretrained.load_pretrained`); None: random
            ones.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If that is no model of this bundle, or is of other input or another network.
        """
        network = with_facts(self._factory(), self.facts)
        if pretrained is not None:
            load_pretrained(network, self.facts, read_model(pretrained))
        return network
