"""Inferers: whole tomograms read densely, and picks from what was read."""

from __future__ import annotations

from monai_cryo.inferers.dense import DenseInferer, DenseReading, standardize_whole
from monai_cryo.inferers.picks import pick_particles
from monai_cryo.inferers.windows import window_logits

__all__ = ["DenseInferer", "DenseReading", "pick_particles", "standardize_whole", "window_logits"]
