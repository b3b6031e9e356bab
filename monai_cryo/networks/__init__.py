"""Networks."""

from __future__ import annotations

from monai_cryo.networks.facts import FactSheet, facts_in, with_facts
from monai_cryo.networks.two_branch import TwoBranchNet, TwoBranchTensorNet

__all__ = ["FactSheet", "TwoBranchNet", "TwoBranchTensorNet", "facts_in", "with_facts"]
