"""F1 of picks, and of labels, at every threshold, in tomograms of which all is known: a default needs no real labels.

    python benchmarks/thresholds.py --model MODEL --scenes 3 --seed 0 --work DIR
    python benchmarks/thresholds.py --model MODEL --deepfinder DIR --templates examples/deepfinder/templates.yaml

The first simulates specimens of the `unseen` library: cells, which have all the classes, and bacteria,
which have ribosomes alone. Each is read as `pick` reads it; a bacterium as if nothing were known of it, and told which
classes are absent. The second reads the tomograms of a folder, each beside its labels, whose codes are the classes of
`dataset.json` in order; beside the model two plain pickers look there for each class in turn. Particles, picks and
matches are counted over all tomograms; of labels voxels are, in simulated ones, and their F1 is what is else called
Dice.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, machine, show_machine, table
from numpy.typing import NDArray
from pickers import Found, blobs, one_template
from scipy import ndimage
from scipy.spatial import cKDTree
from simulated_tomogram import KINDS, simulate_scene

from monai_cryo.bundle import TrainedModel, bundle_root, read_model
from monai_cryo.cli.parser import add_by_class
from monai_cryo.inferers import LABEL_THRESHOLD, MIN_SCORE, Reading, TomogramReader, particle_diameters
from monai_cryo.io import Picks, Tomogram, open_tomogram, read_picks_csv, write_mrc, write_picks_csv
from monai_cryo.io.atomic import csv_text, write_text
from monai_cryo.metrics import match_points
from monai_cryo.templates import TemplateLibrary, load_templates
from monai_cryo.visualize.tomogram import draw_tomogram

THRESHOLDS = np.linspace(0.02, 0.98, 97)
TILT_RANGE_DEG = (-60.0, 60.0)  # of the plain template picker
PLAIN = ("blobs", "one template")  # have no threshold by default
FACE = 8  # voxels of the field's edge where particles are cut and nothing is scored
SHAPE, QUICK_SHAPE = (72, 144, 144), (48, 64, 64)


@dataclass
class Counts:
    """At each threshold: pairs of picks and particles, picks; and the particles."""

    matched: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    picks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    true: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.matched + other.matched, self.picks + other.picks, self.true + other.true)

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 at each threshold."""
        return 2 * self.matched / np.maximum(self.picks + self.true, 1)


Scores = dict[str, Counts]  # by class
Ways = dict[str, list[Scores]]  # of each tomogram, by how it was read


def score(
    found: Picks,
    places: NDArray[np.float64],
    names: Sequence[str],
    classes: Collection[str],
    distance: float,
    face: int = 0,
    others_count: bool = True,
) -> Scores:
    """Count what was found of each class, so many voxels away from the edges of the field of view.

    A pick on an object of none of the classes is false, or left out.
    """
    result = {}
    others = cKDTree(places[[name not in classes for name in names]])
    inside = [np.array([face, face]), np.array(found.shape[1:]) - 1 - face]
    for name in classes:
        mine, theirs = (
            np.array([n == name for n in every], bool)
            & ((where[:, 1:] >= inside[0]) & (where[:, 1:] <= inside[1])).all(1)
            for every, where in ((found.names, found.index), (names, places))
        )
        values = found.scores[mine]
        partner, _ = match_points(found.index[mine], places[theirs], distance, values)
        if not others_count and others.n:
            left = (partner >= 0) | (others.query(found.index[mine])[0] > distance)
            values, partner = values[left], partner[left]
        above = values[:, None] >= THRESHOLDS - 1e-9
        result[name] = Counts((above & (partner >= 0)[:, None]).sum(0), above.sum(0), int(theirs.sum()))
    return result


def score_labels(reading: Reading, truth: NDArray[np.int8], known: Sequence[str], classes: Sequence[str]) -> Scores:
    """Count the voxels of each class: labelled rightly, labelled, and there.

    `truth` holds 1 + the class's index among `known`, the reading's classes are `classes`.
    """
    best = np.stack([np.asarray(m) for m in reading.maps])
    winner, value = best.argmax(0), best.max(0)

    def above(which: NDArray[np.bool_]) -> NDArray[np.int64]:
        values = np.sort(value[which])
        return len(values) - np.searchsorted(values, THRESHOLDS - 1e-4)

    result = {}
    for k, name in enumerate(classes):
        there = truth == 1 + known.index(name) if name in known else np.zeros(truth.shape, bool)
        result[name] = Counts(above((winner == k) & there), above(winner == k), int(there.sum()))
    return result


def as_picks(places: NDArray[np.float64], names: list[str], voxel_size: float, shape: tuple[int, int, int]) -> Picks:
    """Return known particles as picks of score 1."""
    ones = np.ones(len(names))
    return Picks(places, names, ones, ones.astype(int), voxel_size, shape)


def simulated(
    options: argparse.Namespace, library: TemplateLibrary, folder: Path, kind: str, number: int
) -> tuple[Tomogram, Any, list[str], NDArray[np.int8]]:
    """Return a simulated tomogram, its places, names and labels; from the folder where it was made before."""
    shape = QUICK_SHAPE if options.quick else SHAPE
    file = folder / f"{kind}_{'x'.join(map(str, shape))}_seed{options.seed}_{number}.mrc"
    truth, labels = file.with_suffix(".csv"), file.with_name(f"{file.stem}_labels.mrc")
    if not (file.is_file() and truth.is_file() and labels.is_file()):
        scene = simulate_scene(library, kind, options.seed, number, shape)
        write_mrc(file, scene.image, library.voxel_size, overwrite=True)
        picks = as_picks(scene.places, scene.names, library.voxel_size, shape)
        write_picks_csv(truth, {file.stem: picks})
        write_mrc(labels, scene.labels, library.voxel_size, overwrite=True)
    places, names, _ = read_picks_csv(truth)[file.stem]
    return open_tomogram(file), places, names, np.asarray(open_tomogram(labels).data)


def study_simulated(options: argparse.Namespace, model: TrainedModel, folder: Path) -> Iterator[Ways]:
    """Read every scene in every way; yield the scores after each number."""
    diameters, library = particle_diameters(model.classes, load_templates("robust")), load_templates("unseen")
    needed = list(dict.fromkeys(name for present in KINDS.values() for name in present))
    if not set(needed) <= set(diameters):
        raise SystemExit(f"the scenes hold {', '.join(needed)}, the model has {', '.join(model.classes)}")
    readers: dict[tuple[str, ...], TomogramReader] = {}
    ways: Ways = {}

    def add(way: str, number: int, found: Picks, places: Any, names: list[str]) -> None:
        scores = score(found, places, names, diameters, options.distance, FACE)
        ways.setdefault(way, []).append(scores)
        f1 = scores["ribosome"].f1
        best = int(f1.argmax())
        print(
            f"{way}, scene {number}: {scores['ribosome'].true} ribosomes, F1 {at(f1, options.min_score):.3f}, "
            f"at best {f1[best]:.3f} from {THRESHOLDS[best]:.2f} on; {time.perf_counter() - began:.0f} s",
            flush=True,
        )

    for number in range(1 if options.quick else options.scenes):
        for kind, present in KINDS.items():
            tomogram, places, names, labels = simulated(options, library, folder, kind, number)
            absent = tuple(name for name in diameters if name not in present)
            for told in dict.fromkeys([(), absent]):
                began = time.perf_counter()
                if told not in readers:
                    known = model.with_abundance(dict.fromkeys(told, 0))
                    readers[told] = TomogramReader(known, diameters, device=options.device, flips=options.flips)
                reader = readers[told]
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    reading = reader.read(tomogram, scratch)
                    found = reading.picks(reader.diameters_a, min_score=THRESHOLDS[0])
                    add(f"{kind}, absent told" if told else kind, number, found, places, names)
                    if not told:
                        voxels = score_labels(reading.reading, labels, library.classes, model.classes)
                        ways.setdefault(f"{kind}, labels", []).append(voxels)
                    if options.work is not None and not told:
                        inside = np.array([name in present for name in names])
                        true = [name for name in names if name in present]
                        shown = as_picks(places[inside], true, tomogram.voxel_size, found.shape)
                        title = f"{kind}, scene {number}: labels as read, circles as they are"
                        figure = draw_tomogram(reading, shown, diameters, title)
                        figure.savefig(folder / f"{kind}_{number}.png", dpi=100)
        together = {"cell and bacterium": ways["cell"] + ways["bacterium"]}  # what one default has to serve
        together["cell, and bacterium, absent told"] = ways["cell"] + ways["bacterium, absent told"]
        yield ways | together


def labelled(folder: Path) -> Iterator[tuple[Path, NDArray[np.float64], list[str]]]:
    """Yield the tomograms of DeepFinder's example data with the centre and the class of each object in their labels."""
    items = json.loads((folder / "dataset.json").read_text())["test"]
    codes = list(dict.fromkeys(item["class"] for item in items))
    for path in sorted((folder / "tomograms").glob("*_labels.mrc")):
        volume = np.asarray(open_tomogram(path).data)
        places, names = [], []
        for code, name in enumerate(codes, 1):
            parts, count = ndimage.label(volume == code, np.ones((3, 3, 3)))
            sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
            whole = [n + 1 for n, size in enumerate(sizes) if size >= 0.2 * sizes.max()]  # no crumbs
            places += ndimage.center_of_mass(parts > 0, parts, whole)
            names += [name] * len(whole)
        yield path.with_name(path.name.replace("_labels", "")), np.array(places), names


def plain_picks(
    tomogram: Tomogram, library: TemplateLibrary, classes: Sequence[str], diameters: Mapping[str, float]
) -> dict[str, Picks]:
    """Look for each class by its diameter alone, and by its first structure; thresholds tell how many best are taken.

    Neither knows the other classes: one object may be picked as several.
    """
    volume, most = np.asarray(tomogram.data, np.float32), len(THRESHOLDS)
    found: list[tuple[Found, ...]] = []  # of each class, by the two pickers
    for name in classes:
        diameter = diameters[name] / tomogram.voxel_size
        density = next(m for _, group, m in library.rows() if group == name).density.numpy()
        turned = one_template(volume, density, TILT_RANGE_DEG, distance=0.6 * diameter, most=most)
        found.append((blobs(volume, diameter, most), turned))
    picks = {}
    for picker, lists in zip(PLAIN, zip(*found, strict=True), strict=True):
        names = [name for name, (places, _) in zip(classes, lists, strict=True) for _ in places]
        places = np.concatenate([places for places, _ in lists])
        ranks = np.concatenate([THRESHOLDS[::-1][: len(places)] for places, _ in lists])
        picks[picker] = Picks(places, names, ranks, np.ones(len(names), int), tomogram.voxel_size, volume.shape)
    return picks


def study_deepfinder(options: argparse.Namespace, model: TrainedModel) -> Iterator[Ways]:
    """Read the tomograms of DeepFinder's example data; yield the scores after each."""
    library = load_templates(options.templates or "robust")
    diameters = particle_diameters(model.classes, library)
    reader = TomogramReader(model, diameters, device=options.device, flips=options.flips)
    ways: Ways = {}
    for path, places, names in labelled(options.deepfinder):
        known = [name for name in dict.fromkeys(names) if name in diameters]
        if not known:
            raise SystemExit(
                f"{path.name} has {', '.join(dict.fromkeys(names))}: none of the model's {', '.join(diameters)}"
            )
        if not ways:
            others = [name for name in dict.fromkeys(names) if name not in known]
            print(f"scored: {', '.join(known)}; there, but unknown to the model: {', '.join(others) or 'none'}")
        tomogram = open_tomogram(path)
        with tempfile.TemporaryDirectory() as scratch:
            found = {"model": reader.read(tomogram, scratch).picks(diameters, min_score=THRESHOLDS[0])}
        found |= plain_picks(tomogram, library, known, diameters)
        for picker, picks in found.items():
            for way, strict in ((picker, True), (f"{picker}, but for objects of other classes", False)):
                scores = score(picks, places, names, known, options.distance, others_count=strict)
                ways.setdefault(way, []).append(scores)
        print(
            f"{path.name}: {len(names)} objects, {sum(name in known for name in names)} of classes scored", flush=True
        )
        yield ways


def at(values: NDArray[np.float64], threshold: float) -> float:
    """Return the value at the nearest threshold."""
    return float(values[int(np.abs(THRESHOLDS - threshold).argmin())])


def summary(ways: Ways, min_score: float, curve: Path | None) -> list[dict[str, Any]]:
    """Sum over tomograms; for each way and class, and the mean of classes: F1 at the default and at best."""
    rows, lines = [], []
    for way, tomograms in ways.items():
        default = LABEL_THRESHOLD if way.endswith(", labels") else min_score
        names = dict.fromkeys(name for scores in tomograms for name in scores)
        total = {name: sum((s[name] for s in tomograms if name in s), Counts()) for name in names}
        total = {name: counts for name, counts in total.items() if counts.true}
        curves = {name: counts.f1 for name, counts in total.items()}
        if len(curves) > 1:
            curves["mean of classes"] = np.mean(list(curves.values()), 0)
        for name, f1 in curves.items():
            good = THRESHOLDS[f1 >= f1.max() - 0.01]
            row = {
                "way": way,
                "class": name,
                "true": total[name].true if name in total else None,
                "f1": None if way.startswith(PLAIN) else at(f1, default),
                "best_f1": float(f1.max()),
                "threshold": float(THRESHOLDS[int(f1.argmax())]),
                "within_0.01": [float(good.min()), float(good.max())],
            }
            rows.append(row)
            for n, threshold in enumerate(THRESHOLDS):
                line: list[Any] = [way, name, f"{threshold:.2f}", f"{f1[n]:.4f}"]
                if name in total:
                    counts = total[name]
                    line += [counts.true, int(counts.picks[n]), int(counts.matched[n])]
                lines.append(line)
    if curve is not None:
        write_text(curve, csv_text([["way", "class", "threshold", "f1", "true", "picks", "matched"], *lines]))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate, read, score, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: the one the bundle ships")
    parser.add_argument("--scenes", type=int, default=3, help="of each kind; %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument("--work", type=Path, help="folder where the scenes are kept, with a picture of each")
    parser.add_argument("--deepfinder", type=Path, metavar="DIR", help="read these labelled tomograms instead")
    parser.add_argument("--templates", type=Path, help="of the model's classes, for their diameters, with --deepfinder")
    parser.add_argument("--min_score", type=float, default=MIN_SCORE, help="the default to judge; %(default)s")
    parser.add_argument("--distance", type=float, default=8.0, help="voxels; %(default)s")
    parser.add_argument("--csv", type=Path, help="write the curves to this file")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    add_by_class(parser, "--abundance", "X", "how common a class is; default: as the model says")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--flips", action="store_true", help="average over four mirror images")
    parser.add_argument("--quick", action="store_true", help="a small scene: to see that it runs, not for figures")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    host = machine()
    show_machine(host)
    model = read_model(options.model or bundle_root() / "models" / "model.pt", dict(options.abundance))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        study = study_deepfinder(options, model) if options.deepfinder else study_simulated(options, model, folder)
        for ways in study:  # a run that is cut short has told so far
            rows = summary(ways, options.min_score, options.csv)
    header = [
        "tomograms",
        "class",
        "true",
        f"F1 at {options.min_score:g} (labels: {LABEL_THRESHOLD:g})",
        "best F1",
        "from",
        "within 0.01 of it",
    ]
    shown = [
        (
            r["way"],
            r["class"],
            r["true"],
            "-" if r["f1"] is None else f"{r['f1']:.3f}",
            f"{r['best_f1']:.3f}",
            f"{r['threshold']:.2f}",
            "{:.2f} to {:.2f}".format(*r["within_0.01"]),
        )
        for r in rows
    ]
    table(header, shown)
    finish(options, "thresholds", host, {"thresholds": rows})


if __name__ == "__main__":
    main()
