"""Lists of picks: of all tomograms of a folder that were read alike, in the formats of other programs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from monai_cryo._typing import PickFormat, check_word
from monai_cryo.inferers.records import TomogramRecord
from monai_cryo.inferers.workflow import TomogramWorkflow
from monai_cryo.io.particles import series_names
from monai_cryo.io.picks import StarStyle, copick_files, write_copick, write_picks_csv, write_relion
from monai_cryo.io.tomogram_list import ListedTomogram

__all__ = ["check_pick_options", "pick_tomograms", "write_pick_files"]


def pick_tomograms(
    workflow: TomogramWorkflow,
    paths: Sequence[Path],
    formats: PickFormat | Sequence[PickFormat] = ("csv",),
    *,
    voxel_size: float | None = None,
    pixel_size: float | None = None,
) -> list[Path]:
    """Read tomograms and write the picks of all that are finished, whatever becomes of the others.

    What other calls have read into the same folder with the same settings is in the lists, too.

    Parameters
    ----------
    workflow, paths
        As for `TomogramWorkflow.run`.
    formats
        As for `write_pick_files`.
    voxel_size
        Of the tomograms, Å, in place of the headers'.
    pixel_size
        Of the tilt series, Å, for RELION; None: as listed, else the tomograms are not binned.

    Returns
    -------
    list
        The files of picks.

    Raises
    ------
    ValueError
        As `check_pick_options`, before anything is read, and as `TomogramWorkflow.run`.
    """
    wanted: Sequence[Any] = [formats] if isinstance(formats, str) else formats
    check_pick_options(wanted, pixel_size, workflow.listed)
    written: list[Path] = []
    try:
        workflow.run(paths, voxel_size)
    finally:
        records = workflow.records(paths, voxel_size) + workflow.others(paths)
        while records:
            classes = workflow.reader.model.classes
            written = write_pick_files(
                workflow.output_dir, records, classes, wanted, pixel_size=pixel_size, listed=workflow.listed
            )
            # another process may have finished while these were written
            now = workflow.records(paths, voxel_size) + workflow.others(paths)
            if len(now) == len(records):
                break
            records = now
        for file in remove_stale_lists(workflow.output_dir, records, written):
            print(f"{file} was of an earlier reading and is removed: ask for its format again")
    return written


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
