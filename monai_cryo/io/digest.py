"""What tells a file from every other."""

from __future__ import annotations

import hashlib
import os

__all__ = ["sha256"]


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
