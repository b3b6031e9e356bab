"""What a picture may be called."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["check_png"]


def check_png(path: str | os.PathLike[str]) -> Path:
    """Return the path of a picture, before it is drawn.

    Raises
    ------
    ValueError
        If the file name does not end in .png.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: expected a file name ending in .png")
    return path
