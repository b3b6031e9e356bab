"""What the bundle's configs call beside MONAI: the command line, the model's record, and where the bundle lies."""

from __future__ import annotations

from monai_cryo.bundle.device import check_device
from monai_cryo.bundle.facts import RECORD_KEYS, check_facts
from monai_cryo.bundle.kept import save_config
from monai_cryo.bundle.overrides import check_overrides, check_started, start
from monai_cryo.bundle.pretrained import load_pretrained
from monai_cryo.bundle.provenance import find_provenance
from monai_cryo.bundle.ranks import join_ranks, share_batch
from monai_cryo.bundle.record import ModelRecord
from monai_cryo.bundle.root import bundle_root, say_where
from monai_cryo.bundle.trained import TrainedModel, read_model

__all__ = [
    "RECORD_KEYS",
    "ModelRecord",
    "TrainedModel",
    "bundle_root",
    "check_device",
    "check_facts",
    "check_overrides",
    "check_started",
    "find_provenance",
    "join_ranks",
    "load_pretrained",
    "read_model",
    "save_config",
    "say_where",
    "share_batch",
    "start",
]
