"""The folder of a run: writable, held by one process alone, and free of what a killed one left half-written."""

from __future__ import annotations

import fcntl
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_folder", "clear_leftovers", "hold_folder", "working_folder"]

#: what a kill leaves of files that were being written (`monai_cryo.io.replacing`)
_LEFT = "." + "[0-9a-f]" * 32 + ".*"
_LOCK = ".lock"
#: folder -> its lock file, open to the end of the process: closing any descriptor of it would give the lock back
_held: dict[Path, int] = {}


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that cannot be written, without making it.

    Raises
    ------
    ValueError
        If it, or the nearest folder above it that is there, is a file or may not be written.
    """
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"{folder} cannot be the output folder: {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be the output folder: no permission in {place}")


def hold_folder(folder: str | os.PathLike[str]) -> None:
    """Hold a folder until this process ends, however it ends, and delete what a killed one left half-written there.

    The lock is the kernel's record lock on ``.lock``: it ends with the process that took it, workers do not inherit
    it, and it holds between the nodes of a cluster where their file system has locks. The folder is made if missing.

    Raises
    ------
    ValueError
        If another process holds it, or it cannot be written.
    """
    check_folder(folder)
    place = Path(folder).resolve()
    if place not in _held:
        _held[place] = _lock(place, folder)
        clear_leftovers(place)


@contextmanager
def working_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder that no other process works in, empty but for its lock, and gone at the end.

    Raises
    ------
    ValueError
        If another process holds it, or it cannot be written.
    """
    place = Path(folder)
    lock = _lock(place, folder)
    try:
        for left in place.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != _LOCK:
                left.unlink()
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def _lock(place: Path, folder: str | os.PathLike[str]) -> int:
    """Make a folder and lock it: the lock's descriptor."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = os.open(place / _LOCK, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise ValueError(f"{folder} cannot be the output folder: {error.strerror}") from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.close(lock)
        raise ValueError(
            f"another process is at work in {folder}: wait until it ends, or end it, or give another output_dir"
        ) from error
    except OSError as error:
        warnings.warn(
            f"{folder} lies where files cannot be locked ({error.strerror}): no other process must be at work there",
            stacklevel=2,
        )
    return lock


def clear_leftovers(folder: Path) -> None:
    """Delete what a kill left half-written in a folder that no other process works in."""
    for left in folder.glob(_LEFT):
        left.unlink(missing_ok=True)
