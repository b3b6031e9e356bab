"""Networks."""

from __future__ import annotations

from monai_cryo.networks.two_branch import TwoBranchNet, TwoBranchTensorNet

__all__ = ["TwoBranchNet", "TwoBranchTensorNet"]
