"""The physics of cryo-ET imaging as plain torch functions: no files, no MONAI, and no generator but those handed in.

Volumes are ``(..., D, H, W)``, parameters have one value a leading index, units stand in the names.
"""

from __future__ import annotations

from monai_cryo.physics.contrast_transfer import check_ctf_parameters, ctf, wiener_gain
from monai_cryo.physics.density import SIGMA_PER_RESOLUTION, SPLAT_VARIANCE, atoms_to_density
from monai_cryo.physics.detector import curve_mtf, sinc_mtf
from monai_cryo.physics.dose import cumulative_dose, dose_attenuation
from monai_cryo.physics.fourier import (
    apply_transfer,
    centred,
    frequency_grid,
    frequency_shells,
    irfft,
    multiplicity,
    nyquist,
    radial_frequency,
    radial_power_spectrum,
    rfft,
    spatial_shape,
    spread,
    voxel_size_zyx,
)
from monai_cryo.physics.membrane import bilayer
from monai_cryo.physics.noise import (
    band_points,
    half_grid_noise,
    noise_amplitude,
    region_power,
    shell_weights,
    spectrum_variance,
)
from monai_cryo.physics.pose import bounding_radius, central, move, move_within, rotation_from_uniform
from monai_cryo.physics.resampling import crop_or_pad, resample, resample_nearest
from monai_cryo.physics.scene import background, bead_streaks, pack_, positions_from_uniform, smooth_field, sphere
from monai_cryo.physics.tilt_series import (
    back_project,
    project,
    reconstruction_filter,
    tilt_angles,
    weighted_back_projection,
)
from monai_cryo.physics.wedge import check_tilt_range, dual_axis_wedge, missing_wedge, tilt_fan

__all__ = [
    "SIGMA_PER_RESOLUTION",
    "SPLAT_VARIANCE",
    "apply_transfer",
    "atoms_to_density",
    "back_project",
    "background",
    "band_points",
    "bead_streaks",
    "bilayer",
    "bounding_radius",
    "central",
    "centred",
    "check_ctf_parameters",
    "check_tilt_range",
    "crop_or_pad",
    "ctf",
    "cumulative_dose",
    "curve_mtf",
    "dose_attenuation",
    "dual_axis_wedge",
    "frequency_grid",
    "frequency_shells",
    "half_grid_noise",
    "irfft",
    "missing_wedge",
    "move",
    "move_within",
    "multiplicity",
    "noise_amplitude",
    "nyquist",
    "pack_",
    "positions_from_uniform",
    "project",
    "radial_frequency",
    "radial_power_spectrum",
    "reconstruction_filter",
    "region_power",
    "resample",
    "resample_nearest",
    "rfft",
    "rotation_from_uniform",
    "shell_weights",
    "sinc_mtf",
    "smooth_field",
    "spatial_shape",
    "spectrum_variance",
    "sphere",
    "spread",
    "tilt_angles",
    "tilt_fan",
    "voxel_size_zyx",
    "weighted_back_projection",
    "wiener_gain",
]
