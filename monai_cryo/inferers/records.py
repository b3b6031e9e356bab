"""What is kept of a tomogram that has been read: one JSON, which says that all its files are whole."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from monai_cryo._typing import check_word
from monai_cryo.io.atomic import write_text
from monai_cryo.io.picks import Picks, write_copick, write_picks_csv, write_relion
from monai_cryo.io.tomogram_list import ListedTomogram

__all__ = ["PickFormat", "TomogramRecord", "read_record", "tilt_pixel_size", "write_pick_files", "write_record"]

PickFormat = Literal["csv", "relion4", "relion5", "copick"]


@dataclass(frozen=True, eq=False)
class TomogramRecord:
    """A tomogram that has been read.

    Attributes
    ----------
    name
        Its file's, without suffix.
    size_bytes
        Its file's.
    settings
        All that the reading depends on, plain values.
    covered
        Class -> share of the volume that its label covers.
    picks
        In voxels of the tomogram; None where none were asked for.
    """

    name: str
    size_bytes: int
    settings: dict[str, Any]
    covered: dict[str, float]
    picks: Picks | None

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
    content: dict[str, Any] = {k: v for k, v in vars(record).items() if k != "picks"}
    content["picks"] = None
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
    if not file.is_file():
        return None
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
        return TomogramRecord(**content, picks=picks)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file} is no record of a tomogram that was read: name another output folder") from error


def write_pick_files(
    folder: str | os.PathLike[str],
    records: Sequence[TomogramRecord],
    classes: Sequence[str],
    formats: Sequence[PickFormat] = ("csv",),
    *,
    pixel_size: float | None = None,
    listed: Mapping[str, ListedTomogram] | None = None,
) -> list[Path]:
    """Write the picks of all tomograms: ``picks.csv``, ``particles_relion5.star``, or copick's ``<name>/Picks/*.json``.

    Parameters
    ----------
    folder
        Where to.
    records
        Of the tomograms; those without picks are left out.
    classes
        All class names, in order.
    formats
        Which files.
    pixel_size
        Of the tilt series, Å, for RELION; None: as listed, else the tomograms are not binned.
    listed
        What RELION 5 says of the records' tomograms: its names, pixel size and sizes go into its STAR files.

    Raises
    ------
    ValueError
        On another format or, for RELION, if the listed tomograms have other pixel sizes than each other or than
        `pixel_size`.
    """
    for name in formats:
        check_word("format", name, PickFormat)
    picks = {record.name: record.picks for record in records if record.picks is not None}
    entries = {name: entry for name, entry in (listed or {}).items() if name in picks}
    if {"relion4", "relion5"} & set(formats):
        pixel_size = tilt_pixel_size(entries, pixel_size)
    target, files = Path(folder), []
    for name in formats:
        if name == "csv":
            files.append(target / "picks.csv")
            write_picks_csv(files[-1], picks)
        elif name == "copick":
            for tomogram, found in picks.items():
                files += write_copick(target / tomogram / "Picks", found, tomogram)
        else:
            files.append(target / f"particles_{name}.star")
            named = {entries[n].name if n in entries else n: found for n, found in picks.items()}
            sizes = {entry.name: entry.size_px for entry in entries.values()}
            write_relion(files[-1], named, classes, name, pixel_size=pixel_size, size_px=sizes)
    return files


def tilt_pixel_size(listed: Mapping[str, ListedTomogram], pixel_size: float | None = None) -> float | None:
    """Return the one pixel size of the tilt series, Å: that of the listed tomograms or, without any, the one given.

    Raises
    ------
    ValueError
        If there are several.
    """
    found = {entry.pixel_size for entry in listed.values()} | ({pixel_size} if pixel_size else set())
    if len(found) > 1:
        raise ValueError(
            "a RELION file has one pixel size of the tilt series, found "
            f"{', '.join(f'{v:g}' for v in sorted(found))} Å: pick them in several calls, without another pixel size"
        )
    return next(iter(found), None)
