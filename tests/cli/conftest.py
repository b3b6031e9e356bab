from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from monai_cryo.bundle import ModelRecord
from monai_cryo.networks import TwoBranchNet
from monai_cryo.transforms import MTF, NormalizeSpectrum, Standardize

CLASSES = ["ribosome", "membrane", "background"]


def save_model(path: Path, normalize: object) -> Path:
    torch.manual_seed(0)
    network = partial(TwoBranchNet, num_classes=3, features=(2, 2, 3, 3, 4), fc=(4, 4), norm="batch")
    built = ModelRecord(CLASSES, 10.0, 40, "dark", normalize, network).build()
    with torch.no_grad():
        built.segmenter.layer.bias.zero_()
    torch.save(built.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an untrained model of three classes at 10 Å."""
    return save_model(tmp_path_factory.mktemp("model") / "model.pt", Standardize())


@pytest.fixture(scope="session")
def spectrum_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one that wants the common spectrum."""
    return save_model(tmp_path_factory.mktemp("model") / "model.pt", NormalizeSpectrum())


@pytest.fixture(scope="session")
def mtf_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one that is normalised as no tomogram can be."""
    return save_model(tmp_path_factory.mktemp("model") / "model.pt", MTF())
