"""What particles are simulated from: structures, maps, masks and the libraries that gather them into classes."""

from __future__ import annotations

from monai_cryo.templates.archive import cache_folder, fetch, locate
from monai_cryo.templates.complexes import random_complexes
from monai_cryo.templates.file import BOX, EMBEDDED, VOXEL_SIZE, describe_sources, load_templates, save_templates
from monai_cryo.templates.library import AnyTemplate, TemplateLibrary
from monai_cryo.templates.maps import density_from_map
from monai_cryo.templates.masking import CUBIC_A_PER_DALTON, THRESHOLD_RULES, threshold_level
from monai_cryo.templates.procedural import BackgroundTemplate, MembraneTemplate
from monai_cryo.templates.structures import Atoms, density_from_structure, read_structure
from monai_cryo.templates.template import Template

__all__ = [
    "BOX",
    "CUBIC_A_PER_DALTON",
    "EMBEDDED",
    "THRESHOLD_RULES",
    "VOXEL_SIZE",
    "AnyTemplate",
    "Atoms",
    "BackgroundTemplate",
    "MembraneTemplate",
    "Template",
    "TemplateLibrary",
    "cache_folder",
    "density_from_map",
    "density_from_structure",
    "describe_sources",
    "fetch",
    "load_templates",
    "locate",
    "random_complexes",
    "read_structure",
    "save_templates",
    "threshold_level",
]
