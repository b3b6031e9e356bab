"""Metrics."""

from __future__ import annotations

from monai_cryo.metrics.masks import selected_masks
from monai_cryo.metrics.two_branch import TwoBranchMetrics

__all__ = ["TwoBranchMetrics", "selected_masks"]
