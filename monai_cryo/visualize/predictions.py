"""Input, true mask and predicted mask side by side, as central slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Example:
    """One sample to draw: arrays (D, H, W), the mask None where there is none."""

    image: np.ndarray
    mask: np.ndarray | None
    predicted_mask: np.ndarray
    true_class: str
    predicted_class: str


def draw_predictions(examples: Sequence[Example], title: str = "") -> Any:
    """Draw one row a sample: the image, the true mask on it, the predicted mask on it.

    Slices are x-y, at the height where the mask (the true one, else the predicted one) is largest.

    Returns
    -------
    matplotlib.figure.Figure
        Close it with ``matplotlib.pyplot.close``, or drop it: it belongs to no window.
    """
    from matplotlib.figure import Figure

    columns = min(2, max(1, len(examples)))
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(5.4 * columns, 1.95 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, 3 * columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for n, example in enumerate(examples):
        row, column = n % rows, 3 * (n // rows)
        guide = example.mask if example.mask is not None and example.mask.any() else example.predicted_mask
        z = int(guide.sum(axis=(1, 2)).argmax()) if guide.any() else example.image.shape[0] // 2
        low, high = np.percentile(example.image[z], (1, 99))
        right = example.true_class == example.predicted_class
        for ax, mask, name, colour in (
            (axes[row, column], None, example.true_class, "black"),
            (axes[row, column + 1], example.mask, "true mask", "black"),
            (
                axes[row, column + 2],
                example.predicted_mask,
                f"says {example.predicted_class}",
                "green" if right else "red",
            ),
        ):
            ax.imshow(example.image[z], cmap="gray", vmin=low, vmax=high, origin="lower")
            ax.set_title(name if mask is not None or ax is axes[row, column] else "no mask", fontsize=8, color=colour)
            if mask is not None and mask[z].any():
                ax.contour(mask[z], levels=[0.5], colors=["yellow"], linewidths=1.0)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def figure_to_array(figure: Any) -> np.ndarray:
    """Render a figure to RGB (H, W, 3), uint8, as TensorBoard takes it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
