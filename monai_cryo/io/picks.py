"""Picks: what was found where in a tomogram, and the files other programs read them from."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from monai_cryo._typing import check_word
from monai_cryo.io.atomic import csv_text, write_text
from monai_cryo.io.particles import CoordinateStyle, coordinate_columns, index_to_star
from monai_cryo.io.star import star_text

__all__ = ["Picks", "StarStyle", "read_picks_csv", "write_copick", "write_picks_csv", "write_relion"]

StarStyle = Literal["relion5", "relion4", "warp"]

_NOT_IN_COPICK_NAMES = r'[<>:"/\\|?*\x00-\x1F\x7F\s_]'


@dataclass(frozen=True, eq=False)
class Picks:
    """Particles found in one tomogram.

    Attributes
    ----------
    index
        Where, as indices (z, y, x) of the tomogram's voxels, (N, 3), fractions allowed.
    names
        The class of each, N.
    scores
        0..1, (N,).
    sizes
        Voxels its mask has, (N,).
    voxel_size
        Of the tomogram, Å.
    shape
        Of the tomogram, (z, y, x).
    """

    index: NDArray[np.float64]
    names: list[str]
    scores: NDArray[np.float64]
    sizes: NDArray[np.int64]
    voxel_size: float
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.names)


def write_picks_csv(path: str | os.PathLike[str], picks: Mapping[str, Picks]) -> None:
    """Write one line a pick: tomogram, class, x, y, z (voxels, from 0), score, size_vox.

    Parameters
    ----------
    path
        The file, whole or not at all, in place of one that is there.
    picks
        Tomogram name -> picks.
    """
    rows: list[Sequence[object]] = [("tomogram", "class", "x", "y", "z", "score", "size_vox")]
    for name, found in picks.items():
        for (z, y, x), kind, score, size in zip(found.index, found.names, found.scores, found.sizes, strict=True):
            rows.append((name, kind, f"{x:.2f}", f"{y:.2f}", f"{z:.2f}", f"{score:.4f}", int(size)))
    write_text(path, csv_text(rows))


def read_picks_csv(
    path: str | os.PathLike[str],
) -> dict[str, tuple[NDArray[np.float64], list[str], NDArray[np.float64]]]:
    """Read positions, (N, 3) as (z, y, x), classes and scores of each tomogram from CSV.

    Columns are found by their names: x, y, z and class are needed; a missing tomogram is ``""``, a missing score 1.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, a column is missing, or a position or score is no number.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file of picks")
    try:
        table = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig")))
        rows, columns = list(table), table.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: not a CSV file: {error}") from error
    missing = {"x", "y", "z", "class"} - set(columns)
    if missing:
        raise ValueError(f"{file}: no column {', '.join(sorted(missing))}, expected class, x, y, z")
    grouped: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        grouped.setdefault(row.get("tomogram") or "", []).append(row)
    return {
        name: (
            np.array([[_number(file, row, axis) for axis in "zyx"] for row in group]),
            [row["class"] or "" for row in group],
            np.array([_number(file, row, "score", 1.0) for row in group]),
        )
        for name, group in grouped.items()
    }


def _number(file: Path, row: Mapping[str, str | None], column: str, missing: float = math.nan) -> float:
    text = row.get(column)
    try:
        value = float(text) if text else missing
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{file}: x, y, z and score must be numbers, got {column} {text!r}")
    return value


def write_relion(
    path: str | os.PathLike[str],
    picks: Mapping[str, Picks],
    classes: Sequence[str],
    style: StarStyle = "relion5",
    *,
    pixel_size: float | Mapping[str, float] | None = None,
    size_px: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Write a particle STAR file for RELION 4 or 5, or Warp.

    One table, ``particles``, as RELION's own picker writes it: RELION reads the first table of a list of coordinates,
    and takes the optics from its tilt series. ``rlnClassNumber`` counts from 1 in the order of `classes`; the score
    stands in ``rlnAutopickFigureOfMerit``; angles, which are not known, are 0. See `monai_cryo.io.particles` for the
    coordinates. Warp's tilt series are ``NAME.tomostar`` in ``rlnMicrographName``; its coordinates are voxels of the
    tomogram, whose voxel size ``WarpTools ts_export_particles`` is told as ``--coords_angpix``.

    Parameters
    ----------
    path
        The file, whole or not at all, in place of one that is there.
    picks
        ``rlnTomoName`` -> picks.
    classes
        All class names, in order.
    style
        Whose coordinates.
    pixel_size
        For RELION: pixel size of the tilt series, Å, one for all or ``rlnTomoName`` -> pixel size. Of those that are
        missing it is the voxel size: the tomograms are not binned.
    size_px
        For RELION 5: ``rlnTomoName`` -> size of the tomogram (z, y, x) in tilt-series pixels; of those that are missing
        the tomogram's own size times the binning.

    Raises
    ------
    ValueError
        If a pick's class is not in `classes`.
    """
    check_word("style", style, StarStyle)
    warp = style == "warp"
    coordinates: CoordinateStyle = "relion4" if style == "warp" else style
    labels = ["rlnMicrographName" if warp else "rlnTomoName", *coordinate_columns(coordinates)]
    labels += ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnClassNumber", "rlnAutopickFigureOfMerit"]
    labels += ["rlnMicrographPixelSize" if warp else "rlnTomoTiltSeriesPixelSize", "monaiCryoClassName"]
    pixels: Mapping[str, float] = {}
    if pixel_size is not None and not warp:
        pixels = pixel_size if isinstance(pixel_size, Mapping) else dict.fromkeys(picks, pixel_size)
    rows: list[tuple[object, ...]] = []
    for tomogram, found in picks.items():
        unknown = sorted(set(found.names) - set(classes))
        if unknown:
            raise ValueError(f"{tomogram}: picks of class {', '.join(unknown)}, expected {', '.join(classes)}")
        pixel = pixels.get(tomogram, found.voxel_size)
        whole = (size_px or {}).get(tomogram) or [round(n * found.voxel_size / pixel) for n in found.shape]
        values = index_to_star(found.index, coordinates, found.voxel_size, pixel, whole)
        series = f"{tomogram}.tomostar" if warp else tomogram
        for name, score, value in zip(found.names, found.scores, values, strict=True):
            number = list(classes).index(name) + 1
            rows.append((series, *map(float, value), 0.0, 0.0, 0.0, number, float(score), float(pixel), name))
    columns = dict(zip(labels, zip(*rows, strict=True) if rows else [()] * len(labels), strict=True))
    write_text(path, star_text("particles", columns))


def write_copick(
    folder: str | os.PathLike[str], picks: Picks, run: str, *, user: str = "monai-cryo", session: str = "0"
) -> list[Path]:
    """Write one copick picks file a class, ``USER_SESSION_OBJECT.json``, as in a run's ``Picks`` folder.

    Locations are Å from the tomogram's first voxel, which is where copick's tomograms begin; orientations are marked
    as not to be trusted; session ``"0"`` says that a tool made the picks. Characters that copick's names may not
    hold (spaces, underscores, those of paths) become dashes, as its ``sanitize_name`` makes them.

    Parameters
    ----------
    folder
        Where to; made if it is not there. All picks there of this user and session are replaced.
    picks
        Of one tomogram.
    run
        Name of copick's run.
    user, session
        Of the picks.

    Returns
    -------
    list
        The files.

    Raises
    ------
    ValueError
        If two of the classes have one name in copick.

    References
    ----------
    copick's ``CopickPicksFile`` and ``CopickPoint`` (copick.models), ``sanitize_name`` (copick.util.escape).
    """
    target, files = Path(folder), []
    owner = [_copick_name(part) for part in (user, session)]
    before = set(copick_files(target, user, session))
    names = sorted(set(picks.names))
    if len({_copick_name(name) for name in names}) < len(names):
        raise ValueError(f"copick would call two of the classes {', '.join(names)} the same: rename one")
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        chosen = [n for n, other in enumerate(picks.names) if other == name]
        points = [
            {
                "location": dict(zip("xyz", (picks.index[n][::-1] * picks.voxel_size).round(3).tolist(), strict=True)),
                "transformation_": np.eye(4).tolist(),
                "instance_id": 0,
                "score": round(float(picks.scores[n]), 6),
            }
            for n in chosen
        ]
        parts = [*owner, _copick_name(name)]
        content = {
            "pickable_object_name": parts[2],
            "user_id": parts[0],
            "session_id": parts[1],
            "run_name": run,
            "voxel_spacing": round(picks.voxel_size, 3),
            "unit": "angstrom",
            "points": points,
            "trust_orientation": False,
        }
        files.append(target / f"{'_'.join(parts)}.json")
        write_text(files[-1], json.dumps(content, indent=2) + "\n")
    for left in before - set(files):
        left.unlink()
    return files


def copick_files(folder: str | os.PathLike[str], user: str = "monai-cryo", session: str = "0") -> list[Path]:
    """List what `write_copick` has written into a folder: the picks there of this user and session, of no other."""
    return list(Path(folder).glob(f"{_copick_name(user)}_{_copick_name(session)}_*.json"))


def _copick_name(text: str) -> str:
    return re.sub(_NOT_IN_COPICK_NAMES, "-", text).strip("-")
