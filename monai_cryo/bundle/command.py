"""The ``monai.bundle run`` command line: checked before anything is computed, and kept beside the results."""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from fire.parser import DefaultParseValue  # type: ignore[import-untyped]
from monai.bundle import ConfigParser, run
from monai.bundle.utils import ID_SEP_KEY

from monai_cryo._refusals import show_error
from monai_cryo.bundle.device import check_device
from monai_cryo.io.atomic import write_text
from monai_cryo.io.folder import check_folder

_WORDS = {"true": True, "false": False, "null": None, "none": None, "~": None}
#: options that are whole numbers, and the lowest they may be
_LOWEST = {"max_epochs": 1, "epoch_length": 1, "batch_size": 1, "val_length": 1, "val_interval": 1}
_LOWEST |= {"seed": 0, "num_workers": 0}
#: options that are numbers, and must be larger than 0
_POSITIVE = {"learning_rate"}
#: options that are numbers, or null
_NUMBERS = {"file_voxel_size", "tilt_voxel_size", "voxel_size", "box", "ema", "checkpoint_minutes"}
#: options that are files or folders: a number is a name, too
_PATHS = {"ckpt", "pretrained", "resume", "templates", "tomograms", "dataset_dir"}
#: what MONAI asks of every bundle, read or not
_UNREAD = {"bundle_root", "dataset_dir"}


@dataclass
class Command:
    """What a command line says.

    Attributes
    ----------
    files
        Config files, each laid over those before it.
    options
        Option -> its text, in the order given.
    words
        What stands without dashes; the first is the run's id.
    """

    files: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)


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
    command, parser = _read(argv), running_parser()
    if command is not None and parser is not None:
        _lay_over(parser, command)
        folder = parser.config.get("output_dir")
        if isinstance(folder, str) and folder[:1] not in "$@%":
            check_folder(folder)


def check_overrides(argv: Sequence[str]) -> None:
    """Compare the options of a ``monai.bundle run`` command line with the configs they are laid over.

    Raises
    ------
    ValueError
        On an option that no config has, one that nothing in these configs reads, in a config laid over another too, or
        on a value that cannot be meant.
    """
    command = _read(argv)
    if command is None:
        return
    config, earlier = ConfigParser.load_config_files(command.files), set[str]()
    if command.words and _top(command.words[0]) not in config:
        near = difflib.get_close_matches(command.words[0], config, n=1)
        raise ValueError(
            f"nothing to run is called {command.words[0]!r}" + (f": did you mean {near[0]}?" if near else "")
        )
    own = set(inspect.signature(run).parameters)
    known = set(config) | own
    read = _references(config) | _references(command.options)
    for file in command.files:
        content = ConfigParser.load_config_file(file)
        for name, value in content.items():
            # what is laid over a config sets what is there, or what something reads
            if earlier and name.isidentifier() and name not in earlier | read | _UNREAD and _is_constant(value):
                near = difflib.get_close_matches(name, earlier | read, n=1)
                raise ValueError(f"{file}: nothing reads {name}" + (f": did you mean {near[0]}?" if near else ""))
        earlier |= set(content)
    for name, text in command.options.items():
        top = _top(name)
        if top not in known:
            near = difflib.get_close_matches(top, known, n=1)
            hint = f"did you mean --{near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise ValueError(f"unknown option --{name}: {hint}")
        if top in own:
            continue
        default = _default(name, config)
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
        if _is_constant(config[top]) and top not in read | _UNREAD:
            raise ValueError(f"--{name} has no effect: nothing in {', '.join(command.files)} reads it")
    _check_words(command)


def check_started(argv: Sequence[str] | None = None) -> None:
    """Refuse words without dashes, for the first step of a run: MONAI takes the second for what to run before.

    `start` is then left out, and nothing else would say so.

    Raises
    ------
    ValueError
        On such a word.
    """
    command = _read(sys.argv if argv is None else argv)
    if command is not None:
        sys.excepthook = show_error
        _check_words(command)


def _check_words(command: Command) -> None:
    if len(command.words) > 1:
        raise ValueError(f"unexpected {command.words[1]!r} on the command line: options begin with --")


def _check_kind(name: str, text: str, default: Any) -> None:
    """Refuse what is of another kind than the config's value: a word for a number, null for a file, and so on."""
    value = _parsed(text)
    if isinstance(value, str) and value[:1] in tuple("$@%"):
        return
    if name in _NUMBERS and not _is_number(value) and value is not None:
        raise ValueError(f"--{name} must be a number or null, got {text!r}")
    if _is_number(default) and isinstance(value, bool | dict | str):
        raise ValueError(f"--{name} must be a number, as {default!r} in the config is, got {text!r}")
    if isinstance(default, str) and default[:1] not in tuple("$@%") and value is None and name not in _PATHS | {"norm"}:
        raise ValueError(f"--{name} must be text, as {default!r} in the config is, got {text!r}")
    names = isinstance(default, list) and all(isinstance(v, str) for v in default)
    if names and not isinstance(value, str | list):
        raise ValueError(f"--{name} must be a name or a list of names, got {text!r}")
    if default == {} and not isinstance(value, dict):
        raise ValueError(f"--{name} must be names with values, such as '{{a: 1}}', got {text!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return text[:1] in tuple("$@%")


def _is_constant(value: Any) -> bool:
    """Whether a top-level entry is a constant to be read by others, and no expression, object or list of steps."""
    if isinstance(value, list):
        return all(_is_constant(v) for v in value)
    if isinstance(value, dict):
        return "_target_" not in value and all(_is_constant(v) for v in value.values())
    return not isinstance(value, str) or value[:1] not in "$%@"


def _references(value: Any) -> set[str]:
    """Top-level names that expressions and references in a config speak of."""
    if isinstance(value, dict):
        return set().union(*(_references(v) for v in value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*(_references(v) for v in value)) if value else set()
    if isinstance(value, str) and value[:1] in "$@%":
        return set(re.findall(r"[@%]([A-Za-z_]\w*)", value))
    return set()


def _default(name: str, config: dict[str, Any]) -> Any:
    """Return what the config has at the place of an option; None for an argument of an object that is not set there.

    Raises
    ------
    ValueError
        On a place that is not there, such as ``train#epochs``.
    """
    node: Any = config
    path = name.replace("#", ID_SEP_KEY).split(ID_SEP_KEY)
    for depth, part in enumerate(path):
        if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, dict) and "_target_" in node and depth == len(path) - 1:
            return None
        else:
            where = "#".join(path[:depth])
            near = difflib.get_close_matches(part, node, n=1) if isinstance(node, dict) else []
            hint = f": did you mean {near[0]}?" if near else ""
            raise ValueError(f"unknown option --{name}: {where} has no {part!r}{hint}")
    return node


def running_parser() -> ConfigParser | None:
    """Return the parser that evaluates the calling expression: MONAI hands it to none; None outside of one."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), ConfigParser):
            return found
        frame = frame.f_back
    return None


def _lay_over(parser: ConfigParser, command: Command) -> None:
    """Put the options of a command into its config, as `monai.bundle` does, but with words as YAML reads them."""
    for name, text in command.options.items():
        if _top(name) in parser.config:
            value = _parsed(text)
            if _is_number(value):
                default = _default(name, parser.config)
                if name.endswith("_dir") or name in _PATHS or (isinstance(default, str) and default[:1] not in "$@%"):
                    value = text  # a folder named like a number
            parser[name.replace("#", ID_SEP_KEY)] = value


def _parsed(text: str) -> Any:
    """Value of an option's text: as `monai.bundle` reads it, but with words as YAML has them."""
    return _as_yaml(DefaultParseValue(text))


def _as_yaml(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_yaml(v) for v in value]
    if isinstance(value, dict):
        return {k: _as_yaml(v) for k, v in value.items()}
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value


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
    command = _read(argv)
    if command is None:
        return
    parser = ConfigParser()
    parser.read_config(command.files)
    _lay_over(parser, command)
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
        if isinstance(value, bool | int | float) or (isinstance(value, str) and value[:1] not in "$@%"):
            plain_values[name] = value
        elif isinstance(value, list) and not any(isinstance(v, dict | str) for v in value):
            plain_values[name] = str(value)
    for summary in hparams(plain_values, {"validation/mean_iou": 0.0, "validation/accuracy": 0.0}):
        writer.file_writer.add_summary(summary)


def _read(argv: Sequence[str]) -> Command | None:
    """Take a command line apart; None where it is not ``monai.bundle run`` with config files."""
    if len(argv) < 2 or "bundle" not in argv[0] or argv[1] != "run":
        return None
    command, rest = Command(), list(argv[2:])
    while rest:
        part = rest.pop(0)
        if not part.startswith("--"):
            command.words.append(part)
            continue
        name, given, value = part[2:].partition("=")
        if not given:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "True"
        command.options[name] = value
    files = command.options.get("config_file", "")
    listed = DefaultParseValue(files)
    command.files = [str(file) for file in (listed if isinstance(listed, list | tuple) else [files])] if files else []
    return command if command.files else None


def _top(name: str) -> str:
    return name.replace("#", ID_SEP_KEY).split(ID_SEP_KEY)[0]
