"""Structures and maps from the public archives (PDB, EMDB), kept in a cache: resumed, checked, whole or not at all."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import Any

from monai_cryo._progress import progress_bar
from monai_cryo.io.atomic import write_text
from monai_cryo.io.digest import sha256

__all__ = ["cache_folder", "fetch", "locate"]

ARCHIVES = {
    "pdb": ("https://files.rcsb.org/download", "{id}.cif.gz", re.compile(r"[0-9][a-z0-9]{3}|pdb_[0-9]{5}[a-z0-9]{3}")),
    "emdb": ("https://files.wwpdb.org/pub/emdb/structures", "EMD-{id}/map/emd_{id}.map.gz", re.compile(r"[0-9]{4,5}")),
}
CHUNK = 1 << 18
GZIP_MAGIC = b"\x1f\x8b"


def cache_folder() -> Path:
    """Return the cache: ``MONAI_CRYO_CACHE``, or ``~/.cache/monai_cryo``."""
    return Path(os.environ.get("MONAI_CRYO_CACHE") or Path.home() / ".cache" / "monai_cryo")


def locate(source: str) -> Path:
    """Return the file of an archive entry fetched before.

    Parameters
    ----------
    source
        ``"pdb:4V5D"`` or ``"emdb:3883"``.

    Raises
    ------
    FileNotFoundError
        If it was not fetched yet; the message holds the command that does.
    ValueError
        If it is not an archive entry.
    """
    path = _entry(source)[0]
    if not path.is_file():
        raise FileNotFoundError(
            f"{source} is not in the cache ({path}); fetch it: python -m monai_cryo templates fetch {source}"
        )
    return path


def fetch(
    source: str,
    *,
    base_url: str | None = None,
    progress: bool = True,
    timeout_s: float = 30.0,
) -> Path:
    """Download an archive entry into the cache unless it is there; an interrupted download goes on where it stopped.

    Beside the file stands ``<file>.json`` with its address, size and SHA-256.

    Parameters
    ----------
    source
        ``"pdb:4V5D"`` or ``"emdb:3883"``.
    base_url
        A mirror's address; None for ``MONAI_CRYO_PDB_URL`` or ``MONAI_CRYO_EMDB_URL``, or else the archive's own.
    progress
        Show a progress bar.
    timeout_s
        Seconds without a byte after which the connection is given up.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If `source` is not an archive entry, or the file in the cache is not what was downloaded.
    ConnectionError
        If the archive cannot be reached or breaks off; what arrived is kept for the next try.
    FileNotFoundError
        If the archive has no such entry.
    """
    path, url = _entry(source, base_url)
    record = path.with_name(path.name + ".json")
    if path.is_file():
        if record.is_file() and _digest(record) != sha256(path):
            raise ValueError(f"{path}: not the file that was downloaded (SHA-256 differs); delete it and fetch again")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        _download(url, partial, source if progress else None, timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            raise FileNotFoundError(f"{source}: the archive has no such entry ({url})") from None
        raise ConnectionError(f"{source}: {url} answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(f"{source}: cannot download {url} ({reason}); offline? Try again later") from None
    with partial.open("rb") as stream:
        if stream.read(2) != GZIP_MAGIC:
            partial.unlink()
            raise ConnectionError(f"{source}: {url} answers with something else than a gzipped file; a proxy's page?")
    description = {"source": source, "url": url, "size": partial.stat().st_size, "sha256": sha256(partial)}
    write_text(record, json.dumps(description, indent=1) + "\n")
    partial.replace(path)
    _validator(partial).unlink(missing_ok=True)
    return path


def _digest(record: Path) -> Any:
    try:
        return json.loads(record.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, TypeError, KeyError) as error:
        file = record.with_suffix("").name
        raise ValueError(f"{record}: no record of a download; delete it and {file} and fetch again") from error


def _entry(source: str, base_url: str | None = None) -> tuple[Path, str]:
    archive, _, name = source.partition(":")
    name = name.lower().removeprefix("emd-").removeprefix("emd_")
    if archive not in ARCHIVES or not ARCHIVES[archive][2].fullmatch(name):
        raise ValueError(f"an archive entry is pdb:4V5D or emdb:3883, got {source!r}")
    base, template, _ = ARCHIVES[archive]
    base = base_url or os.environ.get(f"MONAI_CRYO_{archive.upper()}_URL") or base
    relative = template.format(id=name)
    return cache_folder() / archive / Path(relative).name, f"{base.rstrip('/')}/{relative}"


def _validator(partial: Path) -> Path:
    return partial.with_name(partial.name + ".etag")


def _download(url: str, partial: Path, label: str | None, timeout_s: float) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "monai_cryo", "Accept-Encoding": "identity"})
    validator = _validator(partial)
    if partial.is_file() and validator.is_file():
        request.add_header("Range", f"bytes={partial.stat().st_size}-")
        request.add_header("If-Range", validator.read_text())
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not request.has_header("Range"):
            raise
        error.close()  # nothing left to send: start over
        partial.unlink()
        return _download(url, partial, label, timeout_s)
    with response:
        start = partial.stat().st_size if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        _remember(validator, response.headers)
        with (
            partial.open("ab" if start else "wb") as out,
            progress_bar(
                desc=label,
                initial=start,
                total=total,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                disable=label is None,
            ) as bar,
        ):
            while chunk := response.read(CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
    found = partial.stat().st_size
    if total is not None and found != total:
        raise ConnectionError(f"broke off after {found} of {total} bytes")
    return None


def _remember(validator: Path, headers: HTTPMessage) -> None:
    """Keep what tells this version of the file from the next; without it a broken download cannot be resumed."""
    tag = headers.get("ETag") or headers.get("Last-Modified")
    if tag and not tag.startswith("W/"):
        validator.write_text(tag)
    else:
        validator.unlink(missing_ok=True)
