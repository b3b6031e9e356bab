"""Subtomograms a second of the simulation, by stage, against its floor and against what else one could use.

The floor is one grid_sample, one randn and one rfftn/irfftn pair of the whole batch: what no simulation of this kind
does without, unless it resamples less than the box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from common import VOXEL_SIZE, bundle, collate, compare, finish, machine, parser, show_machine, table, threads
from peers import peers
from torch import Tensor

from monai_cryo.data import TemplateDataset, item_state
from monai_cryo.engines import SimulateBatch
from monai_cryo.templates import TemplateLibrary
from monai_cryo.transforms import (
    BatchCompose,
    FourierCompose,
    FourierFilter,
    RandCTF,
    RandDensityField,
    RandNeighbours,
    RandTiltSeriesd,
)

AXES = (-3, -2, -1)
#: the paper's pipeline
STAGES = ("RandPosed", "FourierComposed", "RandIntensityd")


def floor_parts(image: Tensor) -> dict[str, Callable[[], Any]]:
    """Return the parts of the floor for a batch (B, D, H, W)."""
    count, shape = len(image), image.shape[1:]
    rotation = torch.linalg.qr(torch.randn(count, 3, 3))[0]
    theta = torch.cat([rotation, torch.zeros(count, 3, 1)], dim=-1).to(image)
    grid = F.affine_grid(theta, [count, 1, *shape], align_corners=True)
    spectrum = torch.fft.rfftn(image, dim=AXES)
    return {
        "grid_sample": lambda: F.grid_sample(image[:, None], grid, align_corners=True),
        "randn": lambda: torch.randn(image.shape, device=image.device),
        "rfftn": lambda: torch.fft.rfftn(image, dim=AXES),
        "irfftn": lambda: torch.fft.irfftn(spectrum, s=tuple(shape), dim=AXES),
    }


def run_all(functions: Sequence[Callable[[], Any]]) -> Callable[[], None]:
    """Return a function that calls all."""

    def call() -> None:
        for function in functions:
            function()

    return call


def measure(library: TemplateLibrary, count: int, device: str, thread_count: int, repeats: int) -> dict[str, Any]:
    """Time the pipeline of the bundle, its stages and the floor for one batch size."""
    # all classes in turn: how much there is to rotate is then no matter of luck
    batch = collate(TemplateDataset(library, 1 << 20, balanced=True), count)
    config = bundle(box=library.box, voxel_size=library.voxel_size)
    simulate = config.get_parsed_content("prepare_batch")
    config = bundle(box=library.box, voxel_size=library.voxel_size, noise_stage="after", noise_power_law=[0.5, 1.5])
    coloured = config.get_parsed_content("prepare_batch")
    stage = dict(zip(simulate.pipeline.names, simulate.pipeline.members, strict=True))
    pose, imaging, intensity = (stage[name] for name in STAGES)
    drawn = simulate.draw(batch)
    poses, optics, contrast = ([d[name] for d in drawn] for name in STAGES)

    image, mask = batch["image"].to(device), batch["mask"].to(device)
    clean = {"image": image, "mask": mask, **{key: batch[key].tolist() for key in ("posed", "radius_vox")}}
    filters = FourierCompose(
        [t for t in imaging.transform.transforms if isinstance(t, FourierFilter)], voxel_size=library.voxel_size
    )
    silent = [{name: d[name] for name in filters.names} for d in optics]
    nothing: list[dict[str, Any]] = [{}] * count
    parts = floor_parts(image[:, 0])
    functions = {
        "floor": run_all(list(parts.values())),
        "pipeline": lambda: simulate(batch, device),
        "coloured noise after the optics": lambda: coloured(batch, device),
        "draw": lambda: simulate.draw(batch),
        "pose": lambda: pose.apply(clean, poses),
        "FFT pair": run_all([parts["rfftn"], parts["irfftn"]]),
        "FFT pair and filters": lambda: filters.apply(image, silent),
        "FFT pair, filters and noise": lambda: imaging.transform.apply(image, optics),
        "intensity and standardise": lambda: simulate.normalize.apply(
            intensity.transform.apply(image, contrast), nothing
        ),
        **{f"floor: {name}": function for name, function in parts.items()},
    }
    if device != "cpu":
        functions["copy"] = image.clone
    with threads(thread_count):
        times = compare(
            functions, repeats=repeats, cpu_time=device == "cpu" and thread_count == 1, device=device, seconds=6
        )
    ms = {name: 1000 * value["median_s"] for name, value in times.items()}
    stages = {
        "draw": ms["draw"],
        "pose": ms["pose"],
        "FFT": ms["FFT pair"],
        "filters": ms["FFT pair and filters"] - ms["FFT pair"],
        "noise": ms["FFT pair, filters and noise"] - ms["FFT pair and filters"],
        "standardise": ms["intensity and standardise"],
    }
    stages["rest"] = ms["pipeline"] - sum(stages.values())
    return {
        "box": library.box,
        "batch": count,
        "device": device,
        "threads": thread_count,
        "per_s": count / times["pipeline"]["median_s"],
        "coloured_per_s": count / times["coloured noise after the optics"]["median_s"],
        "to_floor": times["pipeline"]["ratio"],
        "coloured_to_floor": times["coloured noise after the optics"]["ratio"],
        "floor_ms": ms["floor"],
        "floor_parts_ms": {name: ms[f"floor: {name}"] for name in parts},
        "pipeline_ms": ms["pipeline"],
        "stages_ms": stages,
        "copy_ms": ms.get("copy"),
        "fft_share": ms["FFT pair"] / ms["pipeline"],
    }


def measure_peers(library: TemplateLibrary, count: int, repeats: int) -> dict[str, Any]:
    """Time other ways to simulate the same template (the ribosome), one thread, beside ours."""
    member = library.templates["ribosome"][0]
    dataset = TemplateDataset(TemplateLibrary({"ribosome": [member]}, library.voxel_size, library.box), 1 << 20)
    batch = collate(dataset, count)
    simulate = bundle().get_parsed_content("prepare_batch")
    tilts = RandTiltSeriesd("image", snr=(0.1, 1), ctf=RandCTF((1, 4)), voxel_size=library.voxel_size)
    tilt_series = SimulateBatch(BatchCompose([simulate.pipeline.members[0], tilts]))
    few = collate(dataset, min(count, 8))
    functions: dict[str, tuple[int, Callable[[], Any]]] = {
        "monai_cryo: everything": (count, lambda: simulate(batch)),
        "monai_cryo: tilt series of 41 with CTF": (len(few["image"]), lambda: tilt_series(few)),
    }
    found, missing = peers(batch["image"][0, 0].numpy(), library.voxel_size)
    functions |= found
    with threads(1):
        times = compare(
            {name: call for name, (_, call) in functions.items()}, repeats=repeats, cpu_time=True, seconds=60
        )
    rates = {name: functions[name][0] / value["median_s"] for name, value in times.items()}
    ours = rates["monai_cryo: everything"]
    tilt = rates["monai_cryo: tilt series of 41 with CTF"]
    return {
        "rows": {
            name: {"per_s": rate, "ours_is_faster_by": (tilt if "tilt series" in name else ours) / rate}
            for name, rate in rates.items()
        },
        "not_installed": missing,
    }


def measure_scene(library: TemplateLibrary, count: int, repeats: int) -> dict[str, Any]:
    """Time a scene as crowded as a cell, one thread, beside the imaging of the paper's pipeline."""
    simulate = bundle().get_parsed_content("prepare_batch")
    batch = collate(TemplateDataset(library, 1 << 20, balanced=True), count)
    crowd = RandNeighbours(
        library.crowd(),
        (0, 8),
        distance_vox=(12.0, 32.0),
        amplitude=(0.7, 1.3),
        membrane_prob=0.15,
        one_sided_prob=0.8,
        voxel_size=library.voxel_size,
    )
    field = RandDensityField()
    states = [item_state(0, "train", i, stream=1) for i in range(count)]
    drawn = [(crowd.draw(state), field.draw(state)) for state in states]
    image, mask = batch["image"], batch["mask"]

    def scene() -> None:
        field.apply(crowd.apply(image, [d[0] for d in drawn], mask=mask), [d[1] for d in drawn])

    with threads(1):
        times = compare(
            {"pipeline": lambda: simulate(batch), "scene": scene}, repeats=repeats, cpu_time=True, seconds=10
        )
    return {
        "box": library.box,
        "batch": count,
        "scene_ms": 1000 * times["scene"]["median_s"],
        "pipeline_ms": 1000 * times["pipeline"]["median_s"],
        "scene_to_pipeline": times["scene"]["ratio"],
    }


def main() -> None:
    """Run."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="1: takes CPU time")
    options = options.parse_args()
    host = machine()
    show_machine(host)
    quick = options.quick
    boxes, batches, repeats = ((40,), (2,), 2) if quick else ((40, 64), (1, 8, 32), 25)
    places = [("cpu", 1)] if quick else [("cpu", n) for n in options.threads]
    if torch.cuda.is_available():
        places.append(("cuda", torch.get_num_threads()))
    rows = []
    library = {}
    for box in boxes:
        config = bundle(box=box, voxel_size=VOXEL_SIZE * 40 / box)
        library[box] = config.get_parsed_content("library")
        for device, thread_count in places:
            for count in batches:
                rows.append(measure(library[box], count, device, thread_count, repeats))
                print(".", end="", flush=True)
    table(
        ["box", "batch", "device", "threads", "subtomograms/s", "time / floor", "coloured, after: /s", "/ floor"],
        [
            [
                r[k]
                for k in (
                    *("box", "batch", "device", "threads"),
                    *("per_s", "to_floor", "coloured_per_s", "coloured_to_floor"),
                )
            ]
            for r in rows
        ],
    )
    stages = list(rows[0]["stages_ms"])
    table(
        ["box", "batch", "device", "threads", "ms a batch", *stages, "floor ms", *rows[0]["floor_parts_ms"]],
        [
            [
                *(r[k] for k in ("box", "batch", "device", "threads", "pipeline_ms")),
                *r["stages_ms"].values(),
                r["floor_ms"],
                *r["floor_parts_ms"].values(),
            ]
            for r in rows
        ],
    )
    crowded = measure_scene(library[40], 2 if quick else 32, 1 if quick else 15)
    table(["crowded scene", *list(crowded)[1:]], [["box 40", *list(crowded.values())[1:]]])
    others = measure_peers(library[40], 2 if quick else 32, 1 if quick else 7)
    table(
        ["on one ribosome of 40^3, one thread", "subtomograms/s", "ours is faster by"],
        [[name, row["per_s"], row["ours_is_faster_by"]] for name, row in others["rows"].items()],
    )
    if others["not_installed"]:
        print(f"not installed: {', '.join(others['not_installed'])}")
    finish(options, "simulation", host, {"pipeline": rows, "scene": crowded, "peers": others})


if __name__ == "__main__":
    main()
