"""Recompute the embedded templates from public maps: ``python tools/build_templates.py --sources DIR ...``."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from proteasome import Pose, cap_both_ends, complete, length_a

from monai_cryo.io.atomic import write_text
from monai_cryo.io.digest import sha256
from monai_cryo.io.mrc import read_mrc, write_mrc
from monai_cryo.templates.file import BOX, EMBEDDED, VOXEL_SIZE, load_templates, save_templates

THRESHOLD = "fraction:0.15"
#: structure -> PDB entries and the files they come from, in the folder of maps or that of structures
SOURCES: dict[str, dict[str, str]] = {
    "6qzp": {"6QZP": "polnet10A_6qzp.mrc.gz"},
    "4v7r": {"4V7R": "polnet10A_4v7r.mrc.gz"},
    "4v4r": {"4V4R": "polnet10A_4v4r.mrc.gz"},
    "4cr2_3j9i": {"4CR2": "polnet10A_4cr2.mrc.gz", "3J9I": "polnet10A_3j9i.mrc.gz"},
    "4cr2_3j9i_double": {"4CR2": "polnet10A_4cr2.mrc.gz", "3J9I": "polnet10A_3j9i.mrc.gz"},
    "4v94": {"4V94": "derived_TRiC_single_from_polnet_4v94_10A.mrc.gz"},
    "3iyf": {"3IYF": "3iyf.pdb.gz"},
    "1bxn": {"1BXN": "polnet10A_1bxn.mrc.gz"},
    "1qvr": {"1QVR": "polnet10A_1qvr.mrc.gz"},
    "1u6g": {"1U6G": "polnet10A_1u6g.mrc.gz"},
    "2uv8": {"2UV8": "polnet10A_2uv8.mrc.gz"},
    "3cf3": {"3CF3": "polnet10A_3cf3.mrc.gz"},
    "3j9i": {"3J9I": "polnet10A_3j9i.mrc.gz"},
    "4v5d": {"4V5D": "4v5d.cif.gz"},
    "4v8r": {"4V8R": "4v8r_h36.pdb.gz"},
    "1oel": {"1OEL": "1oel.pdb.gz"},
    "6utj": {"6UTJ": "polnet10A_6utj.mrc.gz"},
    "6z6u": {"6Z6U": "6z6u.pdb.gz"},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "3iyf": {"resolution_a": 15.0},
    "4v5d": {"resolution_a": 20.0},
    "4v8r": {"resolution_a": 20.0, "chains": "A*"},
    "1oel": {"resolution_a": 20.0, "assembly": 1},
    "6z6u": {"resolution_a": 20.0},
}
#: no second structure is at hand: the same one, low-passed well below what the grid carries (27 Å)
BLURRED = {"4cr2_3j9i_40a": ("4cr2_3j9i", 40.0)}
COMPLEXES = {"procedural": "complexes", "number": 24, "mass_kda": [150, 2000], "seed": 0}
#: library -> class -> structures, or the options of what is drawn anew
LIBRARIES: dict[str, dict[str, Any]] = {
    "templates": {
        "ribosome": ["6qzp"],
        "proteasome": ["4cr2_3j9i"],
        "tric": ["4v94"],
        "membrane": {"procedural": "membrane"},
    },
    "robust": {
        "ribosome": ["6qzp", "4v7r", "4v4r"],
        "proteasome": ["4cr2_3j9i", "4cr2_3j9i_double"],
        "tric": ["4v94", "3iyf"],  # closed; its relative of archaea, open
        # the smallest vesicles of cells have radii of 200 to 250 Å; a box may be found beside its membrane
        "membrane": {"procedural": "membrane", "radius_a": [250.0, math.inf], "offset_a": [-60.0, 60.0]},
        "background": {"procedural": "background", "strangers": 0.25},
        "distractors": ["1bxn", "1qvr", "1u6g", "2uv8", "3cf3", "3j9i", COMPLEXES],
    },
    "unseen": {
        "ribosome": ["4v5d"],
        "proteasome": ["4cr2_3j9i_40a"],
        "tric": ["4v8r"],
        "membrane": {
            "procedural": "membrane",
            "thickness_a": [32.0, 42.0],
            "radius_a": [250.0, math.inf],
            "leaflet_sigma_a": [6.0, 9.0],
        },
        "background": {"procedural": "background"},
        "distractors": ["1oel", "6utj", "6z6u"],
    },
}
AMPLITUDES = {
    "robust": {
        "ribosome": [0.7, 1.2],
        "proteasome": [0.7, 1.2],
        "tric": [0.7, 1.2],
        "membrane": [0.5, 1.0],
        "background": [0.7, 1.2],  # of the strangers in it
    },
}
#: best in simulated tomograms (docs/results.md)
ABUNDANCES = {"robust": {"proteasome": 0.2, "tric": 0.2, "membrane": 0.2}}
LICENCE = (
    "PDB entries: CC0 1.0. Maps computed from some of them at 10 Å: polnet, Apache-2.0. These templates: Apache-2.0."
)


def build(folders: Sequence[Path], output: Path) -> list[Path]:
    """Write the libraries and their provenance.

    Parameters
    ----------
    folders
        Where the 10 Å maps that polnet computed from PDB entries, and the structures, lie.
    output
        Folder for the templates.

    Returns
    -------
    list
        The libraries' YAML files.
    """
    structures: dict[str, Any] = {}
    files = []
    with tempfile.TemporaryDirectory() as scratch:
        sources: dict[str, dict[str, Any]] = {}
        for name, entries in SOURCES.items():
            paths = [_find(folders, file) for file in entries.values()]
            structures[name] = {
                "file": f"{name}.mrc",
                "pdb": list(entries),
                "sources": {path.name: sha256(path) for path in paths},
                **OPTIONS.get(name, {}),
            }
            source = Path(scratch) / (f"{name}.mrc" if len(paths) == 2 else f"{name}_{paths[0].name}")
            if len(paths) == 1:
                source.symlink_to(paths[0].resolve())  # a library names files of its own folder
            else:
                structures[name] |= _proteasome(paths[0], paths[1], source, both_ends=name.endswith("_double"))
            for blurred, (sharp, resolution_a) in BLURRED.items():
                if sharp == name:
                    sources[blurred] = {"source": source.name, "resolution_a": resolution_a}
                    structures[blurred] = {"file": f"{blurred}.mrc", "pdb": list(entries), "resolution_a": resolution_a}
            sources[name] = {"source": source.name, **OPTIONS.get(name, {})}
        for library_name, groups in LIBRARIES.items():
            entries_of = {
                group: members
                if isinstance(members, dict)
                else [m if isinstance(m, dict) else {**sources[m], "name": m, "threshold": THRESHOLD} for m in members]
                for group, members in groups.items()
            }
            content: dict[str, Any] = {"voxel_size": VOXEL_SIZE, "box": BOX}
            if "distractors" in entries_of:
                content["distractors"] = entries_of.pop("distractors")
            for group, amplitude in AMPLITUDES.get(library_name, {}).items():
                members = entries_of[group]
                own = members if isinstance(members, dict) else {"sources": members}
                entries_of[group] = {**own, "amplitude": amplitude}
            for group, abundance in ABUNDANCES.get(library_name, {}).items():
                entries_of[group]["abundance"] = abundance
            plan = Path(scratch) / "plan.json"
            plan.write_text(json.dumps({**content, "classes": entries_of}))
            files.append(save_templates(load_templates(plan), output, f"{library_name}.yaml"))
    provenance = {
        "command": "python tools/build_templates.py --sources MAPS STRUCTURES",
        "licence": LICENCE,
        "voxel_size": VOXEL_SIZE,
        "threshold": THRESHOLD,
        "structures": structures,
        "made_up": COMPLEXES,
    }
    write_text(output / "provenance.json", json.dumps(provenance, indent=1, ensure_ascii=False) + "\n")
    return files


def _find(folders: Sequence[Path], name: str) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no {name} in {', '.join(map(str, folders))}")


def _proteasome(cap_path: Path, core_path: Path, target: Path, *, both_ends: bool) -> dict[str, Any]:
    density, pose, spacing = _completed(cap_path, core_path)
    said = "4CR2 (19S and half the 20S core) completed with the other half of the core from 3J9I"
    more: dict[str, Any] = {}
    if both_ends:
        density, correlation = cap_both_ends(density, pose)
        said += ", and turned about a two-fold axis of the core for its other half"
        more["two_fold_correlation"] = round(correlation, 4)
    write_mrc(target, density, spacing)
    level = float(THRESHOLD.partition(":")[2]) * float(density.max())
    return {
        "composite": said,
        "core_pose": {
            "axis_zyx": [round(float(v), 4) for v in pose.axes[2]],
            "centre_zyx_vox": [round(float(v), 2) for v in pose.centre - 10],
            "correlation": round(pose.correlation, 4),
        },
        **more,
        "length_nm": round(length_a(density, pose.axes[2], spacing[0], level) / 10, 1),
    }


@cache
def _completed(cap_path: Path, core_path: Path) -> tuple[NDArray[np.float32], Pose, tuple[float, float, float]]:
    cap, spacing, _ = read_mrc(cap_path)
    core, core_spacing, _ = read_mrc(core_path)
    if spacing is None or core_spacing is None or not np.allclose(spacing, core_spacing, rtol=1e-3):
        raise ValueError(f"{core_path}: voxel size {core_spacing} differs from {spacing} of {cap_path}")
    return *complete(cap, core), spacing


def main(argv: list[str] | None = None) -> int:
    """Run the build from the command line."""
    parser = argparse.ArgumentParser(prog="python tools/build_templates.py", description=__doc__)
    parser.add_argument(
        "--sources", type=Path, nargs="+", required=True, metavar="DIR", help="folders of the maps and structures"
    )
    parser.add_argument("--output", type=Path, default=EMBEDDED.parent, metavar="DIR", help="default: the package")
    options = parser.parse_args(argv)
    try:
        print(*build(options.sources, options.output), sep="\n")
    except (OSError, ValueError) as error:
        print(f"monai_cryo: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
