"""Files that are whole or not there: written beside the target under another name, then put in its place."""

from __future__ import annotations

import csv
import errno
import io
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["csv_text", "replacing", "table_text", "write_text"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place when the block ends well.

    The temporary name keeps the suffixes, so that writers that choose a format by suffix choose the same. When the
    block raises, the temporary file is deleted and `path` is left as it was. What a disk refuses, full above all, is
    raised as an OSError that names `path`, whatever the writer made of it: torch raises a RuntimeError.

    Parameters
    ----------
    path
        The file to write; its folder must be there.

    Raises
    ------
    FileNotFoundError
        If the folder is not there, before anything is computed.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target}: no such folder {target.parent}")
    temporary = target.with_name(f".{uuid.uuid4().hex}.{target.name}")
    try:
        yield temporary
        temporary.replace(target)
    except Exception as error:
        refused = _refused_by_disk(error)
        if refused is None or refused.filename is not None:
            raise
        raise OSError(refused.errno, refused.strerror, str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _refused_by_disk(error: BaseException | None) -> OSError | None:
    """Return what a disk refused, which may stand behind the error of a library's writer."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def flush_to_disk(path: str | os.PathLike[str]) -> None:
    """Wait until what was written to a file is on the disk: a rename may get there before."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, whole or not at all, after a power cut too.

    Raises
    ------
    FileNotFoundError
        If the folder is not there.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        flush_to_disk(temporary)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of named values as the text of a CSV file; its columns are all names, as they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text([columns, *([row.get(name, "") for name in columns] for row in rows)])
