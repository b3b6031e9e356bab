"""What a run was begun with, kept beside its results."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from monai_cryo.bundle.command import lay_over, read_command
from monai_cryo.bundle.expression import is_expression
from monai_cryo.io.atomic import write_text


def save_config(
    output_dir: str, provenance: Mapping[str, Any], writer: Any = None, argv: Sequence[str] | None = None
) -> None:
    """Write ``config.yaml``, all configs and options of this run in one file that runs it again, and log it.

    Nothing is written where the run was not begun by ``python -m monai.bundle run``: who builds a workflow in Python
    has its parser.

    Parameters
    ----------
    output_dir
        Where to.
    provenance
        What the run is made with (:func:`~.provenance.find_provenance`).
    writer
        TensorBoard ``SummaryWriter`` that gets the config, the command, the provenance, and the plain constants and
        versions (hparams); None: none.
    argv
        The command line; None: this process's.
    """
    argv = sys.argv if argv is None else argv
    command = read_command(argv)
    if command is None:
        return
    parser = ConfigParser()
    parser.read_config(command.files)
    lay_over(parser, command)
    del parser.config[parser.meta_key]
    line = "python -m monai.bundle " + shlex.join(argv[1:])
    facts = {name: value for name, value in provenance.items() if name != "config"}
    body = yaml.safe_dump(parser.config, sort_keys=False, allow_unicode=True, width=120)
    text = f"# {line}\n# {json.dumps(facts)}\n{body}"
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    write_text(Path(output_dir) / "config.yaml", text)
    if writer is not None:
        writer.add_text("command", f"`{line}`")
        writer.add_text("provenance", "\n".join(f"    {row}" for row in json.dumps(facts, indent=1).splitlines()))
        writer.add_text("config", "\n".join(f"    {row}" for row in text.splitlines()))
        versions = {f"versions/{name}": version for name, version in facts["versions"].items()}
        known = {name: value for name, value in facts.items() if isinstance(value, str | int)}
        _log_constants(writer, {**parser.config, **known, **versions})


def _log_constants(writer: Any, config: dict[str, Any]) -> None:
    """Fill TensorBoard's HPARAMS table in the run's own log; ``add_hparams`` would begin another one."""
    from torch.utils.tensorboard.summary import hparams

    plain_values: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, bool | int | float) or (isinstance(value, str) and not is_expression(value)):
            plain_values[name] = value
        elif isinstance(value, list) and not any(isinstance(v, dict | str) for v in value):
            plain_values[name] = str(value)
    for summary in hparams(plain_values, {"validation/mean_iou": 0.0, "validation/accuracy": 0.0}):
        writer.file_writer.add_summary(summary)
