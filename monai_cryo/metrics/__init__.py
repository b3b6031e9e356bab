"""Metrics of the two-branch network."""

from __future__ import annotations

from monai_cryo.metrics.two_branch import TwoBranchMetrics, selected_masks

__all__ = ["TwoBranchMetrics", "selected_masks"]
