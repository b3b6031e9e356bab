"""Cryo-ET imaging as MONAI transforms: array and dictionary versions, channel-first, ``self.R`` only."""

from __future__ import annotations

from monai_cryo.transforms.base import Drawable, RandDrawable, column
from monai_cryo.transforms.compose import BatchCompose, apply_parts, fixed_parts
from monai_cryo.transforms.ctf import CTF, CTFD, CTFd, CTFDict, RandCTF, RandCTFD, RandCTFd, RandCTFDict
from monai_cryo.transforms.dictionary import DictTransform, RandDictTransform
from monai_cryo.transforms.fourier import (
    FourierCompose,
    FourierComposeD,
    FourierComposed,
    FourierComposeDict,
    FourierFilter,
    FourierStep,
)
from monai_cryo.transforms.intensity import (
    RandIntensity,
    RandIntensityD,
    RandIntensityd,
    RandIntensityDict,
    Standardize,
    StandardizeD,
    Standardized,
    StandardizeDict,
)
from monai_cryo.transforms.mtf import MTF, MTFD, MTFd, MTFDict, RandMTF, RandMTFD, RandMTFd, RandMTFDict
from monai_cryo.transforms.neighbours import RandNeighbours, RandNeighboursD, RandNeighboursd, RandNeighboursDict
from monai_cryo.transforms.noise import (
    AddNoise,
    AddNoiseD,
    AddNoised,
    AddNoiseDict,
    RandSNR,
    RandSNRD,
    RandSNRd,
    RandSNRDict,
)
from monai_cryo.transforms.plan import FourierPlan, Grid
from monai_cryo.transforms.pose import RandPose
from monai_cryo.transforms.ranges import (
    choose,
    draw_seed,
    log_uniform,
    parse_choice,
    parse_number,
    parse_positive,
    parse_range,
    parse_table,
    parse_tilt_range,
    parse_whole,
    uniform,
)
from monai_cryo.transforms.scene import (
    RandDensityField,
    RandDensityFieldD,
    RandDensityFieldd,
    RandDensityFieldDict,
    RandGoldBead,
    RandGoldBeadD,
    RandGoldBeadd,
    RandGoldBeadDict,
    RandIceGradient,
    RandIceGradientD,
    RandIceGradientd,
    RandIceGradientDict,
    RandStreaks,
    RandStreaksD,
    RandStreaksd,
    RandStreaksDict,
)
from monai_cryo.transforms.several_keys import (
    RandPoseD,
    RandPosed,
    RandPoseDict,
    RandTiltSeriesD,
    RandTiltSeriesd,
    RandTiltSeriesDict,
)
from monai_cryo.transforms.spectrum import (
    NormalizeSpectrum,
    NormalizeSpectrumD,
    NormalizeSpectrumd,
    NormalizeSpectrumDict,
    RandRadialGain,
    RandRadialGainD,
    RandRadialGaind,
    RandRadialGainDict,
)
from monai_cryo.transforms.tilt_series import RandTiltSeries
from monai_cryo.transforms.wedge import (
    MissingWedge,
    MissingWedgeD,
    MissingWedged,
    MissingWedgeDict,
    RandMissingWedge,
    RandMissingWedgeD,
    RandMissingWedged,
    RandMissingWedgeDict,
)

_FUNCTIONS = [
    "apply_parts",
    "choose",
    "column",
    "draw_seed",
    "fixed_parts",
    "log_uniform",
    "parse_choice",
    "parse_number",
    "parse_positive",
    "parse_range",
    "parse_table",
    "parse_tilt_range",
    "parse_whole",
    "uniform",
]

__all__ = [name for name in dir() if name[0].isupper()] + _FUNCTIONS
