"""The SLURM script hands torchrun what it needs, and options to the training."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from monai_cryo.bundle import check_overrides

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "slurm" / "train.sh"
STAND_INS = {
    "scontrol": "printf 'node3\\nnode4\\n'",
    "srun": 'echo "$*" >> "$(dirname "$0")/said"; while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "torchrun": 'printf "%s\\n" "threads $OMP_NUM_THREADS" "$@"',
}


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_what_the_script_begins(tmp_path):
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "1234567",
        "SLURM_JOB_NODELIST": "node[3-4]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_CPUS_PER_TASK": "8",
    }
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OUTPUT": "runs/with space", **slurm}
    command = ["bash", str(SCRIPT), "--max_epochs", "3", "--snr", "[0.1, 2]"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=SCRIPT.parents[2], env=environment)
    threads, *given = done.stdout.splitlines()
    assert threads == "threads 2"
    torchrun, training = given[: given.index("-m")], given[given.index("-m") + 1 :]
    endpoint = torchrun.pop()
    assert torchrun == [
        "--nnodes=2",
        "--nproc_per_node=4",
        "--rdzv_id=1234567",
        "--rdzv_backend=c10d",
    ]
    assert re.fullmatch(r"--rdzv_endpoint=node3:\d+", endpoint)
    with socket.socket() as free:  # asked for on the node it is for
        free.bind(("", int(endpoint.rpartition(":")[2])))
    first, second = (tmp_path / "said").read_text().splitlines()
    assert first.startswith("--nodes=1 --ntasks=1 --nodelist=node3 python -c import socket")
    assert second.startswith("--kill-on-bad-exit=1 --cpus-per-task=8 torchrun --nnodes=2")
    files = training[training.index("--config_file") + 1].strip("[]").replace("'", "").split(",")
    assert all((SCRIPT.parents[2] / file).is_file() for file in files)
    assert training[-8:] == ["--output_dir", "runs/with space", "--resume", "auto", *command[2:]]
    # as the training reads it, whose files are found from here
    whole = str([str(SCRIPT.parents[2] / file) for file in files])
    check_overrides(["monai.bundle", *training[1 : training.index("--config_file") + 1], whole, *training[-8:]])
