"""The physics of cryo-ET imaging as plain torch functions: no randomness, no files, no MONAI.

Volumes are ``(..., D, H, W)``, parameters have one value a leading index, units stand in the names.
"""

from __future__ import annotations

from monai_cryo.physics.contrast_transfer import ctf
from monai_cryo.physics.detector import curve_mtf, sinc_mtf
from monai_cryo.physics.fourier import (
    apply_transfer,
    frequency_grid,
    frequency_shells,
    nyquist,
    radial_frequency,
    radial_power_spectrum,
)
from monai_cryo.physics.noise import half_grid_noise, noise_amplitude, region_power
from monai_cryo.physics.pose import bounding_radius, move, rotation_from_uniform
from monai_cryo.physics.wedge import dual_axis_wedge, missing_wedge, tilt_fan

__all__ = [
    "apply_transfer",
    "bounding_radius",
    "ctf",
    "curve_mtf",
    "dual_axis_wedge",
    "frequency_grid",
    "frequency_shells",
    "half_grid_noise",
    "missing_wedge",
    "move",
    "noise_amplitude",
    "nyquist",
    "radial_frequency",
    "radial_power_spectrum",
    "region_power",
    "rotation_from_uniform",
    "sinc_mtf",
    "tilt_fan",
]
