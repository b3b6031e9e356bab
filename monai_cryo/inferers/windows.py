"""Windows cut out of a tomogram and read as the network was trained; what each shows is put back where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_cryo._defaults import LABEL_THRESHOLD
from monai_cryo.inferers.classifier_map import WINDOW
from monai_cryo.inferers.dense import Prepare
from monai_cryo.inferers.flips import WEDGE_FLIPS, mean_of
from monai_cryo.inferers.normalize import cut_mirrored
from monai_cryo.io.tomogram import sections
from monai_cryo.networks import TwoBranchNet
from monai_cryo.transforms.ranges import parse_number

__all__ = ["Reading", "Sightings", "WindowInferer"]

_BATCH = 16
_LEAST = 0.1  # a class less probable than this leaves no trace, and is not outlined: most of the time
_HALF = WINDOW // 2

Allocate = Callable[[str, tuple[int, ...], type[np.generic]], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Sightings:
    """Particles as windows show them: the same one often, by windows around it.

    Attributes
    ----------
    places
        (N, 3) the centres of their masks, indices (z, y, x) into the tomogram.
    kinds
        (N,) their classes.
    probabilities
        (N,) of the class in the window.
    sizes
        (N,) voxels of their masks.
    """

    places: NDArray[np.float64]
    kinds: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    sizes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reading:
    """What the network says of a tomogram of (D, H, W) voxels.

    Attributes
    ----------
    maps
        For each class float16 (D, H, W): the probability of the class in a window times that of the voxel to belong to
        its particle, the largest of all windows that were looked at.
    labels
        int8 (D, H, W): 1 + the class with the largest map where that is large enough, 0 elsewhere.
    sightings
        What each window showed of each class.
    """

    maps: list[NDArray[np.float16]]
    labels: NDArray[np.int8]
    sightings: Sightings


class WindowInferer:
    """Look at places in a tomogram through windows of 40 voxels, as the network looks at subtomograms.

    Parameters
    ----------
    network
        In evaluation mode.
    threshold
        A voxel is labelled if its largest map is at least this.
    background
        Index of a class that stands for no particle: its map and its label stay 0.
    flips
        Average over the four mirror images that keep a missing wedge, wherever the first shows something.

    Raises
    ------
    ValueError
        If the threshold is no number from 0 to 1.
    """

    def __init__(
        self,
        network: TwoBranchNet,
        *,
        threshold: float = LABEL_THRESHOLD,
        background: int | None = None,
        flips: bool = False,
    ) -> None:
        self.network, self.background, self.flips = network, background, flips
        self.threshold = parse_number("threshold", threshold, 0.0, 1.0)

    @torch.inference_mode()
    def __call__(
        self,
        volume: NDArray[Any],
        places: NDArray[np.float64],
        prepare: Prepare,
        *,
        allocate: Allocate | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Reading:
        """Read the windows centred on places.

        Parameters
        ----------
        volume
            [z, y, x] at the network's voxel size, an array or a memory map; mirrored beyond its faces.
        places
            (N, 3) indices (z, y, x).
        prepare
            Brings windows (B, 1, 40, 40, 40) to what the network was trained on.
        allocate
            Makes the arrays for ``"labels"`` and for ``"map_<k>"`` of a shape and type, as memory maps; None: numpy.
        progress
            Called with (windows done, windows) after each batch.
        """
        kept = [k for k in range(self.network.num_classes) if k != self.background]
        new = allocate or (lambda _, shape, dtype: np.zeros(shape, dtype))
        maps = [new(f"map_{k}", volume.shape, np.float16) for k in range(self.network.num_classes)]
        labels = new("labels", volume.shape, np.int8)
        device = next(self.network.parameters()).device
        centres = np.floor(places + 0.5).astype(int).clip(0, np.array(volume.shape) - 1)
        centres = centres[np.lexsort(centres.T[::-1])]  # neighbours in turn: the same pages of a memory map
        # in one piece: small arrays that stay among large ones that come and go leave holes in memory, more and more
        rows, count = np.empty((len(centres) * len(kept), 6)), 0
        for first in range(0, len(centres), _BATCH):
            part = centres[first : first + _BATCH]
            windows = torch.stack([_window(volume, centre) for centre in part])[:, None].to(device)
            classes, masks, outlined = self._answer(prepare(windows), kept)
            seen = _sightings(part[outlined], classes, masks, kept)
            rows[count : count + len(seen)] = seen
            count += len(seen)
            values = (classes[:, :, None, None, None] * masks).half().cpu().numpy()
            for centre, probabilities, value in zip(part[outlined], classes.tolist(), values, strict=True):
                inside = [(max(c - _HALF, 0), min(c + _HALF, n)) for c, n in zip(centre, volume.shape, strict=True)]
                target = tuple(slice(*i) for i in inside)
                source = tuple(slice(a - c + _HALF, b - c + _HALF) for (a, b), c in zip(inside, centre, strict=True))
                for k in kept:
                    if probabilities[k] >= _LEAST:
                        np.maximum(maps[k][target], value[k][source], out=maps[k][target])
            if progress is not None:
                progress(first + len(part), len(centres))
        for label, *values in zip(sections(labels), *map(sections, maps), strict=True):
            section = np.stack(values)
            best = section.argmax(0)
            large = np.take_along_axis(section, best[None], 0)[0] >= self.threshold
            label[:] = np.where(large, best + 1, 0)
        places, kinds, probabilities, sizes = np.split(rows[:count].copy(), [3, 4, 5], axis=1)
        found = Sightings(places, kinds[:, 0].astype(int), probabilities[:, 0], sizes[:, 0].astype(int))
        return Reading(maps, labels, found)

    def _answer(self, windows: Tensor, kept: list[int]) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
        """Return the probabilities of classes and masks of those windows that show something, and which these are."""
        logits, maps = self.network.classify(windows)
        shown = logits.softmax(1)[:, kept].amax(1) >= _LEAST
        answers = [(logits[shown], [m[shown] for m in maps])]
        views = WEDGE_FLIPS if self.flips else WEDGE_FLIPS[:1]
        answers += [self.network.classify(windows[shown].flip(axes)) for axes in views[1:]]
        classes = mean_of([logits.softmax(1) for logits, _ in answers])
        outlines = [self.network.outline(maps).sigmoid() for _, maps in answers]
        masks = mean_of([o.flip(axes) if axes else o for o, axes in zip(outlines, views, strict=True)])
        return classes, masks, shown.cpu().numpy()


def _sightings(centres: NDArray[np.int64], classes: Tensor, masks: Tensor, kept: list[int]) -> NDArray[np.float64]:
    """Rows (z, y, x, class, probability, voxels) of all that windows show with a mask."""
    inside = (masks[:, kept] >= 0.5).float()
    sizes = inside.sum((2, 3, 4))
    along = torch.arange(WINDOW, dtype=inside.dtype, device=inside.device) - _HALF
    sums = [inside.sum([axis for axis in (2, 3, 4) if axis != keep]) @ along for keep in (2, 3, 4)]
    offsets = torch.stack(sums, -1) / sizes.clamp(min=1)[..., None]
    probabilities = classes[:, kept]
    window, kind = ((sizes > 0) & (probabilities >= _LEAST)).nonzero(as_tuple=True)
    columns = [offsets[window, kind], torch.tensor(kept, device=kind.device)[kind][:, None]]
    columns += [probabilities[window, kind][:, None], sizes[window, kind][:, None]]
    rows = torch.cat([column.double() for column in columns], 1).cpu().numpy()
    rows[:, :3] += centres[window.cpu().numpy()]
    return rows


def _window(volume: NDArray[Any], centre: NDArray[np.int64]) -> Tensor:
    return cut_mirrored(volume, [int(c) - _HALF for c in centre], [WINDOW] * 3)
