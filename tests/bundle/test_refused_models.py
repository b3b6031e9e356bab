"""Models with damaged records: refused in one line, whatever stands in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_cryo._refusals import is_refusal
from monai_cryo.bundle import check_facts, read_model


@pytest.mark.parametrize("record", [b"{", b"[" * 5000, b"\xff", b"{}"])
def test_a_model_with_a_damaged_record_is_refused(tmp_path: Path, record: bytes) -> None:
    torch.save({"record._extra_state": torch.tensor(list(record), dtype=torch.uint8)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt is no model of this bundle: ") as error:
        read_model(tmp_path / "model.pt")
    assert is_refusal(error.value)


@pytest.mark.parametrize("name", ["../../x", "a\\b", "/x", "a\nb", "a\0", "", "labels"])
def test_a_class_names_no_place_to_write_to(name: str) -> None:
    facts = {"voxel_size": 10.0, "box": 40, "contrast": "dark", "normalize": [{}], "network": {}}
    assert check_facts({**facts, "classes": ["50S ribosome, α"]})["classes"] == ["50S ribosome, α"]
    with pytest.raises(ValueError, match="classes name files too") as error:
        check_facts({**facts, "classes": ["ribosome", name]})
    assert is_refusal(error.value)
