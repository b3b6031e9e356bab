"""From a file to a reading and back to the file's own grid: one model, tomograms of any voxel size."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from monai_cryo._defaults import LABEL_THRESHOLD
from monai_cryo._typing import Precision
from monai_cryo.bundle import TrainedModel
from monai_cryo.inferers.classifier_map import WINDOW
from monai_cryo.inferers.dense import DenseInferer
from monai_cryo.inferers.normalize import check_normalization, normalize_tomogram
from monai_cryo.inferers.picks import pick_particles
from monai_cryo.inferers.places import blob_places, scored_places
from monai_cryo.inferers.windows import Reading, WindowInferer
from monai_cryo.io.digest import sha256
from monai_cryo.io.picks import Picks
from monai_cryo.io.tomogram import (
    Tomogram,
    mapped_mrc,
    new_map,
    release_pages,
    resample_tomogram,
    sections,
    to_source_index,
)
from monai_cryo.networks import TwoBranchNet
from monai_cryo.physics.resampling import same_voxel_size

__all__ = ["TomogramReader", "TomogramReading", "model_digest"]

BACKGROUND = "background"
_MOST_CLASSES = 127
_LEAST_SCORE = 0.25  # of a class without a diameter, where windows are to be looked at


class TomogramReader:
    """Read tomograms with a trained model.

    First it says where to look: at blobs as large as particles, and, for classes without a diameter, wherever the
    classifier, run densely, finds them likely. Then it looks at each place through a window, as at a subtomogram.

    Parameters
    ----------
    model
        What `monai_cryo.bundle.read_model` returned.
    diameters_a
        Class -> diameter, Å, of the classes that are particles; see `particle_diameters`.
    device
        Where the network runs.
    contrast
        Of the protein in the tomograms, dark (as reconstructed) or bright.
    stride, core
        As for `DenseInferer`.
    threshold
        As for `WindowInferer`.
    flips
        As for both.
    precision
        As for `monai_cryo.networks.TwoBranchNet`: ``"auto"`` is faster on GPUs and on processors with AMX, and
        answers then differ a little from those of other machines.

    Raises
    ------
    ValueError
        If the model cannot read whole tomograms, or an argument is none of the above.
    """

    def __init__(
        self,
        model: TrainedModel,
        diameters_a: Mapping[str, float],
        *,
        device: str | torch.device = "cpu",
        contrast: str = "dark",
        stride: int = 8,
        core: int = 96,
        threshold: float = LABEL_THRESHOLD,
        flips: bool = False,
        precision: Precision = "float32",
    ) -> None:
        network = model.network(precision)
        if not isinstance(network, TwoBranchNet) or model.box != WINDOW:
            raise ValueError(
                f"{model.path}: tomograms are read with a TwoBranchNet of boxes of {WINDOW} voxels, "
                f"found {type(network).__name__} of boxes of {model.box}"
            )
        if len(model.classes) > _MOST_CLASSES:
            raise ValueError(
                f"{model.path}: labels are int8, which has room for {_MOST_CLASSES} classes, found {len(model.classes)}"
            )
        check_normalization(model.normalize)
        self.model, self.negate = model, model.negates(contrast)
        self.contrast = contrast
        self.diameters_a = {name: size for name, size in diameters_a.items() if name not in model.absent}
        background = model.classes.index(BACKGROUND) if BACKGROUND in model.classes else None
        self.dense = DenseInferer(network.to(device), stride=stride, core=core, flips=flips)
        self.windows = WindowInferer(network, threshold=threshold, background=background, flips=flips)
        # all that an answer depends on; the size of cores is none of it
        self.settings: dict[str, Any] = {
            "model": model_digest(model),
            "classes": model.classes,
            "abundance": model.abundance,
            "diameters_a": self.diameters_a,
            "negate": self.negate,
            "stride": stride,
            "threshold": threshold,
            "flips": flips,
            "precision": precision,
        }

    def read(
        self,
        tomogram: Tomogram,
        scratch: str | os.PathLike[str],
        progress: Callable[[int, int], None] | None = None,
    ) -> TomogramReading:
        """Read a tomogram, resampled to the model's voxel size where it has another.

        Parameters
        ----------
        tomogram
            What `open_tomogram` returned.
        scratch
            An empty folder for what is larger than memory: 5 bytes a voxel and 2 more a class, for a while 4 more where
            the tomogram is resampled; needed as long as the reading is.
        progress
            Called with (done, all there is to do as far as is known), in blocks and windows.

        Raises
        ------
        ValueError
            If the tomogram holds values that are not finite, or one value everywhere.
        OSError
            If the scratch folder's disk has no room.
        """
        folder, size = Path(scratch), self.model.voxel_size
        self._check_room(tomogram, folder)
        volume: NDArray[Any] = tomogram.data
        if same_voxel_size(tomogram.voxel_size, size):
            size = tomogram.voxel_size  # index for index
        else:
            volume = resample_tomogram(tomogram, size, folder / "resampled")
        normal = normalize_tomogram(
            volume, self.model.normalize, self.model.box, folder / "normalized", negate=self.negate
        )
        if normal.volume is not volume:
            (folder / "resampled").unlink(missing_ok=True)
        volume = normal.volume
        mapped = [volume]

        def allocate(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
            mapped.append(new_map(folder / name, dtype, shape))
            return mapped[-1]

        def after(done: int, total: int) -> None:
            for array in mapped:
                release_pages(array)
            if progress is not None:
                progress(done, total)

        places, blocks = [self._blobs(volume)], 0
        sheets = [
            k
            for k, name in enumerate(self.model.classes)
            if name not in {BACKGROUND, *self.model.absent, *self.diameters_a}
        ]
        if sheets:
            blocks = self.dense.blocks(volume.shape)
            scores = self.dense(volume, normal.block, progress=lambda n, _: after(n, blocks + len(places[0])))
            places += [scored_places(scores[k], self.dense.stride, _LEAST_SCORE) for k in sheets]
        where = np.concatenate(places)
        reading = self.windows(
            volume, where, normal.window, allocate=allocate, progress=lambda n, of: after(blocks + n, blocks + of)
        )
        return TomogramReading(tomogram, volume, reading, self.model.classes, size)

    def _check_room(self, tomogram: Tomogram, folder: Path) -> None:
        """Refuse a disk without room for what lies there at once."""
        resampled = not same_voxel_size(tomogram.voxel_size, self.model.voxel_size)
        voxels = math.prod(tomogram.data.shape)
        if resampled:
            voxels = int(voxels * (tomogram.voxel_size / self.model.voxel_size) ** 3)
        needed, free = voxels * (5 + 2 * len(self.model.classes) + 4 * resampled), shutil.disk_usage(folder).free
        if needed > free:
            found = f"{needed / 2**20:.0f} MiB for a while, found {free / 2**20:.0f}"
            raise OSError(errno.ENOSPC, f"expected room for {found}", str(folder))

    def _blobs(self, volume: NDArray[Any]) -> NDArray[np.float64]:
        diameters = [d / self.model.voxel_size for d in self.diameters_a.values()]
        return blob_places(volume, diameters, bright=self.contrast == "bright")


def model_digest(model: TrainedModel) -> str:
    """Return what tells a model's file from every other: the beginning of its SHA-256."""
    return sha256(model.path)[:16]


@dataclass(frozen=True, eq=False)
class TomogramReading:
    """A reading, and the tomogram it is of.

    Attributes
    ----------
    tomogram
        As it is on disk.
    volume
        [z, y, x], as the network saw it but for a standardisation.
    reading
        On the grid of `volume`.
    classes
        Names.
    voxel_size
        Of `volume`, Å.
    """

    tomogram: Tomogram
    volume: NDArray[Any]
    reading: Reading
    classes: list[str]
    voxel_size: float

    def picks(self, diameters_a: Mapping[str, float], *, min_score: float) -> Picks:
        """Return the particles found, in voxels of the tomogram itself; see `pick_particles`."""
        found = pick_particles(self.reading, self.classes, diameters_a, self.voxel_size, min_score=min_score)
        ratio = (self.voxel_size / self.tomogram.voxel_size) ** 3
        depth, height, width = self.tomogram.data.shape
        return Picks(
            index=to_source_index(found.index, self.tomogram, self.volume.shape, self.voxel_size),
            names=found.names,
            scores=found.scores,
            sizes=np.rint(found.sizes * ratio).astype(np.int64),
            voxel_size=self.tomogram.voxel_size,
            shape=(depth, height, width),
        )

    def write_labels(self, path: str | os.PathLike[str]) -> None:
        """Write the labels as MRC on the tomogram's own grid: 0 nothing, 1 + the class's index elsewhere."""
        self._write(path, self.reading.labels, np.int8)

    def write_score(self, path: str | os.PathLike[str], class_index: int) -> None:
        """Write a class's map, 0..1, as MRC (float16) on the tomogram's own grid."""
        self._write(path, self.reading.maps[class_index], np.float16)

    def covered(self) -> dict[str, float]:
        """Return the share of the volume that each class's label covers."""
        counts = np.zeros(len(self.classes) + 1, np.int64)
        for section in sections(self.reading.labels):
            counts += np.bincount(np.asarray(section).ravel(), minlength=len(counts))
        return {name: float(n) / math.prod(self.volume.shape) for name, n in zip(self.classes, counts[1:], strict=True)}

    def _write(self, path: str | os.PathLike[str], values: NDArray[Any], dtype: type[np.generic]) -> None:
        """Write a volume section by section, each voxel with the value of the nearest."""
        depth, height, width = self.tomogram.data.shape
        ratio = self.tomogram.voxel_size / self.voxel_size
        nearest, inside = [], []
        for old, new in zip((depth, height, width), self.volume.shape, strict=True):
            at = np.floor((np.arange(old) - old // 2) * ratio + new // 2 + 0.5).astype(int)
            nearest.append(at.clip(0, new - 1))
            inside.append((at >= 0) & (at < new))
        with mapped_mrc(path, (depth, height, width), dtype, self.tomogram.voxel_size, self.tomogram.origin) as out:
            for z in range(depth):
                if inside[0][z]:
                    section = np.asarray(values[nearest[0][z]])[np.ix_(nearest[1], nearest[2])]
                    out[z] = section * (inside[1][:, None] & inside[2])
                for array in (values, out):
                    release_pages(array)
