"""The example of a real cell: what is downloaded is checked, and the reconstruction is where the specimen is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import mrcfile
import numpy as np
import pytest
import torch

from monai_cryo.io import read_mrc
from monai_cryo.physics import project


@pytest.fixture
def example() -> ModuleType:
    file = Path(__file__).resolve().parents[1] / "examples" / "real_tomogram" / "run.py"
    spec = importlib.util.spec_from_file_location("real_tomogram", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_another_archive_is_refused(example: ModuleType, tmp_path: Path) -> None:
    (tmp_path / example.ARCHIVE).write_bytes(b"something else")
    with pytest.raises(ValueError, match="SHA-256 is"):
        example.download(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [example.ARCHIVE]


def test_particles_are_reconstructed_where_they_are(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, where = (24, 30, 40), (15, 10, 27)
    monkeypatch.setattr(example, "SHAPE", shape)
    monkeypatch.setattr(example, "SLAB", 16)
    monkeypatch.setattr(example, "PIXEL_A", example.VOXEL_A)
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    ball = np.exp(-sum((g - w) ** 2 for g, w in zip(grids, where, strict=True)) / 8).astype(np.float32)
    angles = np.arange(-60.0, 61.0, 5.0)
    tilts = project(torch.from_numpy(ball), (-angles).tolist()).numpy()
    right, up = 3, -2  # pixels that the specimen's middle lies from the image's
    with mrcfile.new(tmp_path / "00254.stack.mrc") as mrc:
        mrc.set_data(np.roll(tilts, (up, right), (1, 2)))
    columns = {"Angles": angles, "AxisAngle": 0 * angles}
    columns |= {"AxisOffsetX": 0 * angles + right * example.VOXEL_A, "AxisOffsetY": 0 * angles + up * example.VOXEL_A}
    text = "".join(f"<{name}>{chr(10).join(map(str, values))}</{name}>" for name, values in columns.items())
    (tmp_path / "00254.xml").write_text(f"<TiltSeries>{text}</TiltSeries>")
    example.reconstruct(example.download(tmp_path), tmp_path / "t.mrc")
    found, voxel_size, _ = read_mrc(tmp_path / "t.mrc")
    assert np.unravel_index(found.argmax(), shape) == where
    assert voxel_size == (example.VOXEL_A,) * 3
