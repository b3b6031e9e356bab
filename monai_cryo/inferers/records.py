"""What is kept of a tomogram that has been read: one JSON, which says that all its files are whole."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_cryo.io.atomic import write_text
from monai_cryo.io.picks import Picks
from monai_cryo.io.tomogram_list import ListedTomogram

__all__ = ["TomogramRecord", "read_record", "write_record"]

_LISTED = ("name", "pixel_size", "size_px")


@dataclass(frozen=True, eq=False)
class TomogramRecord:
    """A tomogram that has been read.

    Attributes
    ----------
    name
        Its file's, without suffix.
    digest
        Of its file, `file_digest`.
    settings
        All that the reading depends on, plain values.
    covered
        Class -> share of the volume that its label covers.
    picks
        In voxels of the tomogram; None where none were asked for.
    listed
        What RELION 5 says of it, its file left out; None where it was not listed.
    """

    name: str
    digest: str
    settings: dict[str, Any]
    covered: dict[str, float]
    picks: Picks | None
    listed: ListedTomogram | None = None

    def summary(self) -> str:
        """Return one line: how many of each class, and how much of the volume the others cover."""
        counts = Counter(self.picks.names) if self.picks is not None else Counter()
        picking = self.settings.get("diameters_a", {}) if self.picks is not None else {}
        words = [f"{counts[name]} {name}" for name in self.covered if name in picking]
        words += [
            f"{name} {100 * share:.2g} %" for name, share in self.covered.items() if name not in picking and share
        ]
        return f"{self.name}: {', '.join(words) or 'nothing found'}"


def write_record(path: str | os.PathLike[str], record: TomogramRecord) -> None:
    """Write a record as JSON, whole or not at all."""
    content: dict[str, Any] = {k: v for k, v in vars(record).items() if k not in ("picks", "listed")}
    content["picks"] = None
    content["listed"] = None if record.listed is None else {key: getattr(record.listed, key) for key in _LISTED}
    if record.picks is not None:
        values = vars(record.picks)
        content["picks"] = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def read_record(path: str | os.PathLike[str]) -> TomogramRecord | None:
    """Read what `write_record` wrote; None where there is no such file.

    Raises
    ------
    ValueError
        If the file is something else.
    """
    file = Path(path)
    if not file.exists():
        return None
    if not file.is_file():
        raise ValueError(f"{file} is no file, expected the record of a tomogram: name another output folder")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        picks = content.pop("picks")
        if picks is not None:
            picks = Picks(
                index=np.array(picks["index"], float).reshape(-1, 3),
                names=list(picks["names"]),
                scores=np.array(picks["scores"], float),
                sizes=np.array(picks["sizes"], np.int64),
                voxel_size=float(picks["voxel_size"]),
                shape=(int(picks["shape"][0]), int(picks["shape"][1]), int(picks["shape"][2])),
            )
        listed = content.pop("listed", None)
        if listed is not None:
            z, y, x = map(int, listed["size_px"])
            listed = ListedTomogram(str(listed["name"]), None, float(listed["pixel_size"]), (z, y, x), None)
        return TomogramRecord(**content, picks=picks, listed=listed)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{file} is no record of a tomogram that was read: name another output folder") from error
