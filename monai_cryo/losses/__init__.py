"""Loss functions."""

from __future__ import annotations

from .two_branch import TwoBranchLoss

__all__ = ["TwoBranchLoss"]
