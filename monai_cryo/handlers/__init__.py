"""Ignite handlers of the bundle."""

from __future__ import annotations

from monai_cryo.handlers.averaging import AverageWeights
from monai_cryo.handlers.best import KeepBest, ModelEvents
from monai_cryo.handlers.checkpoints import Checkpoints
from monai_cryo.handlers.epoch import SetEpoch, Validation
from monai_cryo.handlers.gallery import PredictionGallery
from monai_cryo.handlers.losses import TrainingLoss
from monai_cryo.handlers.parameters import DrawnParameters
from monai_cryo.handlers.predictions import PredictionsWriter
from monai_cryo.handlers.report import Report, metrics_table
from monai_cryo.handlers.scalars import TrainingScalars, ValidationScalars
from monai_cryo.handlers.writer import LazySummaryWriter

__all__ = [
    "AverageWeights",
    "Checkpoints",
    "DrawnParameters",
    "KeepBest",
    "LazySummaryWriter",
    "ModelEvents",
    "PredictionGallery",
    "PredictionsWriter",
    "Report",
    "SetEpoch",
    "TrainingLoss",
    "TrainingScalars",
    "Validation",
    "ValidationScalars",
    "metrics_table",
]
