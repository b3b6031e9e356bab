"""Early checks and the model's record."""

from __future__ import annotations

import pytest
import torch

from monai_cryo.bundle import RECORD_KEYS, ModelRecord, check_overrides, read_record

FACTS = {
    "classes": ["a", "b"],
    "voxel_size": 10.0,
    "box": 40,
    "contrast": "dark",
    "standardize_channel_wise": True,
    "network": {"features": [1, 2, 3, 4, 5]},
}


def argv(root, *options):
    files = [str(root / "configs" / f"{n}.yaml") for n in ("train", "quick")]
    return ["/x/monai/bundle/__main__.py", "run", "training", "--config_file", str(files), *options]


@pytest.mark.parametrize(
    "options", [(), ("--max_epochs", "3"), ("--train#trainer#max_epochs=3",), ("--bundle_root", "x")]
)
def test_known_options_pass(bundle_root, options):
    check_overrides(argv(bundle_root, *options))


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--max_epoch", "did you mean --max_epochs?"),
        ("--trian#trainer", "did you mean --train?"),
        ("--zzz=1", "known: "),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(bundle_root, option, hint):
    with pytest.raises(ValueError, match="unknown option") as error:
        check_overrides(argv(bundle_root, option, "1"))
    assert hint in str(error.value)


def test_other_programs_are_left_alone():
    check_overrides(["pytest", "--anything"])


def test_record_round_trip(tmp_path):
    record = ModelRecord(**FACTS)
    torch.save({"model": {}, "record": record.state_dict()}, tmp_path / "m.pt")
    assert read_record(tmp_path / "m.pt") == FACTS
    record.load_state_dict(FACTS)


def test_a_checkpoint_for_something_else_is_refused():
    with pytest.raises(ValueError, match=r"trained with classes \['a', 'c'\], not \['a', 'b'\]"):
        ModelRecord(**FACTS).load_state_dict({**FACTS, "classes": ["a", "c"]})


@pytest.mark.parametrize("missing", RECORD_KEYS)
def test_incomplete_records(missing):
    with pytest.raises(ValueError, match=f"missing: {missing}"):
        ModelRecord(**{k: v for k, v in FACTS.items() if k != missing})


def test_box_must_fit_the_network():
    with pytest.raises(ValueError, match="multiple of 8 voxels, got 42"):
        ModelRecord(**{**FACTS, "box": 42})


def test_no_model_and_no_model_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file"):
        read_record(tmp_path / "none.pt")
    for content in (b"", b"text"):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.pt is no"):
            read_record(tmp_path / "bad.pt")
    torch.save({"record": {"classes": []}}, tmp_path / "old.pt")
    with pytest.raises(ValueError, match=r"old\.pt is no model of this bundle"):
        read_record(tmp_path / "old.pt")
