"""The test sets that all arms are judged on: simulated ones, written once, and others where they are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monai_cryo.data import LabelledData, load_labelled
from monai_cryo.experiment.recipes import RECIPES, read_recipe
from monai_cryo.templates import TemplateLibrary
from monai_cryo.templates.procedural import BackgroundTemplate

__all__ = ["REAL_SETS", "LabelledSet", "find_real_sets", "load_set", "write_simulated_sets"]

#: of the test sets alone; trainings have other seeds and another split
SEED = 0


@dataclass(frozen=True)
class LabelledSet:
    """Labelled subtomograms in a folder with a ``dataset.json``.

    Attributes
    ----------
    name
        What tables call it.
    title
        What it is, in one line.
    folder
        Where; of a real set, relative to the data folder until it is found.
    classes
        Of its samples, those that count. A model that does not know all of them is not judged on it.
    image_key
        Entry of each item that names its image.
    real
        It was photographed, not simulated.
    """

    name: str
    title: str
    folder: Path
    classes: tuple[str, ...]
    image_key: str = "image"
    real: bool = False


_CELL, _DECONV = Path("real/mpneumoniae"), "image_deconvolved"
_SEEN, _ALL = ("ribosome", "membrane"), ("ribosome", "membrane", "background")

REAL_SETS = (
    LabelledSet("mpneumoniae_wbp", "a real cell, back-projected", _CELL, _SEEN, real=True),
    LabelledSet("mpneumoniae_deconv", "the same cell, CTF-deconvolved", _CELL, _SEEN, _DECONV, real=True),
    LabelledSet("mpneumoniae_wbp_background", "with its background, back-projected", _CELL, _ALL, real=True),
    LabelledSet("mpneumoniae_deconv_background", "with its background, deconvolved", _CELL, _ALL, _DECONV, real=True),
    LabelledSet(
        "ribosomes_70s", "real ribosomes of four tomograms", Path("real/ribosomes_70s"), ("ribosome",), real=True
    ),
    LabelledSet(
        "deepfinder",
        "five classes of another simulator, DeepFinder's",
        Path("simulated/deepfinder"),
        ("ribosome_70s", "proteasome_20s", "proteasome_20s_one_cap", "groel", "fatty_acid_synthase"),
    ),
)


def find_real_sets(data: Path, known: Sequence[Sequence[str]]) -> tuple[list[LabelledSet], list[str]]:
    """Look for the sets in a data folder.

    Parameters
    ----------
    data
        The folder.
    known
        Classes of each arm.

    Returns
    -------
    tuple
        The sets that are there and that an arm knows all classes of, and a line for each that is left out.
    """
    found, left_out = [], []
    for entry in REAL_SETS:
        folder = data / entry.folder
        if not (folder / "dataset.json").is_file():
            left_out.append(f"{entry.name}: no {folder / 'dataset.json'}")
        elif not any(set(entry.classes) <= set(classes) for classes in known):
            left_out.append(f"{entry.name}: no arm knows {', '.join(entry.classes)}")
        else:
            found.append(replace(entry, folder=folder))
    return found, left_out


def write_simulated_sets(
    output: Path, samples: int, templates: str | None = None, *, progress: bool = False
) -> list[LabelledSet]:
    """Write a test set of every recipe, where it is not there yet.

    Background, which not every arm knows, is a set of its own beside that of the other classes.

    Parameters
    ----------
    output
        Folder of the sets.
    samples
        Of each set.
    templates
        Library in place of the recipes' own.
    progress
        Show a bar.
    """
    titles = {
        "fixed_parameters": "simulation with the paper's fixed parameters",
        "paper": "the paper's random simulation",
        "robust": "the robust simulation",
        "tilt_series": "tilt series of the unseen library" if templates is None else "tilt series",
    }
    sets = []
    for name in RECIPES:
        recipe = read_recipe(name, templates)
        shown = _shown(recipe.library)
        whole = name == "robust"
        folder = recipe.write(
            output / name, samples, seed=SEED, classes=None if whole else shown, progress=progress
        ).parent
        sets.append(LabelledSet(name, titles[name], folder, tuple(shown)))
        if whole and shown != recipe.library.classes:
            every = tuple(recipe.library.classes)
            sets.append(LabelledSet(f"{name}_background", f"{titles[name]} with its background", folder, every))
    return sets


def load_set(dataset_dir: str, classes: Sequence[str], image_key: str, wanted: Sequence[str]) -> LabelledData:
    """Load the samples of some classes of a labelled folder (:func:`monai_cryo.data.load_labelled`)."""
    found = load_labelled(dataset_dir, classes, image_key=image_key, skip_unknown=True)
    items = [item for item in found.items if classes[item["class"]] in wanted]
    return LabelledData(items, {}, found.voxel_size, found.contrast)


def _shown(library: TemplateLibrary) -> list[str]:
    """Return the classes that show something."""
    members = library.templates.items()
    return [name for name, parts in members if not all(isinstance(part, BackgroundTemplate) for part in parts)]
