"""Files in and out: MRC volumes and tomograms, STAR files of particles, curves; nothing is left half written."""

from __future__ import annotations

from monai_cryo.io.atomic import csv_text, replacing, table_text, write_text
from monai_cryo.io.columns import parameter_columns
from monai_cryo.io.confine import named_file
from monai_cryo.io.curves import measure_noise_spectrum, read_mtf
from monai_cryo.io.digest import file_digest, file_digests, sha256
from monai_cryo.io.folder import check_folder, clear_leftovers, hold_folder, working_folder
from monai_cryo.io.monai_mrc import MRCReader, MRCWriter
from monai_cryo.io.mrc import (
    SUFFIXES,
    TOMOGRAM_SUFFIXES,
    has_mrc_suffix,
    may_be_tomogram,
    read_mrc,
    tomogram_name,
    write_mrc,
)
from monai_cryo.io.particles import (
    CoordinateStyle,
    ParticleImage,
    coordinate_columns,
    index_to_star,
    particle_images,
    positions,
    series_names,
    star_to_index,
    tomogram_names,
)
from monai_cryo.io.picks import Picks, StarStyle, read_picks_csv, write_copick, write_picks_csv, write_relion
from monai_cryo.io.star import ParticleStar, read_star, star_text
from monai_cryo.io.tomogram import (
    Tomogram,
    cut_boxes,
    mapped_mrc,
    open_tomogram,
    release_pages,
    resample_tomogram,
    to_source_index,
)
from monai_cryo.io.tomogram_list import ListedTomogram, read_tomogram_list

__all__ = [
    "SUFFIXES",
    "TOMOGRAM_SUFFIXES",
    "CoordinateStyle",
    "ListedTomogram",
    "MRCReader",
    "MRCWriter",
    "ParticleImage",
    "ParticleStar",
    "Picks",
    "StarStyle",
    "Tomogram",
    "check_folder",
    "clear_leftovers",
    "coordinate_columns",
    "csv_text",
    "cut_boxes",
    "file_digest",
    "file_digests",
    "has_mrc_suffix",
    "hold_folder",
    "index_to_star",
    "mapped_mrc",
    "may_be_tomogram",
    "measure_noise_spectrum",
    "named_file",
    "open_tomogram",
    "parameter_columns",
    "particle_images",
    "positions",
    "read_mrc",
    "read_mtf",
    "read_picks_csv",
    "read_star",
    "read_tomogram_list",
    "release_pages",
    "replacing",
    "resample_tomogram",
    "series_names",
    "sha256",
    "star_text",
    "star_to_index",
    "table_text",
    "to_source_index",
    "tomogram_name",
    "tomogram_names",
    "working_folder",
    "write_copick",
    "write_mrc",
    "write_picks_csv",
    "write_relion",
    "write_text",
]
