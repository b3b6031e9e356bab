"""The verb ``score``: picks against true positions, labels against true labels."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from monai_cryo.cli.parser import Verbs, positive


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "Score picks (CSV: tomogram, class, x, y, z, score) or label volumes (MRC) against true ones."
    verb = verbs.add_parser(
        "score",
        help=about,
        description=about,
        epilog="example: python -m monai_cryo score picks/picks.csv truth.csv --distance 8",
        allow_abbrev=False,
    )
    verb.add_argument("found", type=Path, metavar="FOUND", help="picks.csv, or a label MRC")
    verb.add_argument("truth", type=Path, metavar="TRUTH", help="of the same kind")
    verb.add_argument(
        "--distance", type=positive(float), metavar="VOXELS", help="largest distance of a pair; for picks"
    )
    verb.add_argument("--beta", type=positive(float), default=4.0, help="of F-beta; %(default)g")
    note = "what TRUTH calls a class of FOUND"
    verb.add_argument("--same", action="append", default=[], metavar="NAME=TRUE", help=note)
    verb.add_argument("--output", type=Path, metavar="JSON", help="write all figures, the curves too")
    verb.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> None:
    from monai_cryo.io.atomic import write_text

    kinds = {".csv" if path.suffix.lower() == ".csv" else "volume" for path in (options.found, options.truth)}
    if len(kinds) > 1:
        raise ValueError(f"expected two CSV files or two MRC files, got {options.found} and {options.truth}")
    result = _score_picks(options) if kinds == {".csv"} else _score_labels(options)
    if options.output is not None:
        write_text(options.output, json.dumps(result, indent=1) + "\n")


def _score_picks(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from monai_cryo.io import read_picks_csv
    from monai_cryo.metrics import score_detections

    if options.distance is None:
        raise ValueError("picks are scored within a --distance in voxels: give one, such as half a particle's diameter")
    renamed = dict(pair.split("=", 1) for pair in options.same if "=" in pair)
    if len(renamed) != len(options.same):
        raise ValueError(f"--same must read NAME=TRUE, got {' '.join(options.same)}")
    found, truth = read_picks_csv(options.found), read_picks_csv(options.truth)
    if len(found) == len(truth) == 1:  # one tomogram, whatever it is called in either
        found = dict(zip(truth, found.values(), strict=True))
    unknown = sorted(set(found) - set(truth))
    if unknown:
        raise ValueError(f"{options.truth}: no positions of tomogram {unknown[0]!r}, found {', '.join(sorted(truth))}")
    # tomograms side by side, farther apart than any pair: one score for all
    step = 1e6 + options.distance
    columns: list[Any] = [[np.empty((0, 3))], [], [np.empty(0)], [], []]
    for n, (name, (places, names, _)) in enumerate(truth.items()):
        columns[3].append(places + n * step)
        columns[4] += names
        if name in found:
            columns[0].append(found[name][0] + n * step)
            columns[1] += [renamed.get(c, c) for c in found[name][1]]
            columns[2].append(found[name][2])
    scores = score_detections(
        np.concatenate(columns[0]),
        columns[1],
        np.concatenate(columns[3]),
        columns[4],
        options.distance,
        scores=np.concatenate(columns[2]),
        beta=options.beta,
    )
    f_beta = f"F{options.beta:g}"
    print(f"{'class':<20} {'true':>6} {'picks':>6} {'precision':>9} {'recall':>7} {'F1':>6} {f_beta:>6} {'AP':>6}")
    for name, s in scores.classes.items():
        numbers = f"{s.precision:>9.3f} {s.recall:>7.3f} {s.f1:>6.3f} {s.f_beta:>6.3f} {s.average_precision:>6.3f}"
        print(f"{name:<20} {s.n_true:>6} {s.n_predicted:>6} {numbers}")
    means = (scores.macro_f1, scores.macro_f_beta, scores.mean_average_precision)
    print(f"macro F1 {means[0]:.3f}, {f_beta} {means[1]:.3f}, mean AP {means[2]:.3f}")
    return scores.to_dict()


def _score_labels(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from monai_cryo.io import open_tomogram
    from monai_cryo.metrics import label_iou

    # the voxel size takes no part
    found, truth = (open_tomogram(path, voxel_size=1.0).data for path in (options.found, options.truth))
    highest = max(int(np.max(volume)) for volume in (found, truth))
    values = label_iou(found, truth, highest)
    for label, value in enumerate(values, 1):
        print(f"label {label}: IoU {'-' if math.isnan(value) else f'{value:.3f}'}")
    known = [value for value in values if not math.isnan(value)]
    print(f"mean IoU {sum(known) / len(known):.3f}" if known else "no labels in either volume")
    return {"iou": [None if math.isnan(value) else value for value in values]}
