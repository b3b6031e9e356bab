"""Where particles are: STAR coordinates of RELION 3, 4, 5, Warp and M as indices into a tomogram, and back.

The index counts voxels of the tomogram at hand, (z, y, x), with 0 the centre of the first voxel; a box of N voxels is
centred on its voxel N // 2. With v the voxel size of that tomogram (Å), p the pixel size of the tilt series and N the
tomogram's size in tilt-series pixels:

======= =============================== ================= ============================================================
style   columns                         value             source
======= =============================== ================= ============================================================
relion5 rlnCenteredCoordinateX/Y/ZAngst index*v - p*N / 2 RELION 5: ParticleSet::getPosition adds the centre size / 2
                                                          that TomogramSet::loadTomogram sets, also for odd sizes
                                                          (pull request 1353)
relion4 rlnCoordinateX/Y/Z              index * v / p     RELION 4: pixels of the unbinned tilt series; Warp, whose p is
                                                          that of the export (rlnDetectorPixelSize)
m       wrpCoordinateX1/Y1/Z1           index * v         M: Å
======= =============================== ================= ============================================================

Binning by averaging, as IMOD does, moves the first voxel's centre by (1 - p/v) / 2 binned voxels, which none of these
programs accounts for: within half a voxel. RELION 5's own picker subtracts size / 2 - 1 (issue 1137), one tilt-series
pixel from the rest of it. The origin of an MRC header takes no part: all these coordinates count from the array.
RELION places a particle at its coordinate minus ``rlnOriginX/Y/ZAngst``, turned by ``rlnTomoSubtomogramRot/Tilt/Psi``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from monai_cryo._typing import check_word
from monai_cryo.io.confine import named_file
from monai_cryo.io.star import ParticleStar

__all__ = [
    "CoordinateStyle",
    "ParticleImage",
    "coordinate_columns",
    "index_to_star",
    "particle_images",
    "positions",
    "series_names",
    "star_to_index",
    "tomogram_names",
]

CoordinateStyle = Literal["relion4", "relion5", "m"]

_COLUMNS = {
    "relion5": ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst"),
    "relion4": ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"),
    "m": ("wrpCoordinateX1", "wrpCoordinateY1", "wrpCoordinateZ1"),
}
_ORIGIN = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
_ORIGIN_PX = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")  # RELION 3.0 and before
_SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
_PIXEL_SIZES = ("rlnTomoTiltSeriesPixelSize", "rlnMicrographPixelSize")


@dataclass(frozen=True)
class ParticleImage:
    """The file that holds a particle, and which image of a stack it is, from 0; None: the file is the particle."""

    path: Path
    section: int | None


def coordinate_columns(style: CoordinateStyle) -> tuple[str, str, str]:
    """Return the labels (x, y, z) of a style's coordinates."""
    check_word("style", style, CoordinateStyle)
    return _COLUMNS[style]


def index_to_star(
    index: ArrayLike,
    style: CoordinateStyle,
    voxel_size: float,
    pixel_size: float | None = None,
    size_px: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """Return STAR coordinates (x, y, z), (N, 3), of indices (z, y, x), (N, 3).

    Parameters
    ----------
    index
        Of voxels of the tomogram, (z, y, x), fractions allowed.
    style
        Whose coordinates.
    voxel_size
        Of the tomogram, Å.
    pixel_size
        Of the tilt series (of the export, for Warp), Å; the tomogram's voxel size if None.
    size_px
        For RELION 5: the tomogram's size (z, y, x) in tilt-series pixels.

    Raises
    ------
    ValueError
        On another style, sizes that are not positive, or RELION 5 without `size_px`.
    """
    scale, shift = _affine(style, voxel_size, pixel_size, size_px)
    return (np.asarray(index, float).reshape(-1, 3) * scale - shift)[:, ::-1]


def star_to_index(
    coordinates: ArrayLike,
    style: CoordinateStyle,
    voxel_size: float,
    pixel_size: float | None = None,
    size_px: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """Return indices (z, y, x), (N, 3), of STAR coordinates (x, y, z): the inverse of `index_to_star`."""
    scale, shift = _affine(style, voxel_size, pixel_size, size_px)
    return (np.asarray(coordinates, float).reshape(-1, 3)[:, ::-1] + shift) / scale


def positions(
    star: ParticleStar,
    voxel_size: float,
    *,
    pixel_size: float | None = None,
    size_px: Sequence[int] | None = None,
    listed_pixel_size: float | None = None,
) -> NDArray[np.float64]:
    """Return where the particles of a STAR file are in their tomogram, as indices (z, y, x), (N, 3).

    Parameters
    ----------
    star
        The file.
    voxel_size
        Of the tomogram, Å.
    pixel_size
        Å a coordinate's pixel has. None: ``rlnTomoTiltSeriesPixelSize`` or ``rlnMicrographPixelSize`` of the table or
        its optics group; ``rlnDetectorPixelSize`` / ``rlnMagnification`` for Warp (µm on the detector).
    size_px
        For RELION 5: the tomogram's size (z, y, x) in tilt-series pixels.
    listed_pixel_size
        Å a pixel has where the file itself does not say: what a list says of the tomogram.

    Raises
    ------
    ValueError
        If the file holds no coordinates, or nothing says in which pixels.
    """
    style = _style(star)
    coordinates = np.stack([star.numbers(label) for label in _COLUMNS[style]], 1)
    if style == "m":
        pixel_size = voxel_size
    size = np.full(len(star), pixel_size) if pixel_size is not None else _pixel_sizes(star, listed_pixel_size)
    if not (np.isfinite(size) & (size > 0)).all():
        raise ValueError(f"{star.path}: pixel sizes must be > 0 Å, got {sorted({f'{v:g}' for v in size})[:3]}")
    index = np.empty_like(coordinates)
    for value in np.unique(size):
        rows = size == value
        index[rows] = star_to_index(coordinates[rows], style, voxel_size, float(value), size_px)
    return index - _offsets(star, size)[:, ::-1] / voxel_size


def tomogram_names(star: ParticleStar) -> list[str]:
    """Return each particle's tomogram: ``rlnTomoName``, or ``rlnMicrographName`` / ``wrpSourceName`` without suffix.

    Raises
    ------
    ValueError
        If there is no such column.
    """
    for label in ("rlnTomoName", "rlnMicrographName", "wrpSourceName"):
        if label in star.columns:
            names = [name.removesuffix(".tomostar") for name in star.columns[label]]  # Warp's, in any of them
            return names if label == "rlnTomoName" else [re.sub(r"\.(mrc|rec|map)$", "", name) for name in names]
    raise ValueError(f"{star.path}: no column _rlnTomoName, _rlnMicrographName or _wrpSourceName")


def series_names(names: Sequence[str]) -> list[str]:
    """Return the tilt series of tomograms' files, named as RELION and Warp name them: ``rec_NAME``, ``NAME_13.68Apx``.

    Where two files would be of one series, such as two reconstructions of it, all keep their own names.
    """
    series = [re.sub(r"_\d+(\.\d+)?Apx$", "", name.removeprefix("rec_")) or name for name in names]
    return series if len(set(series)) == len(set(names)) else list(names)


def particle_images(star: ParticleStar) -> list[ParticleImage]:
    """Return the image of each particle, from ``rlnImageName``: ``000001@stack.mrcs`` or a file of its own.

    Paths are relative to the nearest folder above the STAR file that holds the file: RELION's lie deep in the project.
    They lead elsewhere only where `named_file` allows it.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If there is no such column, the number before the ``@`` is none or a file lies elsewhere.
    """
    if "rlnImageName" not in star.columns:
        raise ValueError(f"{star.path}: no column _rlnImageName")
    images = []
    for name in star.columns["rlnImageName"]:
        number, at, file = name.rpartition("@")
        if at and not (re.fullmatch(r"[0-9]{1,9}", number) and int(number) > 0):
            raise ValueError(f"{star.path}: _rlnImageName must read NUMBER@FILE with a number from 1, got {name}")
        images.append(ParticleImage(Path(file), int(number) - 1 if at else None))
    found = {path: named_file(path, star.path, project=True) for path in {image.path for image in images}}
    images = [ParticleImage(found[image.path], image.section) for image in images]
    missing = sorted({str(image.path) for image in images if not image.path.is_file()})
    if missing:
        raise FileNotFoundError(
            f"{star.path}: {len(missing)} of its image files are missing, the first is {missing[0]}"
        )
    return images


def _affine(
    style: CoordinateStyle, voxel_size: float, pixel_size: float | None, size_px: Sequence[int] | None
) -> tuple[float, NDArray[np.float64]]:
    check_word("style", style, CoordinateStyle)
    pixel = voxel_size if pixel_size is None else pixel_size
    if not (voxel_size > 0 and pixel > 0):
        raise ValueError(f"voxel_size and pixel_size must be > 0 Å, got {voxel_size} and {pixel}")
    if style != "relion5":
        return voxel_size / (1.0 if style == "m" else pixel), np.zeros(3)
    if size_px is None or len(size_px) != 3 or min(size_px) < 1:
        raise ValueError(f"centred coordinates need size_px, the tomogram's size (z, y, x) in pixels, got {size_px}")
    return voxel_size, np.asarray(size_px, float) * pixel / 2


def _style(star: ParticleStar) -> CoordinateStyle:
    styles: tuple[CoordinateStyle, ...] = ("relion5", "relion4", "m")
    for style in styles:
        if set(_COLUMNS[style]) <= set(star.columns):
            return style
    wanted = "; ".join(", ".join(f"_{label}" for label in _COLUMNS[s]) for s in styles)
    raise ValueError(f"{star.path}: no coordinates, expected one of {wanted}")


def _pixel_sizes(star: ParticleStar, listed: float | None) -> NDArray[np.float64]:
    """Å a pixel of the coordinates has, for each particle."""
    groups = star.columns.get("rlnOpticsGroup", [next(iter(star.optics), "")] * len(star))
    for label in _PIXEL_SIZES:
        if label in star.columns:
            return np.asarray(star.numbers(label))
        if star.optics and all(label in star.optics.get(group, {}) for group in groups):
            values = replace(star, columns={label: [star.optics[group][label] for group in groups]})
            return np.asarray(values.numbers(label))
    if {"rlnDetectorPixelSize", "rlnMagnification"} <= set(star.columns):
        detector, magnification = (np.asarray(star.numbers(f"rln{n}")) for n in ("DetectorPixelSize", "Magnification"))
        with np.errstate(all="ignore"):
            return np.asarray(detector / magnification * 1e4)
    if listed is not None:
        return np.full(len(star), listed)
    wanted = ", ".join(f"_{label}" for label in (*_PIXEL_SIZES, "rlnDetectorPixelSize with _rlnMagnification"))
    raise ValueError(
        f"{star.path}: in which pixels the coordinates are is not said ({wanted}): pass it in Å (--star_apix, "
        "or pixel_size)"
    )


def _offsets(star: ParticleStar, pixel_sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """What RELION subtracts from a coordinate, Å as (x, y, z)."""
    if not set(_ORIGIN) <= set(star.columns):
        if not set(_ORIGIN_PX) <= set(star.columns):
            return np.zeros((len(star), 3))
        return np.stack([star.numbers(label) for label in _ORIGIN_PX], 1) * pixel_sizes[:, None]
    offsets = np.stack([star.numbers(label) for label in _ORIGIN], 1)
    if set(_SUBTOMOGRAM) <= set(star.columns):
        angles = np.stack([star.numbers(label) for label in _SUBTOMOGRAM], 1)
        offsets = Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply(offsets)
    return np.asarray(offsets)
