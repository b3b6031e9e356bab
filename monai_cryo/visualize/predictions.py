"""Samples with their true and predicted outlines, low-passed and from two directions: one noisy slice shows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import ndimage

TRUE, PREDICTED = "#ffd400", "#00b7ff"
#: standard deviation of the low-pass and slices averaged, in voxels
SMOOTH, SLAB = 1.0, 3


@dataclass(frozen=True)
class Example:
    """One sample to draw.

    Attributes
    ----------
    image
        (D, H, W).
    mask
        True mask (D, H, W), None where there is none.
    predicted_mask
        Mask (D, H, W) of the predicted class.
    true_class, predicted_class
        Names.
    probability
        Of the predicted class, 0..1.
    voxel_size
        Å; None: unknown, no scale is drawn.
    """

    image: np.ndarray
    mask: np.ndarray | None
    predicted_mask: np.ndarray
    true_class: str
    predicted_class: str
    probability: float
    voxel_size: float | None = None

    @property
    def iou(self) -> float | None:
        """Overlap of the two masks, 0 for a wrong class as in the metrics; None where there is no true mask."""
        if self.mask is None or not self.mask.any():
            return None
        if self.true_class != self.predicted_class:
            return 0.0
        return float((self.mask & self.predicted_mask).sum() / (self.mask | self.predicted_mask).sum())


def draw_predictions(examples: Sequence[Example], title: str = "") -> Any:
    """Draw each sample twice from above (x-y) and twice from the side (x-z), with and without outlines.

    Slices are the mean of three, through the middle of the true mask, or else of the predicted one.

    Returns
    -------
    matplotlib.figure.Figure
        It belongs to no window: drop it when done.
    """
    columns = min(2, max(1, len(examples)))
    rows = -(-len(examples) // columns)
    figure = Figure(figsize=(6.6 * columns, 1.95 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, 4 * columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for n, example in enumerate(examples):
        _draw(axes[n % rows, 4 * (n // rows) : 4 * (n // rows) + 4], example)
    key = "yellow: true outline, blue: predicted one; each sample as x-y and x-z slices, low-passed"
    figure.suptitle(f"{title}\n{key}" if title else key, fontsize=9)
    return figure


def _draw(axes: np.ndarray, example: Example) -> None:
    """Fill a sample's four panels."""
    guide = example.mask if example.mask is not None and example.mask.any() else example.predicted_mask
    smooth = ndimage.gaussian_filter(example.image, SMOOTH)
    for direction, name in ((0, "x-y"), (1, "x-z")):
        other = tuple(a for a in range(3) if a != direction)
        middle = int(guide.sum(axis=other).argmax()) if guide.any() else example.image.shape[direction] // 2
        slab = slice(max(0, middle - SLAB // 2), middle + SLAB // 2 + 1)
        image = smooth.take(range(*slab.indices(smooth.shape[direction])), axis=direction).mean(axis=direction)
        low, high = np.percentile(image, (1, 99))
        for ax, outlined in zip(axes[2 * direction : 2 * direction + 2], (False, True), strict=True):
            ax.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")
            if not outlined:
                ax.set_title(f"{example.true_class}, {name}" if direction == 0 else name, fontsize=8)
                if direction == 0 and example.voxel_size is not None:
                    _scale_bar(ax, example.voxel_size)
                continue
            for mask, colour in ((example.mask, TRUE), (example.predicted_mask, PREDICTED)):
                if mask is not None and mask.take(middle, axis=direction).any():
                    ax.contour(mask.take(middle, axis=direction), levels=[0.5], colors=[colour], linewidths=1.0)
    right = example.true_class == example.predicted_class
    iou = "no mask" if example.iou is None else f"IoU {example.iou:.2f}"
    said = f"says {example.predicted_class} {example.probability:.2f}, {iou}"
    axes[1].set_title(said, fontsize=8, color="green" if right else "red")


def _scale_bar(ax: Any, voxel_size: float) -> None:
    """Draw 10 nm into the lower left corner."""
    length = 100 / voxel_size
    ax.plot([2, 2 + length], [2, 2], color="white", lw=2)
    ax.text(2, 3.5, "10 nm", color="white", fontsize=6)


def figure_to_array(figure: Any) -> np.ndarray:
    """Render a figure to RGB (H, W, 3), uint8, as TensorBoard takes it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
