"""Every room's front door: what a module offers is offered by its room too, or stays inside on purpose."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import monai_cryo

ROOMS = [info.name for info in pkgutil.iter_modules(monai_cryo.__path__) if info.ispkg]

INSIDE = {
    "bundle": {"builder.*", "command.*", "expression.*", "limits.*", "overrides.is_constant", "overrides.references"},
    "cli": {
        f"{verb}.*"
        for verb in (
            "bundle",
            "classify",
            "experiment",
            "gallery",
            "parser",
            "pick",
            "score",
            "segment",
            "simulate",
            "templates",
        )
    },
    "handlers": {"best.results_event", "best.save_whole", "resuming.*"},
    "inferers": {
        "spacing.*",
        "binning.*",
        "flips.mean_answer",
        "normalize.cut_mirrored",
        "classifier_map.CELL",
        "classifier_map.WINDOW",
    },
    "io": {"header.*", "saved.*"},
    "networks": {"output.*", "precision.*"},
    "physics": {"noise.single_columns", "resampling.*", "scene.axes", "tilt_series.tilts_tensor"},
    "templates": {"masking.*", "syntax.*"},
    "transforms": {
        "arrays.*",
        "dictionary.*",
        "compose.PerItem",
        "fourier.check_names",
        "fourier.image",
        "fourier.rows",
        "fourier.unique_names",
        "geometry.*",
        "neighbours.HasMask",
        "plan.*",
    },
}
"""What modules of a room share with each other: the room offers of it what it likes."""

PICTURES = "visualize"
"""A room that offers nothing itself, so that matplotlib is imported only where a picture is drawn."""


def modules(room: ModuleType) -> list[ModuleType]:
    return [importlib.import_module(f"{room.__name__}.{info.name}") for info in pkgutil.iter_modules(room.__path__)]


def public(module: ModuleType) -> set[str]:
    """Names a module offers: its ``__all__``, or the functions and classes written in it."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    made = {n for n, o in vars(module).items() if inspect.isclass(o) or inspect.isfunction(o)}
    return {n for n in made if not n.startswith("_") and getattr(module, n).__module__ == module.__name__}


@pytest.mark.parametrize("name", [room for room in ROOMS if room != PICTURES])
def test_a_room_offers_what_its_modules_offer(name: str) -> None:
    room = importlib.import_module(f"monai_cryo.{name}")
    inside = INSIDE.get(name, set())
    missing = []
    for module in modules(room):
        short = module.__name__.rpartition(".")[2]
        made = set() if f"{short}.*" in inside else public(module) - set(room.__all__)
        missing += sorted(f"{short}.{n}" for n in made if f"{short}.{n}" not in inside)
    assert not missing, f"export these from monai_cryo.{name}, or begin their names with an underscore"


@pytest.mark.parametrize("name", ROOMS)
def test_every_name_in_all_exists_once(name: str) -> None:
    room = importlib.import_module(f"monai_cryo.{name}")
    for module in (room, *modules(room)):
        names = list(getattr(module, "__all__", ()))
        assert len(names) == len(set(names))
        assert [n for n in names if not hasattr(module, n)] == []


@pytest.mark.parametrize("name", ROOMS)
def test_no_name_hides_a_module_of_its_room(name: str) -> None:
    room = importlib.import_module(f"monai_cryo.{name}")
    for module in modules(room):
        short = module.__name__.rpartition(".")[2]
        assert getattr(room, short) is module
        assert inspect.getmodule(getattr(module, short, None)) is not module, "a function is named as its module"


@pytest.mark.parametrize("name", [room for room in ROOMS if room not in ("cli", "inferers", PICTURES)])
def test_every_class_shows_what_it_is(name: str) -> None:
    room = importlib.import_module(f"monai_cryo.{name}")
    classes = {c for c in (getattr(room, n) for n in room.__all__) if inspect.isclass(c)}
    assert sorted(c.__name__ for c in classes if c.__repr__ is object.__repr__) == []
