"""A training command that cannot be meant ends in one line, before anything is built or written."""

from __future__ import annotations

import sys

import fire
import pytest
import torch
from monai.bundle import run as run_bundle

from monai_cryo._refusals import find_refusal


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda"], "--device cuda: this machine has no CUDA device"),
        (["--device", "cuda:3"], "--device cuda:3: this machine has no CUDA device"),
        (["--device", "gpu"], "--device must be such as cpu, cuda or cuda:1, got 'gpu'"),
        (["--learning_rate", "-1"], "--learning_rate must be a number > 0, got '-1'"),
        (["--learning_rate", "fast"], "--learning_rate must be a number > 0, got 'fast'"),
        (["--learning_rate", "nan"], "--learning_rate must be a number > 0, got 'nan'"),
        (["--batch_size", "abc"], "--batch_size must be a whole number >= 1, got 'abc'"),
        (["--device", "meta"], "--device must be such as cpu, cuda or cuda:1, got 'meta'"),
        (["--seed", "99999999999"], "--seed must be below 2^32, got 99999999999"),
        (["--dropout", "high"], "--dropout must be a number, as 0.7 in the config is, got 'high'"),
        (["--hold_out", "3"], "--hold_out must be a name or a list of names, got '3'"),
        (["--norm", "foo"], "norm must be null or one of"),
        (["--fc", "3"], "fc must hold 2 layer widths, whole numbers from 1, got 3"),
        (["--world_size", "2"], "world_size is 2, the number of processes 1"),
        (["--checkpoint_minutes", "-1"], "checkpoint_minutes must be a number >= 0 or null, got -1"),
        (["--output_dir", "file"], "file cannot be the output folder"),
        (["--output_dir", "file/inner"], "file is a file"),
        (["snr", "1"], "unexpected 'snr' on the command line: options begin with --"),
    ],
)
@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")  # says MONAI of every config
def test_it_is_refused_in_one_line(bundle_root, tmp_path, monkeypatch, capsys, words, message):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("MONAI_CRYO_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)  # the run sets it, as runs before this one did
    files = str([str(bundle_root / "configs" / "train.yaml")])
    positional = [word for word in words if not words[0].startswith("--")]
    command = ["monai.bundle", "run", "training", *positional, "--config_file", files, "--features", "[2,2,2,2,2]"]
    command += [] if positional else words
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises((RuntimeError, ValueError)) as error:
        fire.Fire(component={"run": run_bundle}, command=command[1:])
    assert message in str(find_refusal(error.value))
    assert sys.excepthook is not sys.__excepthook__
    capsys.readouterr()
    sys.excepthook(error.type, error.value, error.tb)
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
