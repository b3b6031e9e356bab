"""The device that a command line asks for, before torch fails on it."""

from __future__ import annotations

import torch

from monai_cryo.bundle.expression import is_expression

__all__ = ["check_device"]


def check_device(text: str) -> None:
    """Refuse the name of a device that this machine does not have; an expression of a config is left alone.

    Raises
    ------
    ValueError
        If it is no device's name, or there is no such CUDA device.
    """
    if is_expression(text):
        return
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise ValueError(f"--device must be such as cpu, cuda or cuda:1, got {text!r}") from error
    if device.type not in ("cpu", "cuda", "mps", "xpu"):
        raise ValueError(f"--device must be such as cpu, cuda or cuda:1, got {text!r}")
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ValueError(f"--device {text}: this machine has {found or 'no'} CUDA device{'s' if found > 1 else ''}")
