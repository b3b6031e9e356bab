"""The bundle's ``tomogram.yaml`` does what the verb ``pick`` does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_cryo._refusals import find_refusal
from monai_cryo.bundle import ModelRecord
from monai_cryo.cli import main
from monai_cryo.io import write_mrc
from monai_cryo.networks import TwoBranchNet
from monai_cryo.transforms import NormalizeSpectrum


def test_config_and_verb_agree(bundle_root: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = partial(TwoBranchNet, num_classes=2, features=(2, 2, 3, 3, 4), fc=(4, 4), norm="batch")
    record = ModelRecord(["ribosome", "membrane"], 10.0, 40, "dark", NormalizeSpectrum(), network).build()
    torch.save(record.state_dict(), tmp_path / "model.pt")
    volume = np.random.default_rng(0).normal(size=(16, 20, 48)).astype(np.float32)
    write_mrc(tmp_path / "t.mrc", volume, 10.0)
    parser = ConfigParser()
    parser.read_config(str(bundle_root / "configs" / "tomogram.yaml"))
    options = {"output_dir": str(tmp_path / "a"), "ckpt": str(tmp_path / "model.pt"), "device": "cpu"}
    parser.update({**options, "tomograms": str(tmp_path / "t.mrc"), "min_score": 0.0, "threshold": 0.01})
    parser.get_parsed_content("run", eval_expr=True)
    argv = ["pick", str(tmp_path / "t.mrc"), "--output", str(tmp_path / "b"), "--model", str(tmp_path / "model.pt")]
    assert main([*argv, "--device", "cpu", "--min_score", "0"]) == 0
    names = {p.name for p in (tmp_path / "a").iterdir()}
    assert names == {"t.json", "t.png", "t_labels.mrc", "picks.csv"}
    assert names == {p.name for p in (tmp_path / "b").iterdir()}

    # a file that is refused does not keep the picks of the others from being written
    (tmp_path / "in").mkdir()
    (tmp_path / "t.mrc").rename(tmp_path / "in" / "t.mrc")
    (tmp_path / "in" / "cut.mrc").write_bytes((tmp_path / "in" / "t.mrc").read_bytes()[:-9])
    parser.read_config(str(bundle_root / "configs" / "tomogram.yaml"))
    parser.update({**options, "output_dir": str(tmp_path / "c"), "tomograms": str(tmp_path / "in"), "picture": False})
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("run", eval_expr=True)
    assert "1 of 2 tomograms refused" in str(find_refusal(error.value))
    assert {p.name for p in (tmp_path / "c").iterdir()} == {"t.json", "t_labels.mrc", "picks.csv", "refused.csv"}
