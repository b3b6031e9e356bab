"""What is kept of a tomogram that has been read: one JSON, which says that all its files are whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from monai_cryo._typing import PickFormat, check_word
from monai_cryo.io.atomic import write_text
from monai_cryo.io.particles import series_names
from monai_cryo.io.picks import Picks, StarStyle, copick_files, write_copick, write_picks_csv, write_relion
from monai_cryo.io.tomogram_list import ListedTomogram

__all__ = [
    "TomogramRecord",
    "check_pick_options",
    "file_digest",
    "file_digests",
    "read_record",
    "write_pick_files",
    "write_record",
]

_LISTED = ("name", "pixel_size", "size_px")
_PIECES, _LENGTH = 16, 1 << 16


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


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return what tells a file from another: a digest of its size and of pieces of it, read in no time."""
    size = os.path.getsize(path)
    found = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for n in range(_PIECES):
            file.seek(n * max(size - _LENGTH, 0) // (_PIECES - 1))
            found.update(file.read(_LENGTH))
    return found.hexdigest()[:16]


def file_digests(paths: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
    """Return the `file_digest` of each file, under the same name; of one that cannot be read it is empty."""
    found = {}
    for name, path in paths.items():
        try:
            found[name] = file_digest(path)
        except OSError:
            found[name] = ""
    return found


def write_pick_files(
    folder: str | os.PathLike[str],
    records: Sequence[TomogramRecord],
    classes: Sequence[str],
    formats: Sequence[PickFormat] = ("csv",),
    *,
    pixel_size: float | None = None,
    listed: Mapping[str, ListedTomogram] | None = None,
) -> list[Path]:
    """Write the picks of all tomograms.

    ``picks.csv``, ``particles_<format>.star``, or copick's ``<name>/Picks/*.json``. STAR files name a tomogram as it is
    listed, or else by its tilt series (`series_names`).

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
        What RELION 5 says of the tomograms now, by the records' names: its names, pixel sizes and sizes go into its
        STAR files. Of others it is what was kept of them.

    Raises
    ------
    ValueError
        As `check_pick_options`, or if two tomograms would have one name in a STAR file.
    """
    picks = {record.name: record.picks for record in records if record.picks is not None}
    said = {record.name: (listed or {}).get(record.name) or record.listed for record in records}
    entries = {name: entry for name, entry in said.items() if name in picks and entry is not None}
    check_pick_options(formats, pixel_size, {n: entry for n, entry in (listed or {}).items() if n in picks})
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
            series = dict(zip(picks, series_names(list(picks)), strict=True))
            series |= {n: entry.name for n, entry in entries.items()}
            if len(set(series.values())) < len(series):
                twice = next(name for name, count in Counter(series.values()).items() if count > 1)
                files_of = " and ".join(n for n, s in series.items() if s == twice)
                raise ValueError(
                    f"{files_of} would both be tomogram {twice} in {files[-1]}: pick them into two folders"
                )
            pixels = {} if pixel_size is None else dict.fromkeys(series.values(), pixel_size)
            pixels |= {entry.name: entry.pixel_size for entry in entries.values()}
            sizes = {entry.name: entry.size_px for entry in entries.values()}
            named = {series[n]: found for n, found in picks.items()}
            write_relion(files[-1], named, classes, name, pixel_size=pixels, size_px=sizes)
    return files


def remove_stale_lists(
    folder: str | os.PathLike[str], records: Sequence[TomogramRecord], written: Sequence[Path]
) -> list[Path]:
    """Remove what an earlier `write_pick_files` left in other formats, if a tomogram has been read since.

    Parameters
    ----------
    folder, records
        As there.
    written
        Lists of now, which stay.

    Returns
    -------
    list
        The files that are gone.
    """
    target = Path(folder)
    lists = [target / "picks.csv", *(target / f"particles_{style}.star" for style in get_args(StarStyle))]
    lists += [file for record in records for file in copick_files(target / record.name / "Picks")]
    latest = max([(target / f"{record.name}.json").stat().st_mtime_ns for record in records], default=0)
    stale = [file for file in lists if file not in written and file.is_file() and file.stat().st_mtime_ns < latest]
    for file in stale:
        file.unlink()
    return stale


def check_pick_options(
    formats: Sequence[PickFormat], pixel_size: float | None, listed: Mapping[str, ListedTomogram]
) -> None:
    """Refuse what picks cannot be written as.

    Raises
    ------
    ValueError
        On another format, or if a RELION file is asked for with another pixel size than a tomogram is listed with.
    """
    for name in formats:
        check_word("format", name, PickFormat)
    other = [entry for entry in listed.values() if pixel_size not in (None, entry.pixel_size)]
    if other and {"relion4", "relion5"} & set(formats):
        raise ValueError(
            f"tomogram {other[0].name} is listed with a tilt-series pixel size of {other[0].pixel_size:g} Å, "
            f"got {pixel_size:g} Å: leave it out"
        )
