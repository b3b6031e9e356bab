"""Handlers in real Ignite engines."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine

from monai_cryo._refusals import is_refusal
from monai_cryo.data import CounterSampler
from monai_cryo.handlers import PredictionGallery, PredictionsWriter, Report, SetEpoch, Validation, metrics_table

METRICS = {
    "n": 3,
    "accuracy": 2 / 3,
    "balanced_accuracy": 0.75,
    "pixel_accuracy": 0.9,
    "mean_iou": 0.4,
    "class_mean_iou": 0.5,
    "iou": {"ribosome": 0.5, "tric": None},
    "recall": {"ribosome": 0.5, "tric": None},
    "confusion_matrix": [[1, 1], [0, 1]],
    "classes": ["ribosome", "tric"],
    "threshold": 0.5,
    "skipped": {"background": 40},
}


def test_every_epoch_brings_new_indices():
    sampler = CounterSampler(4)
    seen = []
    loader = torch.utils.data.DataLoader(range(100), sampler=sampler, batch_size=2)
    engine = Engine(lambda e, batch: seen.extend(batch.tolist()))
    SetEpoch(sampler).attach(engine)
    engine.run(loader, max_epochs=3)
    assert seen == list(range(12))


@pytest.mark.parametrize(("epochs", "interval", "validated"), [(5, 2, [2, 4, 5]), (4, 2, [2, 4]), (3, 10, [3])])
def test_the_last_epoch_is_always_validated(epochs, interval, validated):
    seen = []

    class Validator:
        def run(self, epoch):
            seen.append(epoch)

    handler = Validation.__new__(Validation)
    handler.validator, handler.interval, handler.exec_at_start = Validator(), interval, False
    engine = Engine(lambda *_: None)
    handler.attach(engine)
    engine.run([0, 1], max_epochs=epochs)
    assert seen == validated


def test_a_resumed_engine_goes_on_with_the_next_indices():
    sampler = CounterSampler(4)
    seen = []
    loader = torch.utils.data.DataLoader(range(100), sampler=sampler, batch_size=2)
    engine = Engine(lambda e, batch: seen.extend(batch.tolist()))
    SetEpoch(sampler).attach(engine)
    engine.load_state_dict({"epoch": 2, "max_epochs": 3, "epoch_length": 2})
    engine.run(loader)
    assert seen == list(range(8, 12))


@pytest.mark.parametrize("interval", [0, -1, 1.5, True, "2"])
def test_validations_come_every_few_whole_epochs(interval):
    with pytest.raises(ValueError, match="val_interval must be a whole number >= 1, got"):
        Validation(None, interval)


def test_the_table_shows_what_the_json_holds():
    table = metrics_table(METRICS)
    assert "ribosome         2   0.500  0.500       1     1" in table
    assert "tric             1       -      -       0     1" in table
    assert "accuracy 0.667, balanced 0.750" in table
    assert "left out, of classes the model does not know: 40 background" in table


def test_report_writes_whole_files(tmp_path, capsys):
    metrics = SimpleNamespace(summary={k: v for k, v in METRICS.items() if k != "skipped"})
    engine = Engine(lambda e, b: None)
    Report(metrics, str(tmp_path / "out"), skipped={"background": 40}, title="after epoch {epoch}").attach(engine)
    engine.run([0], max_epochs=2)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == METRICS
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["metrics.json"]
    assert "after epoch 2" in capsys.readouterr().out


def test_predictions_table(tmp_path):
    def step(engine, batch):
        engine.state.batch = [{"file": name} for name in batch]
        return [{"class": 1, "probability": torch.tensor([0.25, 0.75])} for _ in batch]

    engine = Engine(step)
    PredictionsWriter(["a", "b"], str(tmp_path)).attach(engine)
    engine.run([["x.mrc", "y.mrc"], ["z.mrc"]])
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["file", "class", "p_a", "p_b"],
        *([n, "b", "0.2500", "0.7500"] for n in ("x.mrc", "y.mrc", "z.mrc")),
    ]


def test_a_table_is_gone_on_with_by_the_same_model_alone(tmp_path):
    PredictionsWriter(["a"], str(tmp_path), settings={"model": "1", "flips": False}).begin()
    again = PredictionsWriter(["a"], str(tmp_path), True, {"model": "1", "flips": False, "x.star": "abc"})
    assert again.settings == {"model": "1", "flips": False, "x.star": "abc"}
    with pytest.raises(ValueError, match=r"predictions.csv was made with another model, flips: begin anew"):
        PredictionsWriter(["a"], str(tmp_path), True, {"model": "2", "flips": True})
    PredictionsWriter(["a"], str(tmp_path), False, {"model": "2"}).begin()
    assert json.loads((tmp_path / "settings.json").read_text()) == {"model": "2", "files": {}}
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings.json holds no settings"):
        PredictionsWriter(["a"], str(tmp_path), True, {"model": "2"})


@pytest.mark.parametrize("row", [b"\xff.mrc,a,1.0000", b"x" * 140_000 + b",a,1.0000"])
def test_a_damaged_table_is_refused(tmp_path, row):
    (tmp_path / "predictions.csv").write_bytes(b"file,class,p_a\n" + row + b"\n")
    with pytest.raises(ValueError, match=r"predictions\.csv is no table of predictions .*: begin anew") as error:
        PredictionsWriter(["a"], str(tmp_path), resume=True)
    assert is_refusal(error.value)


def test_a_table_is_one_processs(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.lockf", lambda *_: (_ for _ in ()).throw(BlockingIOError()))
    with pytest.raises(ValueError, match="another process is at work in"):
        PredictionsWriter(["a", "b"], str(tmp_path / "new")).begin()


def test_a_full_disk_leaves_the_table_to_go_on_with(tmp_path, monkeypatch):
    table = "file,class,p_a,p_b\nx.mrc,b,0.2500,0.7500\n"
    (tmp_path / "predictions.csv").write_text(table)
    writer = PredictionsWriter(["a", "b"], str(tmp_path), resume=True)

    def full(path, text, encoding=None):
        with path.open("w") as file:
            file.write(text[:5])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        writer.begin()
    assert (tmp_path / "predictions.csv").read_text() == table
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.csv", ".lock"}


class Writer:
    def __init__(self):
        self.images = []

    def add_image(self, name, image, step, dataformats):
        self.images.append((name, image.shape, image.dtype, step, dataformats))


def test_gallery_keeps_a_few_of_each_class_and_draws_them(tmp_path):
    def step(engine, batch):
        masks = torch.full((4, 2, 8, 8, 8), -5.0)
        masks[:, :, 2:5, 2:5, 2:5] = 5.0
        return {
            "image": torch.randn(4, 1, 8, 8, 8),
            "label": {
                "class": torch.tensor([0, 0, 0, 1]),
                "mask": (masks[:, :1] > 0).float(),
                "has_mask": torch.tensor([True, True, True, False]),
            },
            "pred": {"logits": torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]]), "masks": masks},
        }

    writer, engine = Writer(), Engine(step)
    gallery = PredictionGallery(["a", "b"], str(tmp_path / "p.png"), writer, per_class=2, epoch_length=50)
    gallery.attach(engine)
    engine.run([0, 1])
    kept = gallery.examples
    assert [len(kept[c]) for c in (0, 1)] == [2, 2]
    assert [(e.true_class, e.predicted_class) for e in kept[0]] == [("a", "a"), ("a", "b")]
    assert kept[1][0].mask is None
    assert int(kept[0][0].predicted_mask.sum()) == 27
    assert (tmp_path / "p.png").stat().st_size > 5000
    (name, shape, dtype, step_, formats), *_ = writer.images
    assert (name, shape[2], str(dtype), step_, formats) == ("predictions", 3, "uint8", 50, "HWC")
