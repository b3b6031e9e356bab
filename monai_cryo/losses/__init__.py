"""Loss functions."""

from __future__ import annotations

from monai_cryo.losses.two_branch import TwoBranchLoss

__all__ = ["TwoBranchLoss"]
