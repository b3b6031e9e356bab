"""How time and memory grow with the box, the batch, the templates and the tilts; one plot each with its power law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from common import (
    VOXEL_SIZE,
    bundle,
    collate,
    compare,
    extra_memory_mib,
    finish,
    machine,
    parser,
    show_machine,
    table,
    threads,
)

from monai_cryo.data import TemplateDataset, item_state
from monai_cryo.templates import Template, TemplateLibrary
from monai_cryo.transforms import RandTiltSeries

mpl.use("Agg")
import matplotlib.pyplot as plt


def simulation(box: int, batch: int) -> Callable[[], Any]:
    """Draw a batch and simulate it."""
    config = bundle(box=box, voxel_size=VOXEL_SIZE * 40 / box)
    prepare, library = (config.get_parsed_content(name) for name in ("prepare_batch", "library"))
    dataset = TemplateDataset(library, 1 << 20)
    return lambda: prepare(collate(dataset, batch))


def templates(count: int, structures: int) -> Callable[[], TemplateLibrary]:
    """Return what builds a library of ``count`` classes with as many structures each."""
    density = torch.rand(21, 21, 21)

    def template(i: int, j: int) -> Template:
        return Template.scaled(f"s{i}_{j}", f"c{i}", density + 1e-3, density > 0.5, VOXEL_SIZE)

    return lambda: TemplateLibrary(
        {f"c{i}": [template(i, j) for j in range(structures)] for i in range(count)}, VOXEL_SIZE, 40
    )


def library_draws(count: int, structures: int) -> Callable[[], Any]:
    """Draw 32 particles from a library of many templates and simulate them."""
    dataset = TemplateDataset(templates(count, structures)(), 1 << 20)
    prepare = bundle().get_parsed_content("prepare_batch")
    return lambda: prepare(collate(dataset, 32))


def tilt_series(count: int) -> Callable[[], Any]:
    """Simulate 4 tilt series of ``count`` tilts, each with angles of its own."""
    transform = RandTiltSeries(0.1, step_deg=120 / (count - 1), tilt_jitter_deg=0.1, voxel_size=VOXEL_SIZE)
    volume = torch.rand(4, 1, 40, 40, 40)
    draws = [transform.draw(item_state(0, "test", i, stream=1)) for i in range(len(volume))]
    return lambda: transform.apply(volume, draws)


def exponent(x: Sequence[float], y: Sequence[float | None]) -> float | None:
    """Slope in log-log over the upper half of the sizes, where fixed costs no longer count."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if b and b > 0][len(x) // 2 - 1 :]
    return float(np.polyfit(*np.log(np.array(pairs).T), 1)[0]) if len(pairs) > 1 else None


def study(
    name: str,
    label: str,
    sizes: Sequence[int],
    make: Callable[[int], Callable[[], Any]],
    expected: tuple[float, float],
    repeats: int,
    memory_of: Callable[[int], Callable[[], Any]] | None = None,
) -> dict[str, Any]:
    """Time and weigh one kind of growth; ``expected`` are the exponents of time and memory."""
    functions = {str(size): make(size) for size in sizes}
    memory = []
    for size in sizes:
        function = memory_of(size) if memory_of else functions[str(size)]
        if not memory_of:
            function()  # what is cached between calls is not the call's
        memory.append(extra_memory_mib(function))
    times = compare(functions, repeats=repeats, cpu_time=True, seconds=20)
    seconds = [times[str(size)]["median_s"] for size in sizes]
    result = {
        "name": name,
        "label": label,
        "sizes": list(sizes),
        "seconds": seconds,
        "memory_mib": memory,
        "exponent": {"seconds": exponent(sizes, seconds), "memory_mib": exponent(sizes, memory)},
        "expected": dict(zip(("seconds", "memory_mib"), expected, strict=True)),
    }
    fitted = [result["exponent"][k] for k in ("seconds", "memory_mib")]
    table(
        [label, *map(str, sizes), "exponent", "expected"],
        [["s", *seconds, fitted[0], expected[0]], ["MiB", *memory, fitted[1], expected[1]]],
    )
    return result


def plot(result: dict[str, Any], folder: Path) -> None:
    """Draw time and memory in log-log, with the expected power law through the largest size."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    x = np.array(result["sizes"], dtype=float)
    for axis, key, unit in zip(axes, ("seconds", "memory_mib"), ("s", "MiB"), strict=True):
        y = np.array([np.nan if v is None or v <= 0 else v for v in result[key]], dtype=float)
        law, fit = result["expected"][key], result["exponent"][key]
        fitted = "" if fit is None else f": exponent {fit:.2f}"
        axis.loglog(x, y, "o-", label=f"measured{fitted}")
        axis.loglog(x, y[-1] * (x / x[-1]) ** law, "k--", linewidth=1, label=f"expected: {law:g}")
        axis.set(xlabel=result["label"], ylabel=unit, xticks=x, xticklabels=[f"{v:g}" for v in x])
        axis.minorticks_off()
        axis.legend(frameon=False)
    figure.savefig(folder / f"growth_{result['name']}.png", dpi=100)
    plt.close(figure)


def main() -> None:
    """Run."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, default=Path("runs/growth"), help="folder for the plots")
    options = options.parse_args()
    host = machine()
    show_machine(host)
    quick, repeats = options.quick, 1 if options.quick else 5
    with threads(1):
        results = [
            study(
                "box",
                "box edge, voxels (batch 8)",
                (16, 24) if quick else (32, 48, 64, 96, 128),
                lambda n: simulation(n, 1 if quick else 8),
                (3, 3),
                repeats,
            ),
            study(
                "batch",
                "batch (40^3)",
                (1, 2) if quick else (1, 2, 4, 8, 16, 32, 64),
                lambda n: simulation(40, n),
                (1, 1),
                repeats,
            ),
            study(
                "templates",
                "classes = structures a class (batch 32; memory: of the library)",
                (1, 2) if quick else (1, 2, 4, 8, 16),
                lambda n: library_draws(n, n),
                (0, 2),
                repeats,
                memory_of=lambda n: templates(n, n),
            ),
            study(
                "tilts",
                "tilts (40^3, batch 4)",
                (3, 5) if quick else (11, 21, 41, 81, 161),
                tilt_series,
                (1, 1),
                repeats,
            ),
        ]
    options.output.mkdir(parents=True, exist_ok=True)
    for result in results:
        plot(result, options.output)
    print(f"\nplots in {options.output}")
    finish(options, "growth", host, {"studies": results})


if __name__ == "__main__":
    main()
