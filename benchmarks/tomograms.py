"""Time and memory of reading whole tomograms, against cutting out a window every 8 voxels.

python benchmarks/tomograms.py --sizes 128x128x128 256x256x128 256x512x512

The volumes are smoothed noise, blobs everywhere, or with `--like FILE` a tomogram, mirrored until it is so large.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import finish, machine, parser, peak_memory_mib, show_machine, table
from scipy import ndimage

from monai_cryo._typing import Precision
from monai_cryo.bundle import bundle_root, read_model
from monai_cryo.inferers import TomogramReader, particle_diameters
from monai_cryo.io import mapped_mrc, open_tomogram
from monai_cryo.templates import load_templates

BOX = 40


def write_tomogram(path: Path, shape: tuple[int, int, int], voxel_size: float) -> None:
    """Write smoothed noise slab by slab: blobs everywhere, and no more memory than a slab."""
    rng = np.random.default_rng(0)
    with mapped_mrc(path, shape, np.float32, voxel_size) as out:
        for first in range(0, shape[0], 32):
            last = min(first + 32, shape[0])
            noise = rng.normal(size=(last - first, *shape[1:])).astype(np.float32)
            out[first:last] = ndimage.gaussian_filter(noise, 2.0) * 20 + 0.5 * noise


def repeat_tomogram(path: Path, shape: tuple[int, int, int], voxel_size: float, like: Path) -> None:
    """Write a tomogram of this size that holds another one, mirrored at its faces as often as it takes."""
    data = open_tomogram(like).data
    z, y, x = (
        np.pad(np.arange(old), (0, max(0, new - old)), mode="symmetric")[:new]
        for old, new in zip(data.shape, shape, strict=True)
    )
    with mapped_mrc(path, shape, np.float32, voxel_size) as out:
        for section, n in zip(out, z, strict=True):
            section[:] = data[n][np.ix_(y, x)]


def read(path: Path, model_path: Path, threads: int, device: str, precision: Precision) -> dict[str, Any]:
    """Read one tomogram; to be called in a fresh process."""
    torch.set_num_threads(threads)
    model = read_model(model_path)
    diameters = particle_diameters(model.classes, load_templates("robust"))
    reader = TomogramReader(model, diameters, device=device, precision=precision)
    steps: list[tuple[int, int]] = []
    began, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        reader.read(open_tomogram(path), scratch, lambda *step: steps.append(step))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = peak_memory_mib()
    network = reader.windows.network
    windows = torch.randn(16, 1, BOX, BOX, BOX, device=device)
    with torch.inference_mode():
        network(windows)
        start = time.perf_counter()
        for _ in range(3):
            network(windows)
    one = (time.perf_counter() - start) / 48
    blocks = reader.dense.blocks(open_tomogram(path).data.shape)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_memory_mib": peak,
        "windows": steps[-1][1] - blocks,
        "blocks": blocks,
        "window_seconds": one,
    }


def study(options: argparse.Namespace, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Write a tomogram, read it in a process of its own, and compare."""
    model = options.model or bundle_root() / "models" / "model.pt"
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        path = Path(folder) / "t.mrc"
        voxel_size = read_model(model).voxel_size
        if options.like is None:
            write_tomogram(path, shape, voxel_size)
        else:
            repeat_tomogram(path, shape, voxel_size, options.like)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            result: dict[str, Any] = pool.apply(read, (path, model, options.threads, options.device, options.precision))
    every = int(np.prod([-(-n // 8) for n in shape]))
    result |= {"shape": list(shape), "every_8_voxels": every * result["window_seconds"] / result["seconds"]}
    return result


def main() -> None:
    """Run."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--sizes", type=_size, nargs="+", default=[(128,) * 3, (128, 256, 256), (256, 512, 512)])
    options.add_argument(
        "--like", type=Path, metavar="FILE", help="a tomogram at the model's voxel size, in place of noise"
    )
    options.add_argument("--model", type=Path, help="default: the one the bundle ships")
    options.add_argument("--threads", type=int, default=torch.get_num_threads(), help="%(default)s")
    options.add_argument("--device", default="cpu")
    options.add_argument("--precision", choices=("float32", "bfloat16", "auto"), default="float32")
    options.add_argument("--scratch", type=Path, help="folder for the tomograms; default: the system's for such")
    options = options.parse_args()
    host = machine()
    show_machine(host)
    studies = [study(options, shape) for shape in ([(24, 48, 48)] if options.quick else options.sizes)]
    rows = [
        (
            " x ".join(map(str, s["shape"])),
            s["blocks"],
            s["windows"],
            s["seconds"],
            s["cpu_seconds"],
            s["peak_memory_mib"],
            s["every_8_voxels"],
        )
        for s in studies
    ]
    table(["voxels", "blocks", "windows", "s", "CPU s", "peak MiB", "a window every 8 voxels takes, times"], rows)
    finish(options, "tomograms", host, {"tomograms": studies, "threads": options.threads})


def _size(text: str) -> tuple[int, int, int]:
    try:
        depth, height, width = (int(part) for part in text.split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must read DEPTHxHEIGHTxWIDTH, got {text}") from error
    return depth, height, width


if __name__ == "__main__":
    main()
