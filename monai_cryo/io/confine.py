"""Which files a list may name: any, unless they are confined to a folder."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["confined"]

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDER = "MONAI_CRYO_CONFINE"


def confined(path: Path, named_by: str | os.PathLike[str]) -> Path:
    """Return a file that a list, of a stranger perhaps, names; what `MONAI_CRYO_CONFINE` names must hold it, if set.

    Links are followed. To be called before anything of the file is looked at, its existence included.

    Raises
    ------
    ValueError
        If it lies elsewhere.
    """
    folder = os.environ.get(_FOLDER)
    own = Path(named_by).resolve().is_relative_to(_PACKAGE)  # the embedded libraries
    if folder and not own and not path.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{named_by} names {path}, outside of {folder}, to which {_FOLDER} confines it")
    return path
