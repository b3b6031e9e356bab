"""What MONAI's engines need to train on simulation: batches made on the training device."""

from __future__ import annotations

from monai_cryo.engines.prepare_batch import PrepareImages, PrepareLabelled, SimulateBatch

__all__ = ["PrepareImages", "PrepareLabelled", "SimulateBatch"]
