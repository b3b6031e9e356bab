"""Which files a list may name: those of its own folder, and of folders that are allowed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["named_file"]

_ALLOWED = "MONAI_CRYO_ALLOW"


def named_file(named: str | os.PathLike[str], named_by: str | os.PathLike[str], *, project: bool = False) -> Path:
    """Return the file that a list, of a stranger perhaps, names: one of the list's folder, or of one that is allowed.

    Allowed are the folders in the environment variable `MONAI_CRYO_ALLOW` (several as in ``PATH``; ``/`` allows any).
    A link within a folder belongs to it, wherever it leads: whoever made the folder made it.

    Parameters
    ----------
    named
        Path in the list: relative to its folder, or absolute.
    named_by
        The list.
    project
        The list is RELION's, which lies deep in its project's folder and names files from there: `named` may be
        relative to a folder above the list, the nearest that holds the file; never the root.

    Returns
    -------
    Path
        Of the file, which need not exist: nothing is looked at outside.

    Raises
    ------
    ValueError
        If it lies elsewhere.
    """
    folder = Path(os.path.realpath(Path(named_by).parent))
    path = Path(os.path.normpath(folder / named))
    if path.is_relative_to(folder):
        inside = path.relative_to(folder)  # without the .. of `named`, which lead elsewhere behind a link
        plain = not Path(named).is_absolute() and ".." not in Path(named).parts
        above = folder.parents[:-1] if project and plain else ()
        return next((f / inside for f in (folder, *above) if (f / inside).is_file()), path)
    allowed = [Path(os.path.abspath(f)) for f in os.environ.get(_ALLOWED, "").split(os.pathsep) if f]
    if not any(path.is_relative_to(f) for f in allowed):
        shared = Path(os.path.commonpath([folder, path]))  # other files of the list may lie beside this one
        wanted = path.parent if shared == Path(shared.anchor) else shared
        raise ValueError(f"{named_by} names {named}, which lies outside of its folder: {_ALLOWED}={wanted} allows it")
    return path
