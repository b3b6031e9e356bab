"""Where a picture may go."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["check_png"]


def check_png(path: str | os.PathLike[str]) -> Path:
    """Return the path of a picture that can be written, before it is drawn.

    Raises
    ------
    ValueError
        If the file name does not end in .png.
    FileNotFoundError
        If its folder is not there.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: expected a file name ending in .png")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: no such folder {path.parent}")
    return path
