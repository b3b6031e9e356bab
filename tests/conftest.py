"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of maps, structures and real tomograms; skip where it is absent."""
    folder = Path(os.environ.get("MONAI_CRYO_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set MONAI_CRYO_DATA to a folder with maps/, structures/ and real/")
    return folder


@pytest.fixture(scope="session")
def bundle_root() -> Path:
    """Return the bundle in the checkout."""
    return REPOSITORY / "bundles" / "subtomogram"
