"""Recompute the embedded templates from public maps: ``python tools/build_templates.py --maps DIR``."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from proteasome import complete, length_a

from monai_cryo.io.atomic import write_text
from monai_cryo.io.mrc import read_mrc, write_mrc
from monai_cryo.templates.file import BOX, EMBEDDED, VOXEL_SIZE, load_templates, save_templates

THRESHOLD = "fraction:0.15"
SOURCES = {
    "ribosome": ("6qzp", {"6QZP": "polnet10A_6qzp.mrc.gz"}),
    "proteasome": ("4cr2_3j9i", {"4CR2": "polnet10A_4cr2.mrc.gz", "3J9I": "polnet10A_3j9i.mrc.gz"}),
    "tric": ("4v94", {"4V94": "derived_TRiC_single_from_polnet_4v94_10A.mrc.gz"}),
}
LICENCE = "PDB entries: CC0 1.0. Maps computed from them at 10 Å: polnet, Apache-2.0. These templates: Apache-2.0."


def build(maps: Path, output: Path) -> Path:
    """Write the four classes and their provenance.

    Parameters
    ----------
    maps
        Folder of the 10 Å maps that polnet computed from PDB entries.
    output
        Folder for the templates.

    Returns
    -------
    Path
        The library's YAML file.
    """
    classes: dict[str, Any] = {}
    structures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for class_name, (name, files) in SOURCES.items():
            paths = [maps / file for file in files.values()]
            structures[name] = {
                "file": f"{name}.mrc",
                "class": class_name,
                "pdb": list(files),
                "sources": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
            }
            source = paths[0]
            if len(paths) == 2:
                source = Path(scratch) / f"{name}.mrc"
                structures[name] |= _proteasome(paths[0], paths[1], source)
            item = {"source": str(source.resolve()), "name": name, "threshold": THRESHOLD}
            classes[class_name] = {"sources": [item]}
        classes["membrane"] = {"procedural": "membrane"}
        plan = Path(scratch) / "plan.json"
        plan.write_text(json.dumps({"voxel_size": VOXEL_SIZE, "box": BOX, "classes": classes}))
        library = load_templates(plan)
    file = save_templates(library, output)
    provenance = {
        "command": "python tools/build_templates.py --maps MAPS",
        "licence": LICENCE,
        "voxel_size": VOXEL_SIZE,
        "threshold": THRESHOLD,
        "structures": structures,
    }
    write_text(output / "provenance.json", json.dumps(provenance, indent=1, ensure_ascii=False) + "\n")
    return file


def _proteasome(cap_path: Path, core_path: Path, target: Path) -> dict[str, Any]:
    cap, spacing, _ = read_mrc(cap_path)
    core, core_spacing, _ = read_mrc(core_path)
    if spacing is None or core_spacing is None or not np.allclose(spacing, core_spacing, rtol=1e-3):
        raise ValueError(f"{core_path}: voxel size {core_spacing} differs from {spacing} of {cap_path}")
    density, pose = complete(cap, core)
    write_mrc(target, density, spacing)
    level = float(THRESHOLD.partition(":")[2]) * float(density.max())
    return {
        "composite": "4CR2 (19S and half the 20S core) completed with the other half of the core from 3J9I",
        "core_pose": {
            "axis_zyx": [round(float(v), 4) for v in pose.axes[2]],
            "centre_zyx_vox": [round(float(v), 2) for v in pose.centre - 10],
            "correlation": round(pose.correlation, 4),
        },
        "length_nm": round(length_a(density, pose.axes[2], spacing[0], level) / 10, 1),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the build from the command line."""
    parser = argparse.ArgumentParser(prog="python tools/build_templates.py", description=__doc__)
    parser.add_argument("--maps", type=Path, required=True, metavar="DIR", help="folder of the polnet10A maps")
    parser.add_argument("--output", type=Path, default=EMBEDDED.parent, metavar="DIR", help="default: the package")
    options = parser.parse_args(argv)
    try:
        print(build(options.maps, options.output))
    except (OSError, ValueError) as error:
        print(f"monai_cryo: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
