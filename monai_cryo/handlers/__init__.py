"""Ignite handlers of the bundle."""

from __future__ import annotations

from monai_cryo.handlers.epoch import SetEpoch
from monai_cryo.handlers.gallery import PredictionGallery
from monai_cryo.handlers.predictions import PredictionsWriter
from monai_cryo.handlers.report import Report, metrics_table
from monai_cryo.handlers.scalars import TrainingScalars

__all__ = ["PredictionGallery", "PredictionsWriter", "Report", "SetEpoch", "TrainingScalars", "metrics_table"]
