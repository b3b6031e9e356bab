"""Which tomograms a call names: files, folders, globs, and RELION 5's lists of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from monai_cryo.io.mrc import TOMOGRAM_SUFFIXES, may_be_tomogram, tomogram_name
from monai_cryo.io.tomogram_list import ListedTomogram, read_tomogram_list

__all__ = ["list_tomograms", "listed_tomograms"]

_LONGEST = 200  # bytes; results add to it


def list_tomograms(inputs: Sequence[str | None], *, one_name_each: bool = True) -> list[Path]:
    """List the MRC files that files, folders, globs and RELION 5's ``tomograms.star`` name, sorted, each once.

    Parameters
    ----------
    inputs
        Files, folders, globs.
    one_name_each
        Results are called by the files' names: refuse two of one.

    Raises
    ------
    FileNotFoundError
        If one of them names nothing, or a listed file is not there.
    ValueError
        If two files have one name, which is what their results are called by, or one is too long or not in UTF-8.
    """
    found: list[Path] = []
    for text in inputs:
        if not text:
            raise FileNotFoundError("no tomogram named, expected an MRC file, a folder of them, or a glob")
        path = Path(text)
        if path.is_dir():
            part = [f for f in path.iterdir() if may_be_tomogram(f) and f.is_file()]
        elif path.suffix.lower() == ".star":
            part = _reconstructed(path)
        elif path.is_file():
            part = [path]
        else:
            anchor = Path(path.anchor)
            try:
                part = [f for f in anchor.glob(str(path.relative_to(anchor))) if f.is_file()]
                # as a shell does
                part = [f for f in part if not f.name.startswith(".") or path.name.startswith(".")]
            except ValueError as error:
                raise ValueError(f"{text}: {error}") from None
        if not part:
            raise FileNotFoundError(
                f"{text}: no such file, no folder with {' '.join(TOMOGRAM_SUFFIXES)}, and no glob of any"
            )
        found += part
    files = sorted({file.resolve(): file for file in found}.values())
    names: dict[str, Path] = {}
    for file in files:
        _check_name(file)
        other = names.setdefault(tomogram_name(file), file)
        if one_name_each and other != file:
            raise ValueError(f"{other} and {file} have one name: read them in two calls, each with its own output")
    return files


def listed_tomograms(inputs: Sequence[str | None]) -> dict[str, ListedTomogram]:
    """Return what the ``tomograms.star`` among the inputs say of their tomograms, by `tomogram_name`.

    Raises
    ------
    ValueError
        If a file is listed as two tomograms.
    """
    lists = [read_tomogram_list(text) for text in inputs if text and text.lower().endswith(".star")]
    named: dict[str, ListedTomogram] = {}
    for entry in (entry for found in lists for entry in found.values()):
        if entry.path is None:
            continue
        other = named.setdefault(tomogram_name(entry.path), entry)
        if other.name != entry.name:
            raise ValueError(f"{entry.path} is listed as two tomograms, {other.name} and {entry.name}")
    return named


def _check_name(file: Path) -> None:
    name = os.fsencode(tomogram_name(file))
    try:
        name.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{os.fsencode(file)!r}: expected a file name in UTF-8") from None
    if len(name) > _LONGEST:
        raise ValueError(f"{file}: expected a name of at most {_LONGEST} bytes, which results are called by")


def _reconstructed(file: Path) -> list[Path]:
    listed = read_tomogram_list(file)
    paths = [entry.path for entry in listed.values() if entry.path is not None]
    if not paths:
        raise ValueError(f"{file}: none of the {len(listed)} tomograms listed is reconstructed")
    gone = [path for path in paths if not path.is_file()]
    if gone:
        raise FileNotFoundError(f"{file}: {len(gone)} of {len(paths)} tomograms are missing, the first is {gone[0]}")
    return paths
