"""Particles found in a real tomogram by the model and by two plain pickers, against positions that are known.

    python benchmarks/picking.py TRUTH.csv TOMOGRAM [TOMOGRAM ...] --true_class ribosome70S

The plain pickers are given the threshold that is best for them, found with the truth; the model has its default one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, machine, show_machine, table
from numpy.typing import NDArray
from pickers import blobs, one_template

from monai_cryo.bundle import bundle_root, read_model
from monai_cryo.cli.parser import add_by_class
from monai_cryo.inferers import (
    MIN_SCORE,
    TomogramReader,
    TomogramReading,
    particle_diameters,
)
from monai_cryo.io import open_tomogram, read_picks_csv, tomogram_name
from monai_cryo.metrics import match_points, score_detections
from monai_cryo.templates import load_templates
from monai_cryo.visualize.detection import check_curve_file, write_precision_recall

RECALLS = (0.2, 0.4, 0.6, 0.8)


def scores(
    found: NDArray[np.float64],
    values: NDArray[np.float64],
    truth: NDArray[np.float64],
    distance: float,
    min_score: float | None = None,
) -> dict[str, Any]:
    """Return scores of picks above a threshold, the one with the best F1 if None; and precision over recall."""
    names = ["particle"] * len(found)
    result = score_detections(found, names, truth, ["particle"] * len(truth), distance, scores=values)
    s = result.classes["particle"]
    points = [(2 * p * r / (p + r) if p + r else 0.0, threshold, p, r) for threshold, p, r in s.curve]
    best = max(points, default=(0.0, 1.0, 0.0, 0.0))
    above = [point for point in points if min_score is not None and point[1] >= min_score]
    f1, threshold, precision, recall = best if min_score is None else (above or [(0.0, min_score, 0.0, 0.0)])[-1]
    at = [max((p for _, p, r in s.curve if r >= wanted), default=0.0) for wanted in RECALLS]
    return {
        "picks": int((values >= threshold).sum()),
        "threshold": threshold,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "best_f1": best[0],
        "average_precision": s.average_precision,
        "precision_at": dict(zip(map(str, RECALLS), at, strict=True)),
        "curve": s.curve,
    }


def draw(path: Path, reading: TomogramReading, places: NDArray[np.float64], title: str) -> None:
    """Draw twenty places from above and from the side, 64 voxels wide, mean of five sections."""
    from matplotlib.figure import Figure
    from scipy import ndimage

    figure = Figure(figsize=(20, 8.6), layout="constrained")
    figure.suptitle(title)
    for n, ax in enumerate(figure.subplots(4, 10).flat):
        ax.set_axis_off()
        if n % 20 >= len(places):
            continue
        z, y, x = (round(float(v)) for v in places[n % 20])
        side = n >= 20
        window = [(v - r, v + r + 1) for v, r in zip((z, y, x), (32, 2, 32) if side else (2, 32, 32), strict=True)]
        part = reading.volume[tuple(slice(max(0, a), b) for a, b in window)]
        image = ndimage.gaussian_filter(np.asarray(part, np.float32).mean(1 if side else 0), 1)
        ax.imshow(image, cmap="gray", origin="lower", vmin=np.percentile(image, 2), vmax=np.percentile(image, 98))
        ax.set_title(f"{'x-z' if side else 'x-y'} {z} {y} {x}", fontsize=6)
    figure.savefig(path, dpi=80)


def study(
    options: argparse.Namespace, path: Path, reader: TomogramReader, library: Any, true: NDArray[np.float64]
) -> dict[str, Any]:
    """Score the three on one tomogram."""
    tomogram = open_tomogram(path)
    size = tomogram.voxel_size
    diameters = reader.diameters_a
    volume = np.asarray(tomogram.data, np.float32)
    if options.quick:
        volume = volume[:48, :96, :96]
    results: dict[str, Any] = {}

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        reading = reader.read(tomogram, scratch)
        picks = reading.picks(diameters, min_score=options.low_score)
        chosen = np.array([name == options.name for name in picks.names], bool)
        places, values = picks.index[chosen], picks.scores[chosen]
        results["model"] = scores(places, values, true, options.distance, options.min_score)
        results["model"]["seconds"] = time.perf_counter() - began
        if options.pictures is not None:
            options.pictures.mkdir(parents=True, exist_ok=True)
            above = values >= options.min_score
            partner, _ = match_points(places[above], true, options.distance, values[above])
            missed = np.setdiff1d(np.arange(len(true)), partner)
            for what, where in (("false", places[above][partner < 0]), ("missed", true[missed])):
                draw(
                    options.pictures / f"{tomogram_name(path)}_{what}.png", reading, where[:20], f"{path.name}: {what}"
                )

    began = time.perf_counter()
    diameter = diameters[options.name] / size
    results["blobs"] = scores(*blobs(volume, diameter), true, options.distance)
    results["blobs"]["seconds"] = time.perf_counter() - began

    began = time.perf_counter()
    member = next(m for group, _ in library.crowd() for m in group if m.name == options.structure)
    template = member.density.numpy()
    rotations = 2 if options.quick else options.rotations
    found = one_template(volume, template, tuple(options.tilt_range), rotations=rotations, distance=0.6 * diameter)
    results["one_template"] = scores(*found, true, options.distance)
    results["one_template"]["seconds"] = time.perf_counter() - began
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Score, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path, help="CSV with class, x, y, z in voxels")
    parser.add_argument("tomograms", type=Path, nargs="+", help="MRC, plain or .gz, of one specimen")
    parser.add_argument("--model", type=Path, help="default: the one the bundle ships")
    add_by_class(parser, "--abundance", "X", "how common a class is; default: as the model says")
    parser.add_argument("--name", default="ribosome", help="class of the model; %(default)s")
    parser.add_argument("--true_class", default="ribosome", help="its name in TRUTH; %(default)s")
    parser.add_argument("--structure", default="4v4r", help="embedded structure to correlate with; %(default)s")
    parser.add_argument("--rotations", type=int, default=24, help="%(default)s")
    parser.add_argument("--tilt_range", type=float, nargs=2, default=(-60.0, 60.0), help="degrees; %(default)s")
    parser.add_argument("--distance", type=float, default=8.0, help="voxels; %(default)s")
    parser.add_argument("--min_score", type=float, default=MIN_SCORE, help="of the model; %(default)s")
    parser.add_argument("--low_score", type=float, default=0.02, help="where the model's curve ends; %(default)s")
    parser.add_argument("--flips", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=Path, help="folder for 20 false picks and 20 missed ones a tomogram")
    note = "precision over recall of every picker, .png or .csv; default: a .png beside --json"
    parser.add_argument("--curves", type=Path, help=note)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--quick", action="store_true", help="the plain pickers on a corner: to see that it runs")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    curves = options.curves or (options.json and options.json.with_suffix(".png"))
    if curves is not None:
        check_curve_file(curves)
    host = machine()
    show_machine(host)
    library = load_templates("robust")
    model = read_model(options.model or bundle_root() / "models" / "model.pt", dict(options.abundance))
    diameters = particle_diameters(model.classes, library)
    reader = TomogramReader(model, diameters, device=options.device, flips=options.flips)
    known = read_picks_csv(options.truth)
    (places, names, _) = next(iter(known.values()))
    true = places[np.array([name == options.true_class for name in names], bool)]
    studies = {}
    for path in options.tomograms:
        studies[tomogram_name(path)] = result = study(options, path, reader, library, true)
        print(f"\n{path.name}: {len(true)} {options.true_class}, within {options.distance:g} voxels")
        rows = [
            (
                name,
                s["picks"],
                f"{s['precision']:.3f}",
                f"{s['recall']:.3f}",
                f"{s['f1']:.3f}",
                f"{s['best_f1']:.3f}",
                f"{s['average_precision']:.3f}",
                " ".join(f"{p:.2f}" for p in s["precision_at"].values()),
                f"{s['seconds']:.0f}",
            )
            for name, s in result.items()
        ]
        header = (
            "picker",
            "picks",
            "precision",
            "recall",
            "F1",
            "best F1",
            "AP",
            f"precision at recall {RECALLS}",
            "s",
        )
        table(header, rows)
    lines = {f"{picker}, {name}": s["curve"] for name, result in studies.items() for picker, s in result.items()}
    if curves is not None:
        write_precision_recall(curves, lines, f"{options.true_class}, within {options.distance:g} voxels")
        print(f"\nprecision over recall: {curves}")
    finish(options, "picking", host, {"tomograms": studies})


if __name__ == "__main__":
    main()
