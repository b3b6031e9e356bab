"""Files in and out: MRC volumes and curves."""

from __future__ import annotations

from monai_cryo.io.curves import measure_noise_spectrum, read_mtf
from monai_cryo.io.mrc import MRCReader, MRCWriter, read_mrc, write_mrc

__all__ = ["MRCReader", "MRCWriter", "measure_noise_spectrum", "read_mrc", "read_mtf", "write_mrc"]
