"""Subtomograms a second of the network alone, its memory, and how long things take to start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import CONFIGS, bundle, compare, finish, machine, parser, peak_memory_mib, show_machine, table
from training import DEVICE, PRECISIONS, in_fresh_process, on_one_thread

RECIPES = ("quick", "paper")


def network(recipe: str, precision: str) -> torch.nn.Module:
    """Return a recipe's network for inference."""
    torch.manual_seed(0)
    built: torch.nn.Module = bundle(recipe, precision=precision, device=DEVICE).get_parsed_content("network")
    return built.eval()


@torch.inference_mode()
def memory(recipe: str, precision: str, batch: int, box: int) -> float:
    """Peak memory of one call in MiB; to be called in a fresh process."""
    network(recipe, precision)(torch.randn(batch, 1, box, box, box, device=DEVICE))
    return torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else peak_memory_mib()


@torch.inference_mode()
def measure(recipe: str, batch: int, box: int, repeats: int) -> list[dict[str, Any]]:
    """Time all precisions in turns."""
    image = torch.randn(batch, 1, box, box, box, device=DEVICE)
    networks = {precision: network(recipe, precision) for precision in PRECISIONS}
    times = compare(
        {name: (lambda n=n: n(image)) for name, n in networks.items()},
        repeats=repeats,
        cpu_time=on_one_thread(),
        device=DEVICE,
        seconds=12,
    )
    return [
        {
            "recipe": recipe,
            "batch": batch,
            "precision": name,
            "per_s": batch / value["median_s"],
            "faster_than_float32": 1 / value["ratio"],
            "peak_memory_mib": in_fresh_process(memory, recipe, name, batch, box),
        }
        for name, value in times.items()
    ]


def command(*arguments: str) -> None:
    """Run Python to its end, silently."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)


def start_up(quick: bool) -> dict[str, dict[str, float]]:
    """Time the command line's help, the imports, and the bundle with two small iterations."""
    configs = str([str(CONFIGS / name) for name in ("train.yaml", "quick.yaml")])
    few = ["--max_epochs", "1", "--epoch_length", "2", "--batch_size", "4", "--val_interval", "2"]
    with tempfile.TemporaryDirectory() as folder:
        train = [
            "-m",
            "monai.bundle",
            "run",
            "training",
            "--bundle_root",
            str(CONFIGS.parent),
            "--config_file",
            configs,
        ]
        train += [*few, "--output_dir", str(Path(folder) / "run")]
        commands = {
            "python -c pass": lambda: command("-c", "pass"),
            "python -m monai_cryo --help": lambda: command("-m", "monai_cryo", "--help"),
        }
        if not quick:
            commands |= {
                "import torch": lambda: command("-c", "import torch"),
                "import monai": lambda: command("-c", "import monai"),
                "bundle: two iterations of 4, from start to end": lambda: command(*train),
            }
        return compare(commands, repeats=1 if quick else 5, seconds=40)


def main() -> None:
    """Run."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, default=torch.get_num_threads(), help="1: takes CPU time")
    options = options.parse_args()
    torch.set_num_threads(options.threads)
    host = machine()
    show_machine(host)
    quick = options.quick
    rows = []
    for recipe in RECIPES[:1] if quick else RECIPES:
        for batch in (2,) if quick else (1, 8, 32):
            rows += measure(recipe, batch, 16 if quick else 40, 1 if quick else 9)
    table(list(rows[0]), [list(row.values()) for row in rows])
    started = start_up(quick)
    table(
        ["start-up", "median s", "min s"],
        [[name, value["median_s"], value["min_s"]] for name, value in started.items()],
    )
    finish(options, "inference", host, {"network": rows, "start_up": started, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
