"""What a training was made with stands in all that it leaves."""

from __future__ import annotations

import json

import torch
import yaml
from kill_series import TINY, finish, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_cryo.templates import load_templates


def test_provenance_is_kept_in_every_file(tmp_path):
    folder = tmp_path / "run"
    assert finish(start(folder, {**TINY, "epoch_length": 1, "max_epochs": 1, "seed": 3}), folder)
    kept = torch.load(folder / "checkpoint.pt", weights_only=True)["provenance"]
    assert kept == json.loads((folder / "metrics.json").read_text())["provenance"]
    assert (kept["seed"], kept["ranks"], kept["versions"]["torch"]) == (3, 1, torch.__version__)
    assert kept["templates"] == load_templates().digest()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    options = {**TINY, "epoch_length": 1, "max_epochs": 1, "seed": 3, "output_dir": str(folder)}
    for name, value in options.items():
        assert kept["config"][name] == config[name] == value
    assert "torch.optim.AdamW" in str(kept["config"]["optimizer"])  # of quick.yaml, laid over train.yaml
    head = json.loads((folder / "config.yaml").read_text().splitlines()[1].removeprefix("# "))
    assert head == {name: value for name, value in kept.items() if name != "config"}
    log = EventAccumulator(str(folder)).Reload()
    texts = {tag: log.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in log.Tags()["tensors"]}
    assert f'"torch": "{torch.__version__}"' in texts["provenance/text_summary"]
    assert b"versions/torch" in log.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
