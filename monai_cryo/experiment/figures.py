"""Pictures of an experiment: in the manner of the paper's Figures 3 to 5, and validation against iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from scipy import ndimage

from monai_cryo.experiment.plan import Run
from monai_cryo.experiment.scoring import find_examples
from monai_cryo.experiment.sets import LabelledSet
from monai_cryo.io.atomic import replacing
from monai_cryo.templates import TemplateLibrary
from monai_cryo.visualize.gallery import draw_gallery
from monai_cryo.visualize.predictions import Example

__all__ = ["draw_figures"]

#: samples of a class in the pictures of real data, and the sets that masks are shown on
_EXAMPLES = 4
_SHOWN = ("tilt_series", "mpneumoniae_wbp", "mpneumoniae_deconv", "deepfinder")
_CURVES = ("accuracy", "mean_iou")


def draw_figures(
    output: Path, library: TemplateLibrary, runs: Sequence[Run], sets: Sequence[LabelledSet]
) -> list[Path]:
    """Draw what there is to draw.

    Parameters
    ----------
    output
        Folder of the PNG files.
    library
        Whose classes the simulation of Figure 3 shows.
    runs
        Trained runs; masks are shown of the first of each arm.
    sets
        Test sets.

    Returns
    -------
    list of Path
        ``figure_3.png``, simulated slices with one parameter at random in each row; ``figure_4.png``, real examples;
        ``figure_5.png``, input, true mask and each arm's mask; ``curves.png``, validation against iterations.
    """
    first = {run.arm.name: run for run in reversed(runs)}
    arms = list(dict.fromkeys(run.arm.name for run in runs))
    figures: dict[str, Any] = {"figure_3": draw_gallery(library)}
    knowing = {entry.name: [name for name in arms if _knows(first[name], entry)] for entry in sets}
    known = [entry for entry in sets if knowing[entry.name]]
    real: dict[str, list[Example]] = {}
    for entry in {(entry.folder, entry.image_key): entry for entry in known if entry.real}.values():
        real[entry.name] = find_examples(first[knowing[entry.name][-1]].model, entry, _EXAMPLES)
    masks = {
        entry.name: {name: find_examples(first[name].model, entry) for name in knowing[entry.name]}
        for entry in known
        if entry.name in _SHOWN
    }
    if real:
        figures["figure_4"] = _draw_real(real)
    if masks:
        figures["figure_5"] = _draw_masks(masks)
    figures["curves"] = _draw_curves(runs)
    for name, figure in figures.items():
        with replacing(output / f"{name}.png") as part:
            figure.savefig(part, dpi=110)
    return [output / f"{name}.png" for name in figures]


def _knows(run: Run, entry: LabelledSet) -> bool:
    return (run.folder / "scores" / f"{entry.name}.json").is_file()


def _panels(rows: int, columns: int, title: str) -> tuple[Any, Any]:
    figure = Figure(figsize=(1.7 * columns + 0.4, 1.85 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    figure.suptitle(title, fontsize=9)
    return figure, axes


def _slice(example: Example) -> int:
    """Height at which the true mask is largest; the middle without one."""
    if example.mask is None or not example.mask.any():
        return example.image.shape[0] // 2
    return int(example.mask.sum(axis=(1, 2)).argmax())


def _show(ax: Any, example: Example, height: int) -> None:
    image = ndimage.gaussian_filter(example.image, 1.0)[height]
    low, high = np.percentile(image, (1, 99))
    ax.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")


def _draw_real(real: Mapping[str, Sequence[Example]]) -> Any:
    """Draw real examples, a row for each set and class."""
    rows = [
        (set_name, name, [example for example in examples if example.true_class == name])
        for set_name, examples in real.items()
        for name in dict.fromkeys(example.true_class for example in examples)
    ]
    figure, axes = _panels(len(rows), _EXAMPLES, "real examples, x-y slices, low-passed")
    for r, (set_name, name, examples) in enumerate(rows):
        axes[r, 0].set_ylabel(f"{set_name}\n{name}", fontsize=6)
        for ax in axes[r, len(examples) :]:
            ax.set_axis_off()
        for ax, example in zip(axes[r], examples, strict=False):
            _show(ax, example, _slice(example))
    return figure


def _draw_masks(masks: Mapping[str, Mapping[str, Sequence[Example]]]) -> Any:
    """Draw a row for each set and class: the input, its true mask, and the mask of each arm."""
    arms = list(dict.fromkeys(arm for said in masks.values() for arm in said))
    rows = [
        (set_name, n, example)
        for set_name, said in masks.items()
        for n, example in enumerate(next(iter(said.values())))
    ]
    title = "input (x-y slices, low-passed), true mask and the mask of each arm's first run, cut at 0.5"
    figure, axes = _panels(len(rows), 2 + len(arms), title)
    for ax, name in zip(axes[0], ["input", "true mask", *arms], strict=True):
        ax.set_title(name, fontsize=7)
    for r, (set_name, n, example) in enumerate(rows):
        height = _slice(example)
        axes[r, 0].set_ylabel(f"{set_name}\n{example.true_class}", fontsize=6)
        _show(axes[r, 0], example, height)
        if example.mask is None:
            axes[r, 1].set_axis_off()
        else:
            axes[r, 1].imshow(example.mask[height], cmap="gray", vmin=0, vmax=1, origin="lower")
        for ax, arm in zip(axes[r, 2:], arms, strict=True):
            if arm not in masks[set_name]:
                ax.set_axis_off()
                continue
            said = masks[set_name][arm][n]
            ax.imshow(said.predicted_mask[height], cmap="gray", vmin=0, vmax=1, origin="lower")
            right = said.predicted_class == said.true_class
            overlap = "" if said.iou is None else f", IoU {said.iou:.2f}"
            ax.set_xlabel(f"{said.predicted_class}{overlap}", fontsize=6, color="green" if right else "red")
    return figure


def _draw_curves(runs: Sequence[Run]) -> Any:
    """Draw the validation of every run, a colour for each arm."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, len(_CURVES))
    arms = list(dict.fromkeys(run.arm.name for run in runs))
    colours = {name: colormaps["tab20"](2 * n % 20 + n // 10) for n, name in enumerate(arms)}
    for run in runs:
        curves = _read_curves(run.folder)
        for ax, name in zip(axes, _CURVES, strict=True):
            steps, values = curves.get(name, ([], []))
            ax.plot(steps, values, color=colours[run.arm.name], lw=1, marker=".", ms=3)
    for ax, name in zip(axes, _CURVES, strict=True):
        for arm in arms:
            ax.plot([], [], color=colours[arm], label=arm)
        ax.set_xlabel("iterations")
        ax.set_ylabel(f"validation {name.replace('_', ' ')}")
        ax.set_ylim(0, 1)
        ax.legend(fontsize=7)
    figure.suptitle("each arm on the validation that chooses its model, a line a seed", fontsize=9)
    return figure


def _read_curves(folder: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Read the validation scores of a run from its TensorBoard log; of an epoch run twice the later value."""
    from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

    log = event_accumulator.EventAccumulator(str(folder)).Reload()
    curves = {}
    for name in _CURVES:
        if f"validation/{name}" in log.Tags()["scalars"]:
            points = {event.step: event.value for event in log.Scalars(f"validation/{name}")}
            curves[name] = sorted(points), [points[step] for step in sorted(points)]
    return curves
