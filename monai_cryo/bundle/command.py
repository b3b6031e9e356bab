"""The ``monai.bundle run`` command line: its files and options, and how they lie over each other."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pydoc import locate
from typing import Any

from fire.parser import DefaultParseValue  # type: ignore[import-untyped]
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from monai_cryo.bundle.expression import is_expression

_WORDS = {"true": True, "false": False, "null": None, "none": None, "~": None}
#: options that are files or folders: a number is a name, too
PATHS = {"ckpt", "pretrained", "resume", "templates", "tomograms", "dataset_dir"}


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


def read_command(argv: Sequence[str]) -> Command | None:
    """Take a command line apart; None where it is not ``monai.bundle run`` (or `run_workflow`) with config files."""
    program = argv[0] == "monai.bundle" or Path(argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py")
    if not program or len(argv) < 2 or argv[1] not in ("run", "run_workflow"):
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


def top(name: str) -> str:
    """Return the top-level name of an option's place."""
    return name.replace("#", ID_SEP_KEY).split(ID_SEP_KEY)[0]


def near(word: str, known: Iterable[str], dashes: str = "") -> str:
    """Return ``": did you mean x?"``, or nothing where no known word is like this one."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {dashes}{found[0]}?" if found else ""


def place(name: str, config: dict[str, Any]) -> Any:
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
            known = _arguments(node["_target_"])
            if known is None or part in known:
                return None
            hint = near(part, known) or f"; known: {', '.join(known)}"
            raise ValueError(f"unknown option --{name}: {node['_target_']} has no {part!r}{hint}")
        else:
            hint = near(part, node) if isinstance(node, dict) else ""
            raise ValueError(f"unknown option --{name}: {'#'.join(path[:depth])} has no {part!r}{hint}")
    return node


def _arguments(target: Any) -> list[str] | None:
    """Names of what an object of a config takes, and the config's own words; None where it may take anything."""
    found = locate(target) if isinstance(target, str) else None
    if found is None:
        return None
    try:
        parameters = inspect.signature(found).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):  # of some objects in C nothing is known
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return [*parameters, "_disabled_", "_requires_", "_desc_", "_mode_"]


def running_parser() -> ConfigParser | None:
    """Return the parser that evaluates the calling expression: MONAI hands it to none; None outside of one."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), ConfigParser):
            return found
        frame = frame.f_back
    return None


def lay_over(parser: ConfigParser, command: Command) -> None:
    """Put the options of a command into its config, as `monai.bundle` does, but with words as YAML reads them."""
    for name, text in command.options.items():
        if top(name) in parser.config:
            value = parsed(text)
            if is_number(value):
                default = place(name, parser.config)
                if name.endswith("_dir") or name in PATHS or (isinstance(default, str) and not is_expression(default)):
                    value = text  # a folder named like a number
            parser[name.replace("#", ID_SEP_KEY)] = value


def parsed(text: str) -> Any:
    """Value of an option's text: as `monai.bundle` reads it, but with words as YAML has them."""
    return _as_yaml(DefaultParseValue(text))


def _as_yaml(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_yaml(v) for v in value]
    if isinstance(value, dict):
        return {k: _as_yaml(v) for k, v in value.items()}
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value


def is_number(value: Any) -> bool:
    """Whether a value is a number, which true and false are not here."""
    return isinstance(value, int | float) and not isinstance(value, bool)
