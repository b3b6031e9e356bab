"""In which number format a network computes: bfloat16 where the device is faster in it, else float32."""

from __future__ import annotations

import logging
from functools import cache

import torch

from monai_cryo._typing import Precision

__all__ = ["computes_in_bfloat16"]

_logger = logging.getLogger(__name__)


@torch.compiler.assume_constant_result
def computes_in_bfloat16(precision: Precision, device_type: str) -> bool:
    """Decide between float32 and bfloat16, and say once a process what ``"auto"`` became.

    Parameters
    ----------
    precision
        ``"float32"`` and ``"bfloat16"`` are taken at their word; ``"auto"`` is bfloat16 where it is faster: on GPUs
        that have it and on processors with AMX. Those with AVX512-BF16 but no AMX are slower in it (quick network, two
        threads: 1.26 s a step against 1.13 s), those with neither emulate it (2.9 s with AVX512, 21 s with AVX2).
    device_type
        ``"cpu"``, ``"cuda"``, ...

    Returns
    -------
    bool
        True for bfloat16.
    """
    return _decide(precision, device_type)


@cache
def _decide(precision: Precision, device_type: str) -> bool:
    device = "GPU" if device_type == "cuda" else "processor"
    if precision == "auto":
        fast = _is_fast(device_type)
        chosen, why = ("bfloat16", "faster") if fast else ("float32", "bfloat16 is no faster")
        _logger.info("precision: %s (%s on this %s)", chosen, why, device)
        return fast
    if precision == "bfloat16" and device_type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        _logger.warning("precision: this processor emulates bfloat16, many times slower than float32; use auto")
    return precision == "bfloat16"


def _is_fast(device_type: str) -> bool:
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # oneDNN's own answer is yes for AVX512 without BF16 too, where it emulates; but it knows of ONEDNN_MAX_CPU_ISA=AVX2
    return (
        device_type == "cpu"
        and bool(torch.cpu._is_amx_tile_supported())
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
