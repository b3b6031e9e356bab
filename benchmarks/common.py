"""What the benchmarks share: the machine, timing whose ratios come from one run, memory, tables, the real pipeline."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigParser
from monai.data.utils import list_data_collate

import monai_cryo
from monai_cryo.io.atomic import write_text
from monai_cryo.templates import load_templates

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "subtomogram" / "configs"
VOXEL_SIZE = load_templates().voxel_size  # of the embedded ones, the paper's


def parser(description: str) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--json", type=Path, help="write all figures to this file")
    options.add_argument("--quick", action="store_true", help="smallest sizes: to see that it runs, not for figures")
    return options


def machine() -> dict[str, Any]:
    """Describe what the figures were taken on."""
    cpu = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "monai_cryo": monai_cryo.__version__,
        "load_before": round(os.getloadavg()[0], 2),
    }


def finish(options: argparse.Namespace, name: str, host: dict[str, Any], results: Mapping[str, Any]) -> None:
    """Say how busy the machine was, and write the JSON."""
    host["load_after"] = round(os.getloadavg()[0], 2)
    print(f"\nload average {host['load_before']} before, {host['load_after']} after (this process included)")
    if options.json:
        text = json.dumps({"benchmark": name, "quick": options.quick, "machine": host, **results}, indent=1)
        write_text(options.json, text + "\n")
        print(f"figures in {options.json}")


def show_machine(host: Mapping[str, Any]) -> None:
    """Print the machine in one line."""
    print(", ".join(f"{key} {value}" for key, value in host.items() if value is not None), flush=True)


def compare(
    functions: Mapping[str, Callable[[], Any]],
    *,
    repeats: int,
    baseline: str | None = None,
    cpu_time: bool = False,
    device: torch.device | str = "cpu",
    seconds: float = float("inf"),
) -> dict[str, dict[str, float]]:
    """Time functions in turns, A B C A B C, so that all of them see the same machine.

    Parameters
    ----------
    functions
        Name -> what to time; each runs once before, to warm up.
    repeats
        Rounds, at most.
    baseline
        Name of the function the others' ratios are to; the first if None.
    cpu_time
        Take the process's CPU time: what one thread needs, nearly whatever else the machine does. Else wall time.
    device
        A GPU is waited for.
    seconds
        No new round begins after this time, but there are three at least (or ``repeats``).

    Returns
    -------
    dict
        Name -> ``median_s``, ``min_s``, ``ratio`` (median over the rounds of the ratio within the round).
    """
    clock = time.process_time if cpu_time else time.perf_counter
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else (lambda: None)
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    for i in range(repeats):
        if i >= min(3, repeats) and time.perf_counter() - start > seconds:
            break
        for name, function in functions.items():
            wait()
            begin = clock()
            function()
            wait()
            times[name].append(clock() - begin)
    base = times[baseline or next(iter(functions))]
    return {
        name: {
            "median_s": statistics.median(values),
            "min_s": min(values),
            "ratio": statistics.median(v / b for v, b in zip(values, base, strict=True)),
        }
        for name, values in times.items()
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_memory_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    with suppress(OSError, StopIteration):
        # ru_maxrss is inherited from the parent; this is not
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def extra_memory_mib(function: Callable[[], Any], device: torch.device | str = "cpu") -> float | None:
    """Peak memory in MiB that a call adds to what the process holds; None where the system does not tell."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    except (OSError, AttributeError):
        return None
    before_mib = peak_memory_mib()
    function()
    return peak_memory_mib() - before_mib


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table in Markdown, numbers with three digits."""

    def text(value: Any) -> str:
        return (
            "-"
            if value is None
            else f"{value:.3g}"
            if isinstance(value, float) and value < 100
            else (f"{value:.0f}" if isinstance(value, float) else str(value))
        )

    cells = [list(header), *([text(v) for v in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
    print("\n" + "\n".join(lines), flush=True)


#: recipe -> what is laid over the paper's, and the options of the shipped model's own
RECIPES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "paper": ((), {}),
    "quick": (("quick",), {}),
    "robust": (("robust", "quick"), {}),
    "shipped": (("robust", "quick"), {"features": [8, 16, 64, 128, 256]}),
}


def bundle(recipe: str = "paper", **overrides: Any) -> ConfigParser:
    """Return the parsed training bundle of a recipe, one of `RECIPES`."""
    names, own = RECIPES[recipe]
    overrides = {**own, **overrides}
    config = ConfigParser()
    config.read_config([str(CONFIGS / f"{name}.yaml") for name in ("train", *names)])
    config.update({name: value for name, value in overrides.items()})
    config.parse()
    return config


def collate(dataset: Any, count: int, start: int = 0) -> dict[str, Any]:
    """Return a batch as the DataLoader yields it."""
    batch: dict[str, Any] = list_data_collate([dataset[start + i] for i in range(count)])
    return batch
