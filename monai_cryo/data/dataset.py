"""An endless dataset of clean particles, each a function of (seed, split, index)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset

from monai_cryo._described import Described
from monai_cryo._typing import Split, check_word
from monai_cryo.data.seeding import item_state
from monai_cryo.templates.library import TemplateLibrary


class TemplateDataset(Described, Dataset[dict[str, Any]]):
    """Clean densities and masks, drawn from a template library; imaging them is the transforms' work.

    Any index is valid, also beyond ``len``: with :class:`~.seeding.CounterSampler` every epoch brings new items.

    Parameters
    ----------
    library
        Where the particles come from.
    length
        Nominal number of items.
    seed
        Of all randomness.
    split
        ``"train"``, ``"validation"`` or ``"test"``: part of every item's key. Splits share no item, whatever the seed.
    balanced
        Take the classes in turn, so that every class has its share of any number of items; else they are drawn.

    Raises
    ------
    ValueError
        On a length < 1, a negative seed or an unknown split.

    Examples
    --------
    >>> TemplateDataset(load_templates(), length=32)[0].keys()
    dict_keys(['image', 'mask', 'posed', 'radius_vox', 'structure', 'amplitude', 'class', 'seed', 'split', 'index'])
    """

    def __init__(
        self, library: TemplateLibrary, length: int, seed: int = 0, split: Split = "train", balanced: bool = False
    ) -> None:
        if length < 1 or seed < 0:
            raise ValueError(f"length must be >= 1 and seed >= 0, got {length} and {seed}")
        check_word("split", split, Split)
        self.library, self.length, self.seed, self.split, self.balanced = library, length, seed, split, balanced

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(self.length))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Draw item ``index``.

        Returns
        -------
        dict
            ``image`` (1, D, H, W) float32, ``mask`` of that shape, bool; ``posed``, whether it is in its random pose
            already, as membranes are; ``radius_vox``, the radius within which it lies otherwise; ``structure``, its
            name; ``amplitude``, the factor already on its density; ``class``, its index; ``seed``, ``split`` and
            ``index``, from which its imaging is drawn.
        """
        state = item_state(self.seed, self.split, index)
        classes = len(self.library.classes)
        class_index = index % classes if self.balanced else int(state.randint(classes))
        item = self.library.draw(class_index, state)
        return {**item, "class": class_index, "seed": self.seed, "split": self.split, "index": index}
