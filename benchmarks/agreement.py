"""How far the dense classifier of whole tomograms agrees with windows cut out one by one, at the same places.

python benchmarks/agreement.py TOMOGRAM --number 400
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from common import finish, machine, parser, show_machine, table

from monai_cryo.bundle import bundle_root, read_model
from monai_cryo.inferers import TomogramReader
from monai_cryo.inferers.normalize import cut_mirrored, normalize_tomogram
from monai_cryo.io import open_tomogram

BOX = 40
PLACE = 0.25  # from which the dense classifier makes a place for a window


@torch.inference_mode()
def main() -> None:
    """Run."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("tomogram", type=Path, help="at the model's voxel size")
    options.add_argument("--model", type=Path, default=bundle_root() / "models" / "model.pt", help="the bundle's")
    options.add_argument("--number", type=int, default=400, help="of places, at random among the dense answers; 400")
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    host = machine()
    show_machine(host)
    model = read_model(options.model)
    reader = TomogramReader(model, {})
    with tempfile.TemporaryDirectory() as scratch:
        data = open_tomogram(options.tomogram, model.voxel_size).data
        normal = normalize_tomogram(
            data, model.normalize, model.box, Path(scratch) / "normalized", negate=reader.negate
        )
        dense = reader.dense(normal.volume, normal.block)
        where = np.stack(np.unravel_index(np.arange(dense[0].size), dense[0].shape), 1)
        corners = where * reader.dense.stride + reader.dense.stride // 2 - BOX // 2
        inside = ((corners >= 0) & (corners + BOX <= np.array(data.shape))).all(1)
        number = 8 if options.quick else min(options.number, int(inside.sum()))
        chosen = np.random.default_rng(options.seed).choice(np.flatnonzero(inside), number, replace=False)
        boxes = torch.stack([cut_mirrored(normal.volume, corners[n].tolist(), [BOX] * 3) for n in chosen])[:, None]
        parts = [reader.windows.network.classify(normal.window(part))[0].softmax(1) for part in boxes.split(16)]
    windows, blocks = torch.cat(parts).numpy(), dense.reshape(len(dense), -1)[:, chosen].T
    same = float((windows.argmax(1) == blocks.argmax(1)).mean())
    rows = []
    for k, name in enumerate(model.classes):
        of_windows, of_blocks = windows[:, k] >= 0.5, blocks[:, k] >= PLACE
        found = float((of_windows & of_blocks).sum() / of_windows.sum()) if of_windows.any() else None
        spread = windows[:, k].std() * blocks[:, k].std()
        correlation = float(np.corrcoef(windows[:, k], blocks[:, k])[0, 1]) if spread > 0 else None
        rows.append((name, int(of_windows.sum()), int(of_blocks.sum()), found, correlation))
    print(f"the same class at {same:.3f} of {number} places")
    table(["class", "windows from 0.5 on", f"blocks from {PLACE} on", "of the former found", "correlation"], rows)
    columns = ("class", "windows", "blocks", "found", "correlation")
    study = {"same": same, "places": number, "classes": [dict(zip(columns, row, strict=True)) for row in rows]}
    finish(options, "agreement", host, {"agreement": study})


if __name__ == "__main__":
    main()
