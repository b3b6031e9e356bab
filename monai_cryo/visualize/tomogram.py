"""A tomogram that has been read: slices in three directions with outlines and picks, and the scores of the picks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch
from numpy.typing import NDArray
from scipy import ndimage

from monai_cryo.io.picks import Picks
from monai_cryo.io.tomogram import Tomogram, sections, to_source_index

__all__ = ["COLOURS", "draw_tomogram"]

COLOURS = ("#e6194b", "#4363d8", "#3cb44b", "#ffe119", "#911eb4", "#f58231", "#42d4f4", "#f032e6")
#: sections averaged, and standard deviation of the low-pass, in voxels: one noisy section shows nothing
_SLAB, _SMOOTH = 5, 1.0


class _Labels(Protocol):
    @property
    def labels(self) -> NDArray[Any]: ...


class _Reading(Protocol):
    """What is drawn of a :class:`monai_cryo.inferers.TomogramReading`."""

    @property
    def tomogram(self) -> Tomogram: ...
    @property
    def volume(self) -> NDArray[Any]: ...
    @property
    def voxel_size(self) -> float: ...
    @property
    def classes(self) -> list[str]: ...
    @property
    def reading(self) -> _Labels: ...


def draw_tomogram(
    reading: _Reading,
    picks: Picks | None = None,
    diameters_a: Mapping[str, float] | None = None,
    title: str = "",
) -> Any:
    """Draw the sections through the middle of what was found: as they are, and with labels and picks.

    Parameters
    ----------
    reading
        The tomogram and its labels.
    picks
        In voxels of the tomogram.
    diameters_a
        Class -> diameter of its circles, Å.
    title
        Of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        It belongs to no window: drop it when done.
    """
    labels, shape = reading.reading.labels, reading.volume.shape
    busiest, seen = _survey(labels, reading.classes)
    places = np.empty((0, 3)) if picks is None else _to_reading(picks.index, reading)
    colour = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(reading.classes)}
    map_of = ListedColormap(["#00000000", *(colour[name] for name in reading.classes)])
    wide, tall = shape[2] + shape[0], shape[1] + shape[0]
    scale = 7.5 / max(wide, tall)
    figure = Figure(figsize=(2 * scale * wide + 3.4, scale * tall + 0.8), layout="constrained")
    panels: Any = figure.subfigures(1, 3, width_ratios=[scale * wide, scale * wide, 3.4])
    left, middle, right = panels
    for panel, marked in ((left, False), (middle, True)):
        grid = panel.subplots(
            2, 2, gridspec_kw={"width_ratios": [shape[2], shape[0]], "height_ratios": [shape[1], shape[0]]}
        )
        grid[1, 1].set_axis_off()
        for axis, ax, names in ((0, grid[0, 0], "xy"), (2, grid[0, 1], "zy"), (1, grid[1, 0], "xz")):
            at = busiest[axis]
            image = _section(reading.volume, axis, at)
            low, high = np.percentile(image, (1, 99))
            outline = np.asarray(labels.take(at, axis))
            across, up = (2, 1) if axis == 0 else (0, 1) if axis == 2 else (2, 0)
            if axis == 2:  # z runs to the right
                image, outline = image.T, outline.T
            ax.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(f"{names[0]}-{names[1]}, {'zyx'[axis]} = {at}", fontsize=7)
            if not marked:
                continue
            ax.imshow(outline, cmap=map_of, vmin=-0.5, vmax=len(reading.classes) + 0.5, alpha=0.35, origin="lower")
            for place, name in zip(places, picks.names if picks is not None else (), strict=True):
                radius = 0.5 * (diameters_a or {}).get(name, 0.0) / reading.voxel_size
                cut = radius**2 - (place[axis] - at) ** 2
                if cut > 0:
                    centre = (place[across], place[up])
                    ax.add_patch(Circle(centre, cut**0.5, fill=False, edgecolor=colour[name], linewidth=0.8))
    ax = right.subplots()
    if picks is not None and len(picks):
        kinds = [name for name in reading.classes if name in picks.names]
        values = [[s for s, n in zip(picks.scores, picks.names, strict=True) if n == name] for name in kinds]
        ax.hist(values, bins=np.linspace(0, 1, 26), stacked=True, color=[colour[name] for name in kinds])
        seen = list(dict.fromkeys([*seen, *kinds]))
    ax.set_xlim(0, 1)
    ax.set_xlabel("score", fontsize=8)
    ax.set_ylabel("picks", fontsize=8)
    ax.tick_params(labelsize=7)
    counts = {name: 0 if picks is None else picks.names.count(name) for name in seen}
    handles = [Patch(color=colour[name], label=f"{name} ({n})" if n else name) for name, n in counts.items()]
    ax.set_title(title, fontsize=8, parse_math=False)
    if handles:
        ax.legend(handles=handles, fontsize=7, loc="upper right")
    return figure


def _to_reading(index: np.ndarray, reading: _Reading) -> np.ndarray:
    """Indices into the volume as it was read, of indices into the tomogram."""
    zero, one = to_source_index([[0, 0, 0], [1, 1, 1]], reading.tomogram, reading.volume.shape, reading.voxel_size)
    return (index - zero) / (one - zero)


def _survey(labels: NDArray[Any], classes: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return for each axis the section with most labelled voxels, of those in the middle half, and the classes seen."""
    counts = [np.zeros(n, np.int64) for n in labels.shape]
    voxels = np.zeros(len(classes) + 1, np.int64)
    for z, section in enumerate(sections(labels)):
        labelled = np.asarray(section) != 0
        counts[0][z] = labelled.sum()
        counts[1] += labelled.sum(1)
        counts[2] += labelled.sum(0)
        voxels += np.bincount(np.asarray(section).ravel(), minlength=len(voxels))
    busiest = []
    for found in counts:
        n, first = len(found), len(found) // 4
        middle = found[first : max(first + 1, n - first)]
        busiest.append(first + int(np.argmax(middle)) if middle.any() else n // 2)
    return busiest, [name for name, n in zip(classes, voxels[1:], strict=True) if n]


def _section(volume: np.ndarray, axis: int, at: int) -> np.ndarray:
    low, high = max(0, at - _SLAB // 2), min(volume.shape[axis], at + _SLAB // 2 + 1)
    index: list[Any] = [slice(None)] * 3
    index[axis] = slice(low, high)
    slab = np.asarray(volume[tuple(index)], np.float32).mean(axis)
    return np.asarray(ndimage.gaussian_filter(slab, _SMOOTH))
