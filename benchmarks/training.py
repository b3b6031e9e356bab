"""Seconds an iteration of training, what simulation adds to it, and the network's own floor.

The floor of a network is forward and backward of its convolutions alone, one after another on tensors of the shapes
they meet, without activations, pooling, normalisation, loss and optimiser.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch
from common import (
    RECIPES,
    VOXEL_SIZE,
    bundle,
    collate,
    compare,
    extra_memory_mib,
    finish,
    machine,
    parser,
    peak_memory_mib,
    show_machine,
    table,
)
from torch import Tensor, nn

from monai_cryo.data import TemplateDataset

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: where bfloat16 is emulated, a step takes half a minute
PRECISIONS = (
    ("float32", "bfloat16") if DEVICE == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported() else ("float32",)
)


class Training:
    """The training step of a recipe, as the bundle puts it together."""

    def __init__(self, recipe: str, precision: str, batch: int, box: int) -> None:
        torch.manual_seed(0)
        sizes = {"batch_size": batch, "box": box, "voxel_size": VOXEL_SIZE * 40 / box}
        config = bundle(recipe, precision=precision, device=DEVICE, **sizes)
        self.network: nn.Module = config.get_parsed_content("network").train()
        self.forward: Callable[[Tensor], Any] = self.network
        self.optimizer = config.get_parsed_content("optimizer")
        self.loss = config.get_parsed_content("loss")
        self.prepare = config.get_parsed_content("prepare_batch")
        self.dataset = TemplateDataset(config.get_parsed_content("library"), 1 << 20, balanced=True)
        self.batch, self.drawn = batch, 0
        self.image, self.label = self.simulate()

    def simulate(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw the next batch of particles and image it."""
        self.drawn += self.batch
        image, label = self.prepare(collate(self.dataset, self.batch, self.drawn), DEVICE)
        return image, label

    def step(self, image: Tensor, label: dict[str, Tensor]) -> None:
        """One iteration from tensors that are there."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.forward(image), label).backward()
        self.optimizer.step()

    def ready(self) -> None:
        """One iteration from ready tensors."""
        self.step(self.image, self.label)

    def simulated(self) -> None:
        """One iteration with its simulation."""
        self.step(*self.simulate())

    def convolutions(self) -> Callable[[], None]:
        """Return forward and backward of the convolutions alone."""
        met: list[tuple[nn.Module, tuple[Any, ...], Tensor]] = []

        def meet(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            met.append((layer, tuple(v.detach() if isinstance(v, Tensor) else v for v in inputs), output.detach()))

        layers = [m for m in self.network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
        hooks = [layer.register_forward_hook(meet) for layer in layers]
        self.network(self.image)
        for hook in hooks:
            hook.remove()
        first = layers[0]

        def call() -> None:
            for layer, inputs, output in met:
                x = inputs[0].requires_grad_(layer is not first)
                with torch.autocast(x.device.type, torch.bfloat16, enabled=output.dtype == torch.bfloat16):
                    y = layer(x, *inputs[1:])
                wanted = [*layer.parameters(), *([x] if x.requires_grad else [])]
                torch.autograd.grad(y, wanted, output)

        return call


def memory(recipe: str, precision: str, batch: int, box: int) -> float:
    """Peak memory of two training iterations, in MiB; to be called in a fresh process."""
    training = Training(recipe, precision, batch, box)
    if DEVICE == "cuda":
        return extra_memory_mib(training.simulated, DEVICE) or 0.0
    training.simulated()
    training.simulated()
    return peak_memory_mib()


def compiled(recipe: str, precision: str, batch: int, box: int, repeats: int) -> dict[str, float]:
    """Time a compiled network beside the plain one; to be called in a fresh process."""
    import time

    plain, fast = Training(recipe, precision, batch, box), Training(recipe, precision, batch, box)
    fast.forward = torch.compile(fast.network)
    begin = time.perf_counter()
    fast.ready()
    compile_s = time.perf_counter() - begin
    functions = {"plain": plain.ready, "compiled": fast.ready}
    times = compare(functions, repeats=repeats, device=DEVICE, cpu_time=on_one_thread())
    return {"compile_s": compile_s, "step_s": times["compiled"]["median_s"], "to_plain": times["compiled"]["ratio"]}


def on_one_thread() -> bool:
    """Whether CPU time is what to measure: one thread, no GPU."""
    return DEVICE == "cpu" and torch.get_num_threads() == 1


def _child(queue: Any, function: Callable[..., Any], arguments: tuple[Any, ...], threads: int) -> None:
    torch.set_num_threads(threads)
    queue.put(function(*arguments))


def in_fresh_process(function: Callable[..., Any], *arguments: Any, timeout_s: float = 120) -> Any:
    """Call in a new process; None if it fails or takes too long."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_child, args=(queue, function, arguments, torch.get_num_threads()))
    process.start()
    process.join(timeout_s)
    if process.is_alive():
        process.kill()
        process.join()
    return queue.get(timeout=5) if process.exitcode == 0 else None


def measure(recipe: str, batch: int, box: int, repeats: int, with_compile: bool) -> dict[str, Any]:
    """Time a recipe in all precisions in turns."""
    trainings = {precision: Training(recipe, precision, batch, box) for precision in PRECISIONS}
    functions: dict[str, Callable[[], Any]] = {}
    for name, training in trainings.items():
        functions[f"{name}: ready"] = training.ready
        functions[f"{name}: convolutions"] = training.convolutions()
        functions[f"{name}: simulated"] = training.simulated
    functions["simulation"] = trainings["float32"].simulate
    times = compare(functions, repeats=repeats, device=DEVICE, seconds=50, cpu_time=on_one_thread())
    plain = times["float32: ready"]["median_s"]
    rows = {}
    for name in PRECISIONS:
        step, simulated, convolutions = (
            times[f"{name}: {what}"]["median_s"] for what in ("ready", "simulated", "convolutions")
        )
        rows[name] = {
            "ready_s": step,
            "simulated_s": simulated,
            "price_of_simulation": simulated / step - 1,
            "simulation_alone": times["simulation"]["median_s"] / step,
            "convolutions_s": convolutions,
            "to_convolutions": step / convolutions,
            "faster_than_float32": plain / step,
            "peak_memory_mib": in_fresh_process(memory, recipe, name, batch, box),
        }
    result = {
        "recipe": recipe,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "simulation_s": times["simulation"]["median_s"],
        "precisions": rows,
        "compile": None,
    }
    if with_compile:
        result["compile"] = in_fresh_process(compiled, recipe, "auto", batch, box, max(3, repeats // 2)) or "failed"
    return result


def main() -> None:
    """Run."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--recipe", choices=RECIPES, action="append", help="some alone; default: quick and paper")
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--threads", type=int, default=torch.get_num_threads(), help="1: takes CPU time")
    options = options.parse_args()
    torch.set_num_threads(options.threads)
    host = machine()
    show_machine(host)
    quick = options.quick
    results = []
    for recipe in ("quick",) if quick else options.recipe or ("quick", "paper"):
        batch, box, repeats = (2, 16, 1) if quick else (options.batch, 40, 2 if recipe == "paper" else 9)
        result = measure(recipe, batch, box, repeats, with_compile=recipe == "quick" and not quick)
        results.append(result)
        names = ("ready_s", "simulated_s", "price_of_simulation", "simulation_alone", "convolutions_s")
        names = (*names, "to_convolutions", "faster_than_float32", "peak_memory_mib")
        table(
            [f"{recipe} features, batch {batch}, {result['threads']} threads", *names],
            [[name, *(row[k] for k in names)] for name, row in result["precisions"].items()],
        )
        print(f"simulation alone {result['simulation_s']:.3f} s; torch.compile: {result['compile']}")
    finish(options, "training", host, {"recipes": results})


if __name__ == "__main__":
    main()
