"""Files in and out: MRC volumes, curves, and writing that leaves nothing half done."""

from __future__ import annotations

from monai_cryo.io.atomic import replacing, write_text
from monai_cryo.io.curves import measure_noise_spectrum, read_mtf
from monai_cryo.io.monai_mrc import MRCReader, MRCWriter
from monai_cryo.io.mrc import SUFFIXES, has_mrc_suffix, read_mrc, write_mrc

__all__ = [
    "SUFFIXES",
    "MRCReader",
    "MRCWriter",
    "has_mrc_suffix",
    "measure_noise_spectrum",
    "read_mrc",
    "read_mtf",
    "replacing",
    "write_mrc",
    "write_text",
]
