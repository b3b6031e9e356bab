"""The verb ``score``: picks against true positions, labels against true labels."""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from monai_cryo.cli.parser import Verbs, add_verb, place, positive


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "Score picks (CSV: tomogram, class, x, y, z, score; STAR) or label volumes (MRC) against true ones."
    verb = add_verb(verbs, "score", about, "monai_cryo score picks/picks.csv truth.csv --distance 8")
    verb.add_argument("found", type=place, metavar="FOUND", help="picks, CSV or STAR, or a label MRC")
    verb.add_argument("truth", type=place, metavar="TRUTH", help="of the same kind")
    verb.add_argument(
        "--distance", type=positive(float), metavar="VOXELS", help="largest distance of a pair; for picks"
    )
    note = "of STAR files: folder, or RELION 5's tomograms.star"
    verb.add_argument("--tomograms", type=place, metavar="PATH", help=note)
    note = "voxel size of the tomograms in Å, in place of the headers' or of --tomograms"
    verb.add_argument("--apix", type=positive(float), metavar="A", help=note)
    note = "Å a pixel of the STAR coordinates has; default: as the file says"
    verb.add_argument("--star_apix", type=positive(float), metavar="A", help=note)
    verb.add_argument("--beta", type=positive(float), default=4.0, help="of F-beta; %(default)g")
    note = "what TRUTH calls a class of FOUND"
    verb.add_argument("--same", action="append", default=[], metavar="NAME=TRUE", help=note)
    verb.add_argument("--output", type=place, metavar="JSON", help="write all figures, the curves too")
    note = "write precision over recall of each class, .csv or .png; may be repeated"
    verb.add_argument("--curves", action="append", default=[], metavar="FILE", help=note)
    verb.set_defaults(run=_score)


_PICKS = (".csv", ".star")
#: of a segmentation or of its instances; a map of scores or densities is neither
_MOST_LABELS = 1 << 20
#: what says of a STAR file how sure a pick is
_SCORES = ("rlnAutopickFigureOfMerit", "monaiCryoClassProbability")


def _score(options: argparse.Namespace) -> None:
    from monai_cryo.io.atomic import write_text

    kinds = {path.suffix.lower() in _PICKS for path in (options.found, options.truth)}
    if len(kinds) > 1:
        raise ValueError(
            f"expected two files of picks (CSV, STAR) or two MRC files, got {options.found} and {options.truth}"
        )
    if options.output is not None and not options.output.parent.is_dir():
        raise FileNotFoundError(f"{options.output.parent}: no such folder")
    result = _score_picks(options) if kinds == {True} else _score_labels(options)
    if options.output is not None:
        write_text(options.output, json.dumps(result, indent=1) + "\n")


def _read(path: Path, options: argparse.Namespace) -> dict[str, tuple[Any, list[str], Any]]:
    """Positions in voxels, (N, 3) as (z, y, x), classes and scores of each tomogram."""
    import numpy as np

    from monai_cryo.data import StarParticles
    from monai_cryo.io import coordinate_columns, positions, read_picks_csv, read_star, tomogram_name, tomogram_names

    if path.suffix.lower() == ".csv":
        return read_picks_csv(path)
    star = read_star(path)
    if options.tomograms is not None:
        where = {"tomograms": options.tomograms, "file_voxel_size": options.apix, "pixel_size": options.star_apix}
        files, index = StarParticles(star, voxel_size=1.0, box=1, **where).places()
        short = {file: tomogram_name(file) for file in files}
        alike = len(set(short.values())) < len(short)  # rec.mrc of several folders
        names = [str(file) if alike else short[file] for file in files]
    elif options.apix is None or set(coordinate_columns("relion5")) & set(star.columns):
        raise ValueError(
            f"{path}: name the tomograms (--tomograms, a folder or tomograms.star) to tell their voxels, "
            "or, unless coordinates are centred, their voxel size (--apix)"
        )
    else:
        names, index = tomogram_names(star), positions(star, options.apix, pixel_size=options.star_apix)
    label = next((label for label in _SCORES if label in star.columns), None)
    scores = np.ones(len(star)) if label is None else np.asarray(star.numbers(label))
    classes = star.columns.get("monaiCryoClassName", ["particle"] * len(star))
    rows = {name: [n for n, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
    return {name: (index[mine], [classes[n] for n in mine], scores[mine]) for name, mine in rows.items()}


def _score_picks(options: argparse.Namespace) -> dict[str, Any]:
    from monai_cryo.io import series_names
    from monai_cryo.metrics import score_tomograms
    from monai_cryo.visualize.detection import check_curve_file, write_precision_recall

    if options.distance is None:
        raise ValueError("picks are scored within a --distance in voxels: give one, such as half a particle's diameter")
    renamed = dict(pair.split("=", 1) for pair in options.same if "=" in pair)
    if len(renamed) != len(options.same):
        raise ValueError(f"--same must read NAME=TRUE, got {' '.join(options.same)}")
    targets = [check_curve_file(path) for path in options.curves]
    found, truth = _read(options.found, options), _read(options.truth, options)
    if len(found) == len(truth) == 1:  # one tomogram, whatever it is called in either
        (ours,), (theirs,) = found, truth
        if ours and theirs and series_names([ours]) != series_names([theirs]):
            warnings.warn(f"FOUND is of tomogram {ours}, TRUTH of {theirs}: taken for one", stacklevel=1)
        found = {theirs: found[ours]}
    for name in renamed:
        kinds = dict.fromkeys(kind for _, names, _ in found.values() for kind in names)
        if kinds and name not in kinds:
            warnings.warn(f"--same {name}={renamed[name]}: FOUND has {', '.join(kinds)}, not {name}", stacklevel=1)
    unknown = sorted(set(found) - set(truth))
    if unknown:
        raise ValueError(f"{options.truth}: no positions of tomogram {unknown[0]!r}, found {', '.join(sorted(truth))}")
    if found and (gone := sorted(set(truth) - set(found))):
        said = f"FOUND has no picks of {len(gone)} of {len(truth)} tomograms of TRUTH, {gone[0]} for one"
        warnings.warn(f"{said}: their particles count as missed", stacklevel=1)
    found = {
        name: (places, [renamed.get(c, c) for c in kinds], values) for name, (places, kinds, values) in found.items()
    }
    here, there = (Counter(kind for _, kinds, _ in side.values() for kind in kinds) for side in (found, truth))
    if here and not set(here) & set(there):
        said = f"FOUND has {', '.join(sorted(here))}, TRUTH has {', '.join(sorted(there))}"
        warnings.warn(f"{said}: say which is which with --same NAME=TRUE", stacklevel=1)
    scores = score_tomograms(found, truth, options.distance, beta=options.beta)
    f_beta = f"F{options.beta:g}"
    print(f"{'class':<20} {'true':>6} {'picks':>6} {'precision':>9} {'recall':>7} {'F1':>6} {f_beta:>6} {'AP':>6}")
    for name, s in scores.classes.items():
        numbers = f"{s.precision:>9.3f} {s.recall:>7.3f} {s.f1:>6.3f} {s.f_beta:>6.3f} {s.average_precision:>6.3f}"
        print(f"{name:<20} {s.n_true:>6} {s.n_predicted:>6} {numbers}")
    for name, count in here.items():
        if name not in scores.classes:
            print(f"{name:<20} {'-':>6} {count:>6} not scored: no such class in {options.truth}")
    means = (scores.macro_f1, scores.macro_f_beta, scores.mean_average_precision)
    print(f"macro F1 {means[0]:.3f}, {f_beta} {means[1]:.3f}, mean AP {means[2]:.3f}")
    for target in targets:
        write_precision_recall(target, {name: s.curve for name, s in scores.classes.items()})
    return scores.to_dict()


def _score_labels(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from monai_cryo.io import open_tomogram
    from monai_cryo.metrics import label_iou

    # the voxel size takes no part
    found, truth = (open_tomogram(path, voxel_size=1.0).data for path in (options.found, options.truth))
    highest = 0
    for path, volume in ((options.found, found), (options.truth, truth)):
        low, high = float(np.min(volume)), float(np.max(volume))
        if not (low >= 0 and high <= _MOST_LABELS):
            raise ValueError(f"{path}: labels must be whole numbers in 0..{_MOST_LABELS}, got {low:g}..{high:g}")
        highest = max(highest, math.ceil(high))
    values = label_iou(found, truth, highest)
    for label, value in enumerate(values, 1):
        print(f"label {label}: IoU {'-' if math.isnan(value) else f'{value:.3f}'}")
    known = [value for value in values if not math.isnan(value)]
    print(f"mean IoU {sum(known) / len(known):.3f}" if known else "no labels in either volume")
    return {"iou": [None if math.isnan(value) else value for value in values]}
