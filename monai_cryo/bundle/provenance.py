"""What a run was made with: enough to make it again, kept in all that it leaves behind."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

from monai_cryo import __version__
from monai_cryo.bundle.command import running_parser

__all__ = ["find_provenance"]

#: what is declared beside torch, MONAI and numpy
_ALSO = (
    "fire",
    "gemmi",
    "matplotlib",
    "mrcfile",
    "nibabel",
    "pytorch-ignite",
    "pyyaml",
    "scipy",
    "tensorboard",
    "torch-ctf",
)


def find_provenance(seed: int | None, device: str | torch.device, templates: str | None = None) -> dict[str, Any]:
    """Return what this run is made with, in plain values.

    Parameters
    ----------
    seed
        Of the run; None where nothing is drawn.
    device
        That it runs on.
    templates
        Digest of the library that it simulates; None where nothing is simulated.

    Returns
    -------
    dict
        ``seed``; ``versions`` of Python, monai_cryo and all that it declares to need, None of what was not installed
        as a package; ``commit``, that of the checkout the package lies in, with ``-dirty`` behind it where files were
        changed, None outside of one; ``device`` with its kind; ``threads``; ``ranks``, the number of processes;
        ``templates``; ``config``, all configs and options of the run laid over each other, where a config asks for
        this.
    """
    return {
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "monai": str(monai.__version__),
            "numpy": np.__version__,
            "monai_cryo": __version__,
            **{name: _version(name) for name in _ALSO},
        },
        "commit": _commit(Path(__file__).resolve().parents[2]),
        "device": _name(torch.device(device)),
        "threads": torch.get_num_threads(),
        "ranks": torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1,
        "templates": templates,
        "config": _config(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or a checkout of somebody else's
        return None


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"


def _config() -> dict[str, Any] | None:
    parser = running_parser()
    if parser is None:
        return None
    return {name: _plain(value) for name, value in parser.config.items() if name != parser.meta_key}


def _plain(value: Any) -> Any:
    """Return a config's value as a file holds it; objects, which only Python can put there, as they show themselves."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
