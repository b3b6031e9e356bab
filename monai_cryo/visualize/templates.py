"""Pictures of a template library: three projections of each structure with the outline of its mask."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_cryo.io.atomic import replacing
from monai_cryo.templates.library import TemplateLibrary
from monai_cryo.visualize.png import check_png

__all__ = ["show_templates"]

PLANES = (("x", "y"), ("x", "z"), ("y", "z"))


def show_templates(library: TemplateLibrary, path: str | os.PathLike[str], *, seed: int = 0) -> Path:
    """Draw one row for each structure, distractors last: its projections along z, y and x, in nm from the box centre.

    Parameters
    ----------
    library
        What to draw; a membrane is one random draw.
    path
        Picture to write (.png).
    seed
        Of the membranes' draws.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    ValueError
        If the file name does not end in .png.
    FileNotFoundError
        If its folder is not there.
    """
    path = check_png(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: no such folder {path.parent}")
    rows = library.rows()
    figure = Figure(figsize=(8.4, 2.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False)
    half = 0.05 * library.voxel_size * library.box
    random = np.random.RandomState(seed)
    for row, (index, class_name, member) in zip(axes, rows, strict=True):
        item = library.place(member, random)
        density, mask = item["image"][0].numpy(), item["mask"][0].numpy()
        for axis, (ax, (across, down)) in enumerate(zip(row, PLANES, strict=True)):
            ax.imshow(density.sum(axis=axis), cmap="gray", extent=(-half, half, half, -half))
            grid = (np.arange(library.box) + 0.5) * 0.1 * library.voxel_size - half
            ax.contour(grid, grid, mask.any(axis=axis), levels=[0.5], colors="tab:orange", linewidths=1.0)
            ax.set_xlabel(f"{across} (nm)")
            ax.set_ylabel(f"{down} (nm)")
            if axis == 0:
                ax.set_title(f"{index} {class_name}: {member.name}", loc="left", fontsize=10, parse_math=False)
            elif axis == 2:
                ax.set_title(f"{100 * mask.mean():.1f} % foreground", loc="right", fontsize=10)
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, format="png", dpi=100)
    return path
