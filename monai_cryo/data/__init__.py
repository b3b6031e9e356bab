"""Datasets, item seeds, labelled folders, and the chain that makes real input like simulated."""

from __future__ import annotations

from monai_cryo.data.chains import (
    CheckVolumed,
    DecodePredictiond,
    LoadSubtomogramd,
    list_images,
    postprocessing,
    preprocessing,
)
from monai_cryo.data.dataset import TemplateDataset
from monai_cryo.data.grid import FitToGrid, FitToGridD, FitToGridd, FitToGridDict, pad_with_noise
from monai_cryo.data.labelled import CheckMaskd, FillMaskd, LabelledData, load_labelled
from monai_cryo.data.memory import image_in_memory
from monai_cryo.data.particles import StarParticles, find_tomograms
from monai_cryo.data.refusing import RefusingDataset
from monai_cryo.data.seeding import CounterSampler, item_state
from monai_cryo.data.simulated import write_simulated
from monai_cryo.io import MRCReader, MRCWriter

__all__ = [
    "CheckMaskd",
    "CheckVolumed",
    "CounterSampler",
    "DecodePredictiond",
    "FillMaskd",
    "FitToGrid",
    "FitToGridD",
    "FitToGridDict",
    "FitToGridd",
    "LabelledData",
    "LoadSubtomogramd",
    "MRCReader",
    "MRCWriter",
    "RefusingDataset",
    "StarParticles",
    "TemplateDataset",
    "find_tomograms",
    "image_in_memory",
    "item_state",
    "list_images",
    "load_labelled",
    "pad_with_noise",
    "postprocessing",
    "preprocessing",
    "write_simulated",
]
