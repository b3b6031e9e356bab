"""The paper's Figure 3: simulated slices, one class a column, one imaging parameter at random in each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.transforms import Randomizable

from monai_cryo.data.seeding import item_state
from monai_cryo.templates.library import TemplateLibrary
from monai_cryo.transforms import (
    MTF,
    Drawable,
    FourierCompose,
    RandCTF,
    RandMissingWedge,
    RandMTF,
    RandNeighbours,
    RandPose,
    RandSNR,
    RandTiltSeries,
)

#: what a row leaves fixed: the paper's parameters "without domain randomisation", at an SNR the eye can use
FIXED: dict[str, Any] = {"snr": 1.0, "missing_angle_deg": 30.0, "defocus_um": 6.0, "cs_mm": 2.7, "mode": "raw"}


@dataclass(frozen=True)
class Row:
    """One row of the gallery.

    Attributes
    ----------
    title
        What is at random in it.
    options
        Replacements in ``FIXED``.
    caption
        From the drawn values (name -> number) to a cell's caption.
    plane
        ``"xy"`` or ``"xz"``, the slice through the centre.
    """

    title: str
    options: dict[str, Any] = field(default_factory=dict)
    caption: Callable[[dict[str, Any]], str] = lambda drawn: ""
    plane: str = "xy"


ROWS = (
    Row("density", {"clean": True}),
    Row("SNR", {"snr": (0.03, 10.0)}, lambda d: f"SNR {d['snr']:.2g}"),
    Row("missing wedge (x-z)", {"missing_angle_deg": (0.0, 50.0)}, lambda d: f"±{d['max_tilt_deg']:.0f}°", "xz"),
    Row("defocus", {"defocus_um": (0.0, 12.0)}, lambda d: f"{d['defocus_um']:.1f} µm"),
    Row("spherical aberration", {"cs_mm": (1.5, 3.0)}, lambda d: f"{d['cs_mm']:.1f} mm"),
    Row("MTF", {"mtf_scale": (0.0, 2.0)}, lambda d: f"scale {d['scale']:.1f}"),
    Row("phase flipped", {"mode": "flip", "defocus_um": (0.0, 12.0)}, lambda d: f"{d['defocus_um']:.1f} µm"),
    Row(
        "detector noise",
        {"snr": (0.03, 10.0), "stage": "after", "power_law": (0.0, 2.0)},
        lambda d: f"SNR {d['snr']:.2g}",
    ),
    Row("neighbours", {"neighbours": (4, 8)}, lambda d: f"{len(d.get('template', ()))} asked"),
    Row(
        "tilt series (x-z)",
        {"tilt_series": (0.03, 1.0)},
        lambda d: f"SNR {d['snr']:.2g}, {d['defocus_um']:.1f} µm",
        "xz",
    ),
    Row(
        "all of the paper's",
        {"snr": (0.03, 10.0), "missing_angle_deg": (0.0, 50.0), "defocus_um": (0.0, 12.0), "cs_mm": (1.5, 3.0)},
        lambda d: f"{d['snr']:.2g}, ±{d['max_tilt_deg']:.0f}°, {d['defocus_um']:.1f} µm",
    ),
)


def imaging(library: TemplateLibrary, options: dict[str, Any]) -> list[Drawable]:
    """Transforms of one row, in order; none for a clean row."""
    chosen = {**FIXED, **options}
    if chosen.get("clean"):
        return []
    if "tilt_series" in chosen:
        ctf = RandCTF((1.0, 6.0), cs_mm=2.7)
        return [RandTiltSeries(chosen["tilt_series"], ctf=ctf, voxel_size=library.voxel_size)]
    scene: list[Drawable] = []
    if "neighbours" in chosen and library.crowd():
        scene = [RandNeighbours(library.crowd(), chosen["neighbours"], distance_vox=(12.0, 32.0))]
    mtf = RandMTF(chosen["mtf_scale"]) if "mtf_scale" in chosen else MTF()
    noise = RandSNR(chosen["snr"], stage=chosen.get("stage", "before"), power_law=chosen.get("power_law", 0.0))
    wedge = RandMissingWedge(chosen["missing_angle_deg"])
    ctf = RandCTF(chosen["defocus_um"], cs_mm=chosen["cs_mm"], mode=chosen["mode"])
    return [*scene, FourierCompose([noise, wedge, ctf, mtf], voxel_size=library.voxel_size)]


def simulate_cell(library: TemplateLibrary, row: Row, class_index: int, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Simulate one cell of the gallery.

    Returns
    -------
    tuple
        The volume (D, H, W) and the values that were drawn for it.
    """
    # the pose depends on the class alone, so that a column shows one particle under all conditions
    state = item_state(seed, "test", class_index)
    particle = library.draw(class_index, state)
    pose = RandPose(shift_vox=0.0).set_random_state(state=state)
    volume = particle["image"] if particle["posed"] else pose(particle["image"])
    drawn: dict[str, Any] = {}
    state = item_state(seed, "test", class_index, stream=1 + ROWS.index(row) if row in ROWS else 0)
    for transform in imaging(library, row.options):
        if isinstance(transform, Randomizable):
            transform.set_random_state(state=state)
        volume = transform(volume)
        drawn.update(_flat(transform.parameters or {}))
    return torch.as_tensor(volume)[0].numpy(), drawn


def _flat(drawn: dict[str, Any]) -> dict[str, Any]:
    """Values by name, those of composed transforms included."""
    out: dict[str, Any] = {}
    for name, value in drawn.items():
        out.update(_flat(value) if isinstance(value, dict) else {name: value})
    return out


def draw_gallery(library: TemplateLibrary, seed: int = 0, rows: tuple[Row, ...] = ROWS) -> Any:
    """Draw central slices.

    Parameters
    ----------
    library
        Its classes are the columns.
    seed
        Of poses and parameters.
    rows
        What is at random in each row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    middle = library.box // 2
    half = library.box * library.voxel_size / 20
    return _draw_grid(
        library,
        seed,
        rows,
        lambda volume, row: volume[middle] if row.plane == "xy" else volume[:, middle],
        half,
        f"{2 * half:.0f} nm across",
    )


def draw_spectra(library: TemplateLibrary, seed: int = 0, rows: tuple[Row, ...] = ROWS) -> Any:
    """Draw the logarithm of the power in the central kx-kz plane of the same volumes; arguments as `draw_gallery`."""
    edge = 5 / library.voxel_size  # Nyquist in 1/nm

    def spectrum(volume: np.ndarray, row: Row) -> np.ndarray:
        power = np.abs(np.fft.fftshift(np.fft.fftn(volume - volume.mean()))) ** 2
        middle = library.box // 2
        # three planes together are less grainy than one
        plane = power[:, middle - 1 : middle + 2].mean(axis=1)
        image: np.ndarray = np.log10(plane + 1e-6 * plane.max())
        return image

    return _draw_grid(library, seed, rows, spectrum, edge, f"kx (kz up), ±{edge:.2f} / nm")


def _draw_grid(
    library: TemplateLibrary,
    seed: int,
    rows: tuple[Row, ...],
    picture: Callable[[np.ndarray, Row], np.ndarray],
    half: float,
    scale: str,
) -> Any:
    columns = len(library.classes)
    figure = Figure(figsize=(1.75 * columns + 1.4, 1.85 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for r, row in enumerate(rows):
        for c, name in enumerate(library.classes):
            volume, drawn = simulate_cell(library, row, c, seed)
            image = picture(volume, row)
            low, high = np.percentile(image, (0.5, 99.5))
            ax = axes[r, c]
            ax.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower", extent=(-half, half, -half, half))
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_xlabel(row.caption(drawn), fontsize=7, labelpad=2)
            if r == 0:
                ax.set_title(name, fontsize=10)
            if c == 0:
                ax.set_ylabel(row.title, fontsize=8)
    axes[0, 0].set_xlabel(scale, fontsize=7, labelpad=2)
    return figure
