"""Inferers: boxes and whole tomograms read, picks from what was read, and many tomograms in a row."""

from __future__ import annotations

from monai_cryo._defaults import LABEL_THRESHOLD, MIN_SCORE
from monai_cryo._typing import PickFormat
from monai_cryo.inferers.classifier_map import window_logits
from monai_cryo.inferers.dense import DenseInferer, standardize_whole
from monai_cryo.inferers.diameters import particle_diameters
from monai_cryo.inferers.flips import WEDGE_FLIPS, BoxInferer, FlipInferer
from monai_cryo.inferers.listing import list_tomograms, listed_tomograms
from monai_cryo.inferers.normalize import NormalizedTomogram, SpectrumFilter, normalize_tomogram
from monai_cryo.inferers.pick_files import check_pick_options, pick_tomograms, write_pick_files
from monai_cryo.inferers.picks import pick_particles
from monai_cryo.inferers.places import blob_places, scored_places
from monai_cryo.inferers.records import TomogramRecord, read_record, write_record
from monai_cryo.inferers.sharing import my_share, process_rank
from monai_cryo.inferers.tomograms import TomogramReader, TomogramReading, model_digest
from monai_cryo.inferers.windows import Reading, Sightings, WindowInferer
from monai_cryo.inferers.workflow import TomogramWorkflow

__all__ = [
    "LABEL_THRESHOLD",
    "MIN_SCORE",
    "WEDGE_FLIPS",
    "BoxInferer",
    "DenseInferer",
    "FlipInferer",
    "NormalizedTomogram",
    "PickFormat",
    "Reading",
    "Sightings",
    "SpectrumFilter",
    "TomogramReader",
    "TomogramReading",
    "TomogramRecord",
    "TomogramWorkflow",
    "WindowInferer",
    "blob_places",
    "check_pick_options",
    "list_tomograms",
    "listed_tomograms",
    "model_digest",
    "my_share",
    "normalize_tomogram",
    "particle_diameters",
    "pick_particles",
    "pick_tomograms",
    "process_rank",
    "read_record",
    "scored_places",
    "standardize_whole",
    "window_logits",
    "write_pick_files",
    "write_record",
]
