"""Networks."""

from __future__ import annotations

from .two_branch import TwoBranchNet, TwoBranchTensorNet

__all__ = ["TwoBranchNet", "TwoBranchTensorNet"]
