from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import torch

from monai_cryo.bundle import bundle_root
from monai_cryo.networks import TwoBranchNet, precision
from monai_cryo.networks.precision import computes_in_bfloat16


@pytest.fixture(autouse=True)
def decide_anew() -> None:
    precision._decide.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, amx: bool, onednn: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)


@pytest.mark.parametrize(
    ("amx", "onednn", "bfloat16"),
    [
        (True, True, True),
        (False, True, False),  # AVX512 with or without BF16: slower, or emulated though oneDNN says yes
        (False, False, False),  # AVX2
        (True, False, False),  # AMX, but oneDNN was told to keep to AVX2
    ],
)
def test_auto_on_processors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, amx: bool, onednn: bool, bfloat16: bool
) -> None:
    pretend(monkeypatch, amx, onednn)
    caplog.set_level(logging.INFO)
    for _ in range(3):
        assert computes_in_bfloat16("auto", "cpu") is bfloat16
    expected = "bfloat16 (faster" if bfloat16 else "float32 (bfloat16 is no faster"
    assert caplog.messages == [f"precision: {expected} on this processor)"]


@pytest.mark.parametrize("supported", [False, True])
def test_auto_on_gpus(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    pretend(monkeypatch, not supported, not supported)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported or including_emulation
    )
    assert computes_in_bfloat16("auto", "cuda") is supported


def test_auto_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, True, True)
    assert not computes_in_bfloat16("auto", "mps")


@pytest.mark.parametrize("onednn", [False, True])
def test_taken_at_its_word_with_a_warning_where_emulated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, onednn: bool
) -> None:
    pretend(monkeypatch, False, onednn)
    assert computes_in_bfloat16("bfloat16", "cpu")
    assert not computes_in_bfloat16("float32", "cpu")
    warned = ["precision: this processor emulates bfloat16, many times slower than float32; use auto"]
    assert caplog.messages == ([] if onednn else warned)


@pytest.mark.slow
def test_auto_network_is_float32_on_an_ordinary_processor_and_the_bundle_says_so() -> None:
    """AVX2 alone, as oneDNN and torch can be told to be."""
    code = f"""
import logging.config, torch
logging.config.fileConfig({str(bundle_root() / "configs" / "logging.conf")!r}, disable_existing_loggers=False)
from monai_cryo.networks import TwoBranchNet
network = TwoBranchNet(features=(2, 2, 2, 2, 2), fc=(2, 2), precision="auto")
network.encoder[0].register_forward_hook(lambda m, i, o: print(o.dtype))
network(torch.zeros(1, 1, 8, 8, 8)), network(torch.zeros(1, 1, 8, 8, 8))
"""
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=True
    )
    said, *dtypes = done.stdout.splitlines()
    assert said.endswith("INFO precision: float32 (bfloat16 is no faster on this processor)")
    assert dtypes == ["torch.float32"] * 2


def test_precision_is_shown() -> None:
    assert "precision=auto" in repr(TwoBranchNet(features=(2, 2, 2, 2, 2), fc=(2, 2), precision="auto"))


def test_compiles_in_one_piece() -> None:
    network = TwoBranchNet(features=(2, 2, 2, 2, 2), fc=(2, 2), precision="auto").eval()
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x)["masks"], network(x)["masks"])
