"""The bundle's simulations, read from its configs: what ``simulate`` writes and the experiment tests on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_cryo._typing import Contrast, parse_contrast
from monai_cryo.bundle import bundle_root
from monai_cryo.data.dataset import TemplateDataset
from monai_cryo.data.simulated import write_simulated
from monai_cryo.engines import SimulateBatch
from monai_cryo.templates import BackgroundTemplate, TemplateLibrary, load_templates
from monai_cryo.transforms import BatchCompose

__all__ = ["RECIPES", "Recipe", "load_without", "read_configs", "read_recipe"]

#: recipe -> the configs it is laid over, and the ids of its pipeline and of its library
RECIPES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "fixed_parameters": (("train", "fixed_parameters"), "simulation", "library"),
    "paper": (("train",), "simulation", "library"),
    "robust": (("train", "robust"), "simulation", "library"),
    "tilt_series": (("train", "robust"), "validation_batch::pipeline", "validation_library"),
}


@dataclass(frozen=True)
class Recipe:
    """A simulation of the bundle.

    Attributes
    ----------
    name
        As in `RECIPES`.
    library
        What is imaged.
    pipeline
        How; without the normalisation of what comes out.
    contrast
        Of the particles in the images.
    digest
        Of everything its configs say: another digest, other images.
    """

    name: str
    library: TemplateLibrary
    pipeline: BatchCompose
    contrast: Contrast
    digest: str

    def write(
        self,
        folder: str | Path,
        number: int,
        *,
        shards: int = 1,
        seed: int = 0,
        split: Any = "test",
        classes: Sequence[str] | None = None,
        progress: bool = False,
    ) -> Path:
        """Write a labelled set of this recipe (:func:`monai_cryo.data.write_simulated`), equally many of each class.

        Parameters
        ----------
        folder, number, shards, progress
            As there.
        seed, split
            As :class:`monai_cryo.data.TemplateDataset` takes them.
        classes
            Of the library, in the library's order; None: all.
        """
        library = self.library if classes is None else self.library.keep(classes)
        dataset = TemplateDataset(library, number, seed, split, balanced=True)
        return write_simulated(
            folder,
            dataset,
            SimulateBatch(self.pipeline),
            contrast=self.contrast,
            shards=shards,
            facts={"recipe": self.name, "configs": self.digest},
            progress=progress,
        )


def read_recipe(name: str, templates: str | None = None) -> Recipe:
    """Read a simulation from the bundle's configs.

    Parameters
    ----------
    name
        One of `RECIPES`.
    templates
        Library in place of the recipe's own: a file, or ``robust`` or ``unseen``.

    Raises
    ------
    ValueError
        If there is no such recipe, or the library is none.
    FileNotFoundError
        If the library's file is missing.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}")
    files, pipeline, library = RECIPES[name]
    parser = read_configs(files)
    if templates is not None:
        parser["templates"] = templates
        parser["validation_library"] = "@library"
    said = json.dumps(parser.config, sort_keys=True, default=str).encode()
    return Recipe(
        name,
        parser.get_parsed_content(library),
        parser.get_parsed_content(pipeline),
        parse_contrast(parser.get_parsed_content("contrast")),
        hashlib.sha256(said).hexdigest(),
    )


def read_configs(names: Sequence[str]) -> ConfigParser:
    """Read configs of the bundle, each laid over those before it."""
    parser = ConfigParser()
    parser.read_config([str(bundle_root() / "configs" / f"{name}.yaml") for name in names])
    return parser


def load_without(dropped: str, file: str | None = None) -> TemplateLibrary:
    """Load a library (:func:`monai_cryo.templates.load_templates`) but a class, ``strangers`` or ``distractors``."""
    library = load_templates(file)
    if dropped not in ("strangers", "distractors"):
        return library.keep([name for name in library.classes if name != dropped])
    members = {
        name: [replace(m, strangers=0.0) if isinstance(m, BackgroundTemplate) else m for m in members]
        for name, members in library.templates.items()
    }
    return library.holding(members, None if dropped == "strangers" else ())
