"""Curves of one's own: a detector's MTF from a file, a noise spectrum from empty tomogram patches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import gemmi
import numpy as np
import torch

from monai_cryo.io.mrc import read_mrc
from monai_cryo.physics.fourier import nyquist, radial_power_spectrum, voxel_size_zyx

__all__ = ["measure_noise_spectrum", "read_mtf"]


def read_mtf(path: str | os.PathLike[str]) -> list[list[float]]:
    """Read a detector curve for :class:`monai_cryo.transforms.MTF`.

    Parameters
    ----------
    path
        Two columns, fraction of Nyquist (0..1) and value, separated by spaces or commas; or a STAR file with
        ``_rlnResolutionInversePixel`` (cycles per pixel, 0..0.5) and ``_rlnMtfValue``, as the microscope makers'.

    Returns
    -------
    list
        Rows (fraction of Nyquist, value).

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or no curve in it.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no MTF file {file}")
    try:
        if file.suffix.lower() == ".star":
            columns = ["_rlnResolutionInversePixel", "_rlnMtfValue"]
            tables = [block.find(columns) for block in gemmi.cif.read_file(str(file))]
            rows = np.array([[float(v) for v in row] for table in tables for row in table])
            rows[:, 0] *= 2  # cycles per pixel -> fraction of Nyquist
        else:
            text = "\n".join(line.split("#")[0].replace(",", " ") for line in file.read_text().splitlines())
            rows = np.array([[float(v) for v in line.split()] for line in text.splitlines() if line.strip()])
    except (ValueError, IndexError, RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must hold two columns of numbers, or a STAR file with an MTF: {error}") from error
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] != 2 or not (rows[1:, 0] > rows[:-1, 0]).all():
        raise ValueError(f"{file} must hold two columns, the first ascending; found shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{file} must hold finite numbers, found NaN or infinity")
    return [[float(v) for v in row] for row in rows]


def measure_noise_spectrum(
    paths: Sequence[str | os.PathLike[str]], voxel_size: float | None = None, bins: int | None = None
) -> list[list[float]]:
    """Measure the radial noise power of empty tomogram patches, for ``RandSNR(spectrum=...)``.

    Parameters
    ----------
    paths
        MRC volumes of one voxel size with nothing in them. Each is standardised, the spectra are averaged.
    voxel_size
        Å, where the headers are not to be believed.
    bins
        Number of shells; half the smallest axis if None.

    Returns
    -------
    list
        Rows (fraction of Nyquist, power), for noise of variance 1 in all.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, unreadable or constant, or there is none.
    """
    if not paths:
        raise ValueError("a noise spectrum needs at least one empty patch, got none")
    spectra = []
    for path in paths:
        array, size, _ = read_mrc(path, voxel_size=voxel_size)
        volume = torch.as_tensor(np.asarray(array, dtype=np.float32))
        size = voxel_size_zyx(size or 1.0)
        if float(volume.std()) == 0:
            raise ValueError(f"{path}: expected noise, found one value everywhere")
        frequency, power = radial_power_spectrum((volume - volume.mean()) / volume.std(), size, bins)
        spectra.append((frequency / nyquist(size), power))
    lengths = {len(fraction) for fraction, _ in spectra}
    if len(lengths) > 1:
        raise ValueError(f"the empty patches must have one box size, or pass bins; found {sorted(lengths)} shells")
    mean = torch.stack([power for _, power in spectra]).mean(dim=0)
    return [[float(f), float(p)] for f, p in zip(spectra[0][0], mean, strict=True)]
