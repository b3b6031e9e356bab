"""From an object to the plain config that builds it, and back: what a model's record says of network and input."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from monai.transforms import Compose, Transform
from torch import nn

from monai_cryo._described import plain_value, public_path
from monai_cryo._refusals import is_refusal
from monai_cryo.bundle.expression import is_expression
from monai_cryo.transforms import Drawable, fixed_parts

Built = TypeVar("Built")

#: a model file may come from anywhere: nothing of other packages is built from what it says
_TRUSTED = ("monai_cryo.", "monai.networks.")
#: arguments for which MONAI's networks load weights from the network or from another file
_LOADING = {"weights", "path_or_repo_id", "checkpoint"}


def describe_network(network: Callable[..., nn.Module]) -> dict[str, Any]:
    """Return the config of a network node: ``_target_`` and its arguments.

    Parameters
    ----------
    network
        What a node with ``_mode_: callable`` gives: a class, or a ``functools.partial`` of one.

    Raises
    ------
    ValueError
        If it is a network already, whose arguments nobody knows any more, or an argument is no plain value.
    """
    if isinstance(network, nn.Module):
        raise ValueError(
            f"network_def made a {type(network).__name__} already: say `_mode_: callable` beside its _target_, "
            "so that its arguments can be recorded in the model"
        )
    factory, arguments = (network.func, network.keywords) if isinstance(network, partial) else (network, {})
    # the precision is the machine's affair, not the model's
    values = {k: plain_value(v, f"network_def's {k}") for k, v in arguments.items() if k != "precision"}
    return {"_target_": public_path(factory), **values}


def describe_transform(transform: Transform) -> list[dict[str, Any]]:
    """Return the configs of a transform, or of those in a ``Compose``, by their own ``config()``.

    Raises
    ------
    ValueError
        On parts that a batch cannot go through (:func:`monai_cryo.transforms.fixed_parts`), or that no file can hold.
    """
    return [part.config() for part in fixed_parts(transform)]


def build_network(config: Mapping[str, Any], precision: str | None = None) -> nn.Module:
    """Build the network of a record, with this machine's precision where it takes one.

    Raises
    ------
    ValueError
        As `build` says.
    """
    accepted = inspect.signature(network_class(config)).parameters
    extra = {"precision": precision} if precision is not None and "precision" in accepted else {}
    return build({**config, **extra}, nn.Module)


def network_class(config: Mapping[str, Any]) -> type[nn.Module]:
    """Return the class of the network of a record.

    Raises
    ------
    ValueError
        If it is no network of ``monai_cryo`` or ``monai.networks``.
    """
    return _find(config, nn.Module)


def build_transform(configs: list[dict[str, Any]]) -> Transform:
    """Build the transform of a record: the only one, or a ``Compose``.

    Raises
    ------
    ValueError
        As `build` says, or if one is none that :func:`describe_transform` describes.
    """
    built: list[Drawable] = [build(config, Drawable) for config in configs]
    transform = built[0] if len(built) == 1 else Compose(built)
    fixed_parts(transform)
    return transform


def build(config: Mapping[str, Any], kind: type[Built]) -> Built:
    """Build what a config of plain values describes.

    Parameters
    ----------
    config
        ``_target_``, the full name of a class, and its arguments.
    kind
        What it must be.

    Raises
    ------
    ValueError
        If the class is no `kind` of ``monai_cryo`` or ``monai.networks``, or does not take the arguments, or one is no
        plain value. Nor may the class be one that loads weights of its own; where it can do without, it is told to.
    """
    target = _find(config, kind)
    arguments = {name: value for name, value in config.items() if name != "_target_"}
    for name, value in arguments.items():
        _check_plain(name, value)
    try:
        known = inspect.signature(target).parameters
        if loading := sorted(_LOADING & set(known)):
            raise ValueError(f"a model's record may not name {config['_target_']}, which loads {loading[0]} of its own")
        # some load weights unless they are told not to
        unasked = {
            name: False for name, parameter in known.items() if "pretrained" in name and parameter.default is True
        }
        return target(**arguments, **unasked)
    except Exception as error:  # constructors given anything fail in any way
        if is_refusal(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{config['_target_']} does not take the recorded arguments: {reason:.300}") from error


def _find(config: Mapping[str, Any], kind: type[Built]) -> type[Built]:
    path = config.get("_target_") if isinstance(config, Mapping) else None
    if not isinstance(path, str) or not path.startswith(_TRUSTED):
        raise ValueError(f"a model's record may only name parts of {' and '.join(_TRUSTED)}*, found {path!r}")
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the model's record names {path}, which this version does not have") from error
    if not (inspect.isclass(found) and issubclass(found, kind)):
        raise ValueError(f"the model's record names {path}, which is no {kind.__name__}")
    # a module also has what it imports: MONAI's LoadImage would call whatever function it is told to
    if not f"{found.__module__}.".startswith(_TRUSTED):
        raise ValueError(f"the model's record names {path}, which is {found.__module__}.{found.__name__}")
    return found


def _check_plain(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_plain(str(key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_plain(name, inner)
    elif not isinstance(value, str | int | float | bool | None) or is_expression(value):
        raise ValueError(f"{name} in a model's record must be plain values, found {value!r}")
    if name == "_target_" or "pretrained" in name:
        raise ValueError(f"a model's record may not ask for {name}")
