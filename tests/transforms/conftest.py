"""Every transform of the package, with options under which each does something: what all must keep to is tested on all.

A test that takes ``kind`` runs for each of them; ``drawing_kind`` are those that draw, ``random_kind`` those with a
``prob`` as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import monai_cryo.transforms as T  # noqa: N812

VOXEL = 13.68


@dataclass(frozen=True)
class Kind:
    """A transform by name, and options for it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, seed: int = 0, **more: Any) -> Any:
        """Make the array version, seeded where it is random."""
        return seeded(getattr(T, self.name)(**{**self.options, **more}), seed)

    def make_dict(self, keys: Any = "image", seed: int = 0, **more: Any) -> Any:
        """Make the dictionary version, seeded where it is random."""
        return seeded(getattr(T, f"{self.name}d")(keys, **{**self.options, **more}), seed)


def seeded(transform: Any, seed: int) -> Any:
    return transform.set_random_state(seed) if hasattr(transform, "set_random_state") else transform


def particles() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [1 + torch.rand(n, n, n, generator=generator) for n in (3, 5)]


RANDOM = [
    Kind("RandSNR", {"snr": (0.1, 1.0), "power_law": (0.0, 2.0)}),
    Kind("RandMissingWedge", {"missing_angle_deg": (10, 50)}),
    Kind("RandCTF", {"voxel_size": VOXEL, "mode": ["raw", "flip", "squared", "wiener"]}),
    Kind("RandMTF", {"scale": (0.5, 1.0)}),
    Kind("RandPose", {"zoom": (0.8, 1.2)}),
    Kind("RandIntensity"),
    Kind("RandNeighbours", {"templates": particles(), "count": (2, 4), "amplitude": (0.5, 1.5)}),
    Kind("RandGoldBead", {"voxel_size": VOXEL}),
    Kind("RandStreaks", {"voxel_size": VOXEL}),
    Kind("RandDensityField", {"amplitude": (0.2, 0.4)}),
    Kind("RandIceGradient", {"amplitude": (0.2, 0.5)}),
    Kind("RandRadialGain", {"walk": (0.2, 0.5), "lowpass": (0.5, 1.0)}),
    Kind(
        "RandTiltSeries",
        {"snr": (0.1, 1.0), "step_deg": 10.0, "tilt_jitter_deg": 0.5, "dose_per_tilt": 1.0, "voxel_size": VOXEL},
    ),
]
DRAWING = [
    *RANDOM,
    Kind("AddNoise", {"snr": 0.5}),
    Kind(
        "FourierCompose",
        {
            "transforms": [T.RandSNR(stage="split"), T.RandMissingWedge(), T.RandCTF(prob=0.5), T.MTF()],
            "voxel_size": VOXEL,
        },
    ),
]
FIXED = [
    Kind("MissingWedge", {"tilt_range_deg": (-50, 70)}),
    Kind("CTF", {"defocus_um": 2.0, "voxel_size": VOXEL}),
    Kind("MTF"),
    Kind("Standardize"),
    Kind("NormalizeSpectrum"),
]
KINDS = {"random_kind": RANDOM, "drawing_kind": DRAWING, "kind": [*DRAWING, *FIXED]}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for argument, kinds in KINDS.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, kinds, ids=lambda kind: kind.name)


@pytest.fixture
def kinds() -> list[Kind]:
    """All of them."""
    return KINDS["kind"]
