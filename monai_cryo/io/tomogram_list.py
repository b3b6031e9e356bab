"""RELION 5's list of tomograms, ``tomograms.star``: which files they are, how large and how binned."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi

from monai_cryo.io.confine import named_file
from monai_cryo.io.star import read_document

__all__ = ["ListedTomogram", "read_tomogram_list"]

# Of several reconstructions the first is read: one of all tilts, half of the frames, what another network made of them.
_FILES = (
    "rlnTomoReconstructedTomogram",
    "rlnTomoReconstructedTomogramHalf1",
    "rlnTomoReconstructedTomogramDenoised",
)
_SIZES = ("rlnTomoSizeZ", "rlnTomoSizeY", "rlnTomoSizeX")
_NEEDED = ("rlnTomoName", *_SIZES, "rlnTomoTiltSeriesPixelSize")
_BINNING = "rlnTomoTomogramBinning"
_NONE = ("", "None", "N/A", "n/a")
# RELION rounds x and y and cuts z off; others make a size even
_TOLERANCE = 2.0


@dataclass(frozen=True)
class ListedTomogram:
    """A tomogram as RELION 5 lists it.

    Attributes
    ----------
    name
        ``rlnTomoName``.
    path
        Its file; it may be missing. None: it is not reconstructed.
    pixel_size
        Of the tilt series, Å.
    size_px
        Its size (z, y, x) in pixels of the tilt series, whatever the file's binning.
    binning
        Pixels of the tilt series in a voxel of the file; None where the list does not say.
    """

    name: str
    path: Path | None
    pixel_size: float
    size_px: tuple[int, int, int]
    binning: float | None

    @property
    def voxel_size(self) -> float | None:
        """Voxel size of the file, Å; None where the list does not say."""
        return None if self.binning is None else self.binning * self.pixel_size

    def check(self, shape: Sequence[int], voxel_size: float) -> None:
        """Refuse a file of another size, whose middle is elsewhere.

        Parameters
        ----------
        shape
            Of the file, (z, y, x).
        voxel_size
            Of the file, Å.

        Raises
        ------
        ValueError
            If the file is not as large as the list says, to 2 voxels.
        """
        expected = [n * self.pixel_size / voxel_size for n in self.size_px]
        if max(abs(n - e) for n, e in zip(shape, expected, strict=True)) > _TOLERANCE:
            raise ValueError(
                f"{self.path}: {' x '.join(map(str, shape))} voxels of {voxel_size:g} Å, expected about "
                f"{' x '.join(f'{e:.0f}' for e in expected)}: tomogram {self.name} is listed with "
                f"{' x '.join(map(str, self.size_px))} pixels of {self.pixel_size:g} Å (z, y, x)"
            )


def read_tomogram_list(path: str | os.PathLike[str]) -> dict[str, ListedTomogram]:
    """Read a ``tomograms.star`` of RELION 5: ``rlnTomoName`` -> tomogram.

    Of a tomogram's files the first that is named is taken: ``rlnTomoReconstructedTomogram``, ``...Half1``,
    ``...Denoised``. Paths are relative to the project's folder: the nearest above the list that holds the file.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is no STAR file, lacks a column, lists a name twice, or a size is none.
    """
    file = Path(path)
    _, document = read_document(file)
    block = next((b for b in document if b.find(["_rlnTomoName"])), None)
    found = set() if block is None else {label for label in (*_NEEDED, *_FILES, _BINNING) if block.find([f"_{label}"])}
    missing = [f"_{label}" for label in _NEEDED if label not in found]
    if block is None or missing:
        raise ValueError(f"{file}: no column {', '.join(missing)}, expected RELION 5's tomograms.star")
    if not found & set(_FILES):
        files = ", ".join(f"_{label}" for label in _FILES)
        raise ValueError(f"{file}: no column {files}: name the folder of the tomograms, or one that lists their files")
    labels = [*_NEEDED, *sorted(found - set(_NEEDED))]
    result: dict[str, ListedTomogram] = {}
    for row in block.find([f"_{label}" for label in labels]):
        values = {label: gemmi.cif.as_string(value) for label, value in zip(labels, row, strict=True)}
        name = values["rlnTomoName"]
        if name in result:
            raise ValueError(f"{file}: tomogram {name} is listed twice")
        size = [_positive(file, name, label, values[label]) for label in _SIZES]
        binning = _positive(file, name, _BINNING, values[_BINNING]) if _BINNING in values else None
        pixel_size = _positive(file, name, "rlnTomoTiltSeriesPixelSize", values["rlnTomoTiltSeriesPixelSize"])
        named = next((values[label] for label in _FILES if values.get(label, "") not in _NONE), None)
        place = None if named is None else named_file(named, file, project=True)
        result[name] = ListedTomogram(name, place, pixel_size, (int(size[0]), int(size[1]), int(size[2])), binning)
    return result


def _positive(file: Path, name: str, label: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ValueError(f"{file}: _{label} of tomogram {name} must be a number > 0, got {text!r}")
    return value
