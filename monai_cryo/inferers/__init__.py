"""Inferers: whole tomograms, read densely."""

from __future__ import annotations

from monai_cryo.inferers.dense import DenseInferer, DenseReading, standardize_whole
from monai_cryo.inferers.windows import window_logits

__all__ = ["DenseInferer", "DenseReading", "standardize_whole", "window_logits"]
