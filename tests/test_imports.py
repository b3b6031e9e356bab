"""Rooms import one way: each only from those before it, so that every one can be read and used without the later."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import monai_cryo

PACKAGE = Path(monai_cryo.__file__).parent

ORDER = (
    ("__init__", "_abundance", "_defaults", "_described", "_progress", "_refusals", "_typing"),
    ("physics", "networks"),
    ("io", "transforms", "losses", "metrics"),
    ("templates", "bundle"),
    ("data",),
    ("engines", "visualize"),
    ("inferers", "handlers"),
    ("experiment",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def imports() -> Iterator[tuple[str, str, str]]:
    """Yield every import between rooms, inside functions too: where, importing and imported room."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE)
        room = file.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules: list[str] = []
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{file}:{node.lineno} imports relatively"
                names = [f"monai_cryo.{alias.name}" for alias in node.names]
                modules = names if node.module == "monai_cryo" else [node.module or ""]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            for module in modules:
                top, _, inner = module.partition(".")
                imported = inner.partition(".")[0]
                if top == "monai_cryo" and imported != room:
                    yield f"{file}:{node.lineno}", room, imported if imported in LEVEL else "__init__"


def test_every_room_has_its_place() -> None:
    rooms = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(LEVEL)


def test_imports_go_one_way() -> None:
    found = list(imports())
    assert len(found) > 100
    against = [f"{where} {room} -> {other}" for where, room, other in found if LEVEL[other] >= LEVEL[room]]
    assert not against
