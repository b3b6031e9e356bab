"""An endless dataset of clean particles, each a function of (seed, index)."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from monai_cryo.data.seeding import item_state
from monai_cryo.templates.library import TemplateLibrary


class TemplateDataset(Dataset[dict[str, Any]]):
    """Clean densities and masks, drawn from a template library; imaging them is the transforms' work.

    Any index is valid, also beyond ``len``: with :class:`~.seeding.CounterSampler` every epoch brings new items.

    Parameters
    ----------
    library
        Where the particles come from.
    length
        Nominal number of items.
    seed
        Of all randomness. Two datasets with different seeds share no item.

    Examples
    --------
    >>> TemplateDataset(load_templates(), length=32)[0].keys()
    dict_keys(['image', 'mask', 'radius_vox', 'class', 'seed', 'index'])
    """

    def __init__(self, library: TemplateLibrary, length: int, seed: int = 0) -> None:
        if length < 1 or seed < 0:
            raise ValueError(f"length must be >= 1 and seed >= 0, got {length} and {seed}")
        self.library, self.length, self.seed = library, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Draw item ``index``.

        Returns
        -------
        dict
            ``image`` (1, D, H, W) float32, ``mask`` of that shape, bool; ``radius_vox``, the radius within which it
            lies (0: already in its pose, as membranes are); ``class``, its index, uniform over the classes; ``seed``
            and ``index``, from which its imaging is drawn.
        """
        state = item_state(self.seed, index)
        class_index = int(state.randint(len(self.library.classes)))
        item = self.library.draw(class_index, state)
        return {
            "image": item["image"],
            "mask": item["mask"],
            "radius_vox": item["radius_vox"],
            "class": class_index,
            "seed": self.seed,
            "index": index,
        }
