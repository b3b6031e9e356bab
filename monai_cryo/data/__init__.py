"""Files in and out, templates, and the datasets the engines read."""

from __future__ import annotations

from monai_cryo.data.curves import measure_noise_spectrum, read_mtf
from monai_cryo.data.dataset import TemplateDataset
from monai_cryo.data.labelled import FillMaskd, LabelledData, load_labelled
from monai_cryo.data.library import BackgroundTemplate, MembraneTemplate, Template, TemplateLibrary
from monai_cryo.data.maps import density_from_map
from monai_cryo.data.mrc import MRCReader, MRCWriter, read_mrc, write_mrc
from monai_cryo.data.preprocessing import (
    CheckVolumed,
    DecodePredictiond,
    contrast_word,
    list_images,
    postprocessing,
    preprocessing,
)
from monai_cryo.data.seeding import CounterSampler, ItemRandomState, item_state
from monai_cryo.data.structures import Atoms, density_from_structure, read_structure
from monai_cryo.data.templates import load_templates

__all__ = [
    "Atoms",
    "BackgroundTemplate",
    "CheckVolumed",
    "CounterSampler",
    "DecodePredictiond",
    "FillMaskd",
    "ItemRandomState",
    "LabelledData",
    "MRCReader",
    "MRCWriter",
    "MembraneTemplate",
    "Template",
    "TemplateDataset",
    "TemplateLibrary",
    "contrast_word",
    "density_from_map",
    "density_from_structure",
    "item_state",
    "list_images",
    "load_labelled",
    "load_templates",
    "measure_noise_spectrum",
    "postprocessing",
    "preprocessing",
    "read_mrc",
    "read_mtf",
    "read_structure",
    "write_mrc",
]
