"""Options of a ``monai.bundle run`` command line, checked before anything is computed."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Sequence
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow, run, run_workflow

from monai_cryo._refusals import show_error
from monai_cryo.bundle.command import (
    PATHS,
    Command,
    is_number,
    lay_over,
    near,
    parsed,
    place,
    read_command,
    running_parser,
    top,
)
from monai_cryo.bundle.device import check_device
from monai_cryo.bundle.expression import is_expression
from monai_cryo.io.folder import check_folder

#: options that are whole numbers, and the lowest they may be
_LOWEST = {"max_epochs": 1, "epoch_length": 1, "batch_size": 1, "val_length": 1, "val_interval": 1}
_LOWEST |= {"seed": 0, "num_workers": 0}
#: options that are numbers, and must be larger than 0
_POSITIVE = {"learning_rate"}
#: options that are numbers, or null
_NUMBERS = {"file_voxel_size", "tilt_voxel_size", "voxel_size", "box", "ema", "checkpoint_minutes"}
#: what belongs to MONAI's command
_OF_MONAI = {name for call in (run, run_workflow, ConfigWorkflow) for name in inspect.signature(call).parameters}
#: what MONAI asks of every bundle, read or not
_UNREAD = {"bundle_root", "dataset_dir"}
#: likewise in a config laid over others; quick.yaml sets `standardize`, which robust.yaml has a spectrum for
_LAID_OVER = _UNREAD | {"standardize"}


def start(argv: Sequence[str] | None = None) -> None:
    """Begin a bundle run: refuse unknown options now, and end with one line instead of a page where input is bad.

    ``monai.bundle`` accepts a mistyped ``--max_iteration`` in silence; here it is an error that names the near match.
    ``true``, ``false`` and ``null`` on the command line, which it hands over as words or leaves out, are put into the
    config as YAML reads them.

    Raises
    ------
    ValueError
        On an option that no config has at its top level, or a word that belongs to none; or if ``output_dir`` cannot
        be written.
    """
    sys.excepthook = show_error
    argv = sys.argv if argv is None else argv
    if any(part.partition("=")[0] == "--args_file" for part in argv):
        raise ValueError("--args_file is not read here: put its options into a config, last in --config_file")
    check_overrides(argv)
    command, parser = read_command(argv), running_parser()
    if command is not None and parser is not None:
        lay_over(parser, command)
        folder = parser.config.get("output_dir")
        if isinstance(folder, str) and not is_expression(folder):
            check_folder(folder)


def check_overrides(argv: Sequence[str]) -> None:
    """Compare the options of a ``monai.bundle run`` command line with the configs they are laid over.

    Raises
    ------
    ValueError
        On an option that no config has, one that nothing in these configs reads, in a config laid over another too, or
        on a value that cannot be meant.
    """
    command = read_command(argv)
    if command is None:
        return
    config = ConfigParser.load_config_files(command.files)
    if command.words and top(command.words[0]) not in config:
        raise ValueError(f"nothing to run is called {command.words[0]!r}{near(command.words[0], config)}")
    read = references(config) | references(command.options)
    _check_files(command.files, read)
    for name, text in command.options.items():
        if top(name) not in config and top(name) not in _OF_MONAI:
            known = sorted({*config, *_OF_MONAI})
            hint = near(top(name), known, "--") or f": known: {', '.join(known)}"
            raise ValueError(f"unknown option --{name}{hint}")
        if top(name) in _OF_MONAI:
            continue
        _check_value(name, text, config)
        if is_constant(config[top(name)]) and top(name) not in read | _UNREAD:
            raise ValueError(f"--{name} has no effect: nothing in {', '.join(command.files)} reads it")
    _check_words(command)


def _check_files(files: Sequence[str], read: set[str]) -> None:
    """Refuse a constant of a config laid over others that nothing reads."""
    earlier = set[str]()
    for file in files:
        content = ConfigParser.load_config_file(file)
        for name, value in content.items():
            if earlier and name.isidentifier() and name not in read | _LAID_OVER and is_constant(value):
                raise ValueError(f"{file}: nothing reads {name}{near(name, (earlier | read) - {name})}")
        earlier |= set(content)


def _check_value(name: str, text: str, config: dict[str, Any]) -> None:
    """Refuse an option's value that cannot be meant."""
    default = place(name, config)
    if isinstance(default, str) and default[:1] == "@" and default[1:] in config:
        default = config[default[1:]]
    if isinstance(default, bool) and text.lower() not in ("true", "false"):
        raise ValueError(f"--{name} must be true or false, got {text!r}")
    if name in _LOWEST and not (text.isdecimal() and int(text) >= _LOWEST[name]):
        raise ValueError(f"--{name} must be a whole number >= {_LOWEST[name]}, got {text!r}")
    if name in _LOWEST and int(text) >= 1 << 32:
        raise ValueError(f"--{name} must be below 2^32, got {text}")
    if name in _POSITIVE and not _is_positive(text):
        raise ValueError(f"--{name} must be a number > 0, got {text!r}")
    if name == "device":
        check_device(text)
    _check_kind(name, text, default)


def check_started(argv: Sequence[str] | None = None) -> None:
    """Refuse words without dashes, for the first step of a run: MONAI takes the second for what to run before.

    `start` is then left out, and nothing else would say so.

    Raises
    ------
    ValueError
        On such a word.
    """
    command = read_command(sys.argv if argv is None else argv)
    if command is not None:
        sys.excepthook = show_error
        _check_words(command)


def _check_words(command: Command) -> None:
    if len(command.words) > 1:
        raise ValueError(f"unexpected {command.words[1]!r} on the command line: options begin with --")


def _check_kind(name: str, text: str, default: Any) -> None:
    """Refuse what is of another kind than the config's value: a word for a number, null for a file, and so on."""
    value = parsed(text)
    if is_expression(value):
        return
    if name in _NUMBERS and not is_number(value) and value is not None:
        raise ValueError(f"--{name} must be a number or null, got {text!r}")
    if is_number(default) and isinstance(value, bool | dict | str):
        raise ValueError(f"--{name} must be a number, as {default!r} in the config is, got {text!r}")
    text_wanted = isinstance(default, str) and not is_expression(default) and name not in PATHS | {"norm"}
    if text_wanted and value is None:
        raise ValueError(f"--{name} must be text, as {default!r} in the config is, got {text!r}")
    if name == "ckpt" and value is None:
        raise ValueError(f"--ckpt must be a model file, got {text!r}")
    names = isinstance(default, list) and all(isinstance(v, str) for v in default)
    if names and not isinstance(value, str | list):
        raise ValueError(f"--{name} must be a name or a list of names, got {text!r}")
    if default == {} and not isinstance(value, dict):
        raise ValueError(f"--{name} must be names with values, such as '{{a: 1}}', got {text!r}")


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return is_expression(text)


def is_constant(value: Any) -> bool:
    """Whether a top-level entry is a constant to be read by others, and no expression, object or list of steps."""
    if isinstance(value, list):
        return all(is_constant(v) for v in value)
    if isinstance(value, dict):
        return "_target_" not in value and all(is_constant(v) for v in value.values())
    return not is_expression(value)


def references(value: Any) -> set[str]:
    """Top-level names that expressions and references in a config speak of."""
    if isinstance(value, dict):
        return set().union(*(references(v) for v in value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*(references(v) for v in value)) if value else set()
    if is_expression(value):
        return set(re.findall(r"[@%]([A-Za-z_]\w*)", value))
    return set()
