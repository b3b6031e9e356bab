"""Metrics."""

from __future__ import annotations

from monai_cryo.metrics.detection import (
    ClassDetection,
    DetectionScores,
    label_iou,
    match_points,
    score_detections,
    score_tomograms,
)
from monai_cryo.metrics.masks import selected_masks
from monai_cryo.metrics.two_branch import TwoBranchMetrics

__all__ = [
    "ClassDetection",
    "DetectionScores",
    "TwoBranchMetrics",
    "label_iou",
    "match_points",
    "score_detections",
    "score_tomograms",
    "selected_masks",
]
