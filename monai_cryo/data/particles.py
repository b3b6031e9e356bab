"""The particles of a STAR file as images: files of their own, images of a stack, or boxes cut from tomograms."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from monai_cryo._described import Described
from monai_cryo.data.chains import LARGEST_SUBTOMOGRAM
from monai_cryo.data.memory import image_in_memory
from monai_cryo.io.header import read_header
from monai_cryo.io.mrc import may_be_tomogram, tomogram_name
from monai_cryo.io.particles import ParticleImage, coordinate_columns, particle_images, positions, tomogram_names
from monai_cryo.io.star import ParticleStar
from monai_cryo.io.tomogram import Tomogram, cut_boxes, open_tomogram
from monai_cryo.io.tomogram_list import ListedTomogram, read_tomogram_list

__all__ = ["StarParticles", "find_tomograms"]


class StarParticles(Described, Sequence[dict[str, Any]]):
    """Items ``image`` and ``file`` for the particles of a STAR file, read one by one.

    With tomograms the boxes are cut at the coordinates; without them, ``rlnImageName`` is read.

    Parameters
    ----------
    star
        The file.
    voxel_size, box
        Of the boxes that are cut: Å and voxels.
    tomograms
        Folder of tomograms, named as the STAR file names them (`find_tomograms`), or RELION 5's ``tomograms.star``,
        which says which files they are, their voxel sizes, and where the middle of each is.
    file_voxel_size
        Å, of the tomograms, in place of their headers' or the list's.
    pixel_size
        Å a coordinate's pixel has, where the STAR file does not say.

    Raises
    ------
    FileNotFoundError, ValueError
        If columns or files are missing, or a coordinate lies outside its tomogram: before any is read.
    """

    def __init__(
        self,
        star: ParticleStar,
        *,
        voxel_size: float,
        box: int,
        tomograms: str | os.PathLike[str] | None = None,
        file_voxel_size: float | None = None,
        pixel_size: float | None = None,
    ) -> None:
        self.star, self.voxel_size, self.box, self.file_voxel_size = star, voxel_size, box, file_voxel_size
        self._images: list[ParticleImage] = []
        self._places = np.empty((0, 3))
        self._files: list[Path] = []
        self._sizes: dict[Path, float | None] = {}
        self._open = lru_cache(maxsize=2)(lambda path: open_tomogram(path, self._sizes[path]))
        if tomograms is not None:
            self._locate(Path(tomograms), pixel_size)
        elif "rlnImageName" in star.columns:
            self._images = particle_images(star)
            flat = next((i.path for i in self._images if i.section is None and i.path.suffix.lower() == ".mrcs"), None)
            if flat is not None:
                raise ValueError(
                    f"{star.path}: {flat} is a stack of tilt images, expected subtomograms: "
                    "name the folder of the tomograms (--tomograms)"
                )
        else:
            raise ValueError(
                f"{star.path}: no column _rlnImageName: name the folder of the tomograms or RELION 5's tomograms.star "
                "(--tomograms)"
            )

    def __len__(self) -> int:
        return len(self.star)

    def file(self, index: int) -> str:
        """Return the name of a particle: the STAR file's, and its row from 1."""
        return f"{self.star.path}:{index + 1}"

    def places(self) -> tuple[list[Path], NDArray[np.float64]]:
        """Return the tomogram of each particle, N, and where it is in it, as indices (z, y, x), (N, 3)."""
        return list(self._files), self._places.copy()

    @property
    def sources(self) -> list[Path]:
        """Files that the particles are read from, each once."""
        return sorted({*self._files, *(image.path for image in self._images)})

    def __getitem__(self, index: Any) -> Any:
        """Return particle `index`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return {"image": self._image(index), "file": self.file(index)}

    def _image(self, index: int) -> Any:
        if self._files:
            tomogram: Tomogram = self._open(self._files[index])
            place = self._places[index : index + 1]
            ((box, _),) = cut_boxes(tomogram.data, place, self.box, tomogram.voxel_size, self.voxel_size)
            return image_in_memory(box, self.voxel_size, self.file(index))
        image = self._images[index]
        if image.section is None:
            header = read_header(image.path, 3, believed=self.file_voxel_size is None)
            sizes = header.voxel_size if self.file_voxel_size is None else (self.file_voxel_size,)
            if not self._is_large(header.shape, max(sizes or (0.0,))):
                return str(image.path)
            large = open_tomogram(image.path, self.file_voxel_size)
            return self._middle(large.data, large.voxel_size, index)
        header = read_header(image.path, 4, believed=self.file_voxel_size is None)
        if not header.plain:
            raise ValueError(f"{image.path}: a compressed stack, expected a plain one: unpack it")
        if image.section >= header.shape[0]:
            raise ValueError(f"{image.path}: no volume number {image.section + 1} in data of shape {header.shape}")
        size = header.cubic_voxel_size() if self.file_voxel_size is None else self.file_voxel_size
        stack = np.memmap(image.path, header.dtype, "r", header.offset, header.shape)
        if self._is_large(header.shape[1:], size):
            return self._middle(stack[image.section], size, index)
        volume = torch.from_numpy(np.array(stack[image.section], np.float32))
        return image_in_memory(volume, size, self.file(index))

    def _is_large(self, shape: Sequence[int], voxel_size: float) -> bool:
        return max(shape) * voxel_size > LARGEST_SUBTOMOGRAM * self.box * self.voxel_size

    def _middle(self, volume: NDArray[Any], voxel_size: float, index: int) -> Any:
        """Cut the model's box out of a particle's: what a STAR file calls a particle is no tomogram."""
        middle = [n // 2 for n in volume.shape]
        ((box, _),) = cut_boxes(volume, [middle], self.box, voxel_size, self.voxel_size)
        return image_in_memory(box, self.voxel_size, self.file(index))

    def _locate(self, place: Path, pixel_size: float | None) -> None:
        names = tomogram_names(self.star)
        wanted = sorted(set(names))
        listed = _find_listed(place, wanted) if place.suffix.lower() == ".star" else {}
        files = {name: path for name, (_, path) in listed.items()} or find_tomograms(place, wanted)
        self._files = [files[name] for name in names]
        self._places = np.empty((len(self), 3))
        centred = set(coordinate_columns("relion5")) <= set(self.star.columns)
        for name, file in files.items():
            rows = np.flatnonzero([other == name for other in names])
            part = replace(self.star, columns={k: [v[n] for n in rows] for k, v in self.star.columns.items()})
            entry = listed[name][0] if listed else None
            self._sizes[file] = self.file_voxel_size or (entry.voxel_size if entry else None)
            tomogram: Tomogram = self._open(file)
            shape = tomogram.data.shape
            if entry is not None:
                entry.check(shape, tomogram.voxel_size)
            if not centred:
                pixel, size = pixel_size, None
            elif entry is not None:
                pixel, size = entry.pixel_size, entry.size_px
            else:  # Å from the middle need no pixels: half of the tomogram's own size will do
                pixel, size = tomogram.voxel_size, shape
            said = entry.pixel_size if entry else None
            found = positions(part, tomogram.voxel_size, pixel_size=pixel, size_px=size, listed_pixel_size=said)
            outside = ((found < -0.5) | (found > np.array(shape) - 0.5)).any(1)
            if outside.any():
                first = np.flatnonzero(outside)[0]
                raise ValueError(
                    f"{self.star.path}: {int(outside.sum())} of {len(rows)} particles lie outside {file} "
                    f"{shape}, row {rows[first] + 1} at (z, y, x) = {found[first].round(1).tolist()}: "
                    "is the pixel size right?"
                )
            self._places[rows] = found


def _find_listed(file: Path, names: Sequence[str]) -> dict[str, tuple[ListedTomogram, Path]]:
    """Entries and files of tomograms in a `tomograms.star`; a refusal if one is not listed or not there."""
    listed = read_tomogram_list(file)
    unknown = [name for name in names if name not in listed]
    if unknown:
        known = ", ".join(list(listed)[:3]) + (", ..." if len(listed) > 3 else "")
        raise ValueError(f"{file}: {len(unknown)} of {len(names)} tomograms not listed: {unknown[0]}; found {known}")
    found = {name: (listed[name], path) for name in names if (path := listed[name].path) is not None}
    gone = [name for name in names if name not in found or not found[name][1].is_file()]
    if gone:
        said = f"the file of {gone[0]} is {listed[gone[0]].path or 'not named'}"
        raise FileNotFoundError(f"{file}: {len(gone)} of {len(names)} tomograms are missing: {said}")
    return found


def find_tomograms(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Find the files of tomograms, as RELION and Warp name them: ``NAME.mrc``, ``rec_NAME.mrc``, ``NAME_13.68Apx.mrc``.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such folder, or not exactly one file of a name.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of tomograms")
    files = sorted(path for path in folder.iterdir() if path.is_file() and may_be_tomogram(path))
    called = {name: Path(name).name for name in names}  # RELION 3 writes folders, too
    if len(set(called.values())) < len(called):
        called = {name: name for name in names}
    found = {}
    for given, name in called.items():
        exact = [f for f in files if tomogram_name(f) == name]
        fit = exact or [
            f for f in files if re.fullmatch(rf"(rec_)?{re.escape(name)}(_\d+(\.\d+)?Apx)?", tomogram_name(f))
        ]
        if len(fit) != 1:
            said = "none" if not fit else ", ".join(f.name for f in fit[:3])
            raise FileNotFoundError(f"{folder}: expected one MRC file of tomogram {name}, found {said}")
        found[given] = fit[0]
    return found
