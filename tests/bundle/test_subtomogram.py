"""The bundle trains, evaluates and infers as it promises, and refuses in one line."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_cryo._refusals import find_refusal
from monai_cryo.bundle import read_model
from monai_cryo.io import read_mrc, write_mrc
from monai_cryo.templates import load_templates
from monai_cryo.templates.file import save_templates

TINY = {
    "features": [2, 4, 4, 8, 8],
    "fc": [8, 8],
    "batch_size": 4,
    "epoch_length": 2,
    "max_epochs": 2,
    "val_length": 8,
}


def configs(root, *names):
    return [str(root / "configs" / f"{name}.yaml") for name in names]


def workflow(root, *names, kind="train", **override):
    flow = ConfigWorkflow(
        config_file=configs(root, *names),
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=str(root / "configs" / "logging.conf"),
        workflow_type=kind,
        bundle_root=str(root),
        **override,
    )
    flow.initialize()
    return flow


def tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


@pytest.fixture(scope="module")
def trained(bundle_root, tmp_path_factory):
    """Train twice two iterations of the quick recipe."""
    folder = tmp_path_factory.mktemp("trained")
    flow = workflow(bundle_root, "train", "quick", run_id="training", output_dir=str(folder), **TINY)
    flow.run()
    assert not flow.check_properties()
    flow.finalize()
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Make a labelled folder with an unknown class and an item without mask."""
    folder = tmp_path_factory.mktemp("labelled")
    library, rng, items = load_templates(), np.random.RandomState(0), []
    for n, name in enumerate(["ribosome", "tric", "membrane", "background"]):
        particle = library.draw(n % 3, rng)
        image = -particle["image"][0].numpy() + 0.3 * rng.randn(40, 40, 40).astype(np.float32)
        write_mrc(folder / f"{name}.mrc", image, 13.68, origin=(10.0, 20.0, 30.0))
        write_mrc(folder / f"{name}_mask.mrc", particle["mask"][0].numpy().astype(np.int8), 13.68)
        items.append({"image": f"{name}.mrc", "label": f"{name}_mask.mrc", "class": name})
    del items[1]["label"]
    content = {"voxel_size": 13.68, "contrast": "protein dark", "test": items}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_training_leaves_what_it_promises(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"model.pt", "checkpoint.pt", "metrics.json", "predictions.png", "parameters.csv"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["n"] == TINY["val_length"]
    assert np.array(metrics["confusion_matrix"]).sum(axis=1).tolist() == [2, 2, 2, 2]  # equally many of each class
    model = read_model(trained / "model.pt")
    assert model.classes == ["ribosome", "proteasome", "tric", "membrane"]
    assert (model.voxel_size, model.box, model.contrast) == (13.68, 40, "dark")
    assert model.facts["network"]["features"] == TINY["features"]
    assert model.facts["normalize"] == [{"_target_": "monai_cryo.transforms.Standardize", "scope": "item"}]


def test_drawn_parameters_lie_beside_the_model(trained):
    with (trained / "parameters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == TINY["batch_size"] * TINY["epoch_length"]
    (column,) = [name for name in rows[0] if name.endswith("defocus_um")]
    values = [float(row[column]) for row in rows]
    assert all(0 <= value <= 12 for value in values)
    assert len(set(values)) == len(values)


def test_the_model_is_the_averaged_one(trained):
    checkpoint = torch.load(trained / "checkpoint.pt", weights_only=True)
    assert checkpoint["averaging"].keys() == checkpoint["network"].keys()
    weight = "segmenter.layer.weight"
    assert not torch.equal(checkpoint["averaging"][weight], checkpoint["network"][weight])


def test_the_average_is_what_is_shipped(bundle_root, tmp_path):
    options = {**TINY, "max_epochs": 1, "output_dir": str(tmp_path)}  # whose only epoch is the best one
    workflow(bundle_root, "train", "quick", run_id="training", **options).run()
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    model = torch.load(tmp_path / "model.pt", weights_only=True)
    for name, value in checkpoint["averaging"].items():
        assert torch.equal(model[name], value)


def test_tensorboard_holds_scalars_and_pictures(trained):
    log = tensorboard(trained)
    scalars = set(log.Tags()["scalars"])
    wanted = {"train/loss", "train/loss_classification", "train/loss_segmentation", "train/learning_rate"}
    assert wanted | {"validation/accuracy", "validation/mean_iou", "validation/loss"} <= scalars
    assert all(tag.startswith(("train/", "validation/")) for tag in scalars)
    assert [event.step for event in log.Scalars("validation/loss")] == [2, 4]  # iterations
    assert any("defocus_um" in tag for tag in log.Tags()["histograms"])
    assert len(log.Scalars("train/loss")) == TINY["max_epochs"] * TINY["epoch_length"]
    assert log.Tags()["images"] == ["predictions"]
    rates = [event.value for event in log.Scalars("train/learning_rate")]
    assert rates[0] < rates[1] > rates[-1]  # the quick recipe's one-cycle schedule, step by step


def test_a_resumed_run_goes_on(bundle_root, trained, tmp_path):
    flow = workflow(
        bundle_root,
        "train",
        "quick",
        run_id="training",
        output_dir=str(tmp_path),
        resume=str(trained / "checkpoint.pt"),
        **{**TINY, "max_epochs": 3},
    )
    flow.run()
    trainer = flow.parser.get_parsed_content("train#trainer")
    assert (trainer.state.epoch, trainer.state.iteration) == (3, 6)
    flow.parser.get_parsed_content("writer").flush()
    rates = [event.value for event in tensorboard(tmp_path).Scalars("train/learning_rate")]
    whole = torch.optim.lr_scheduler.OneCycleLR(torch.optim.SGD([torch.zeros(1)], 3e-3), 3e-3, total_steps=6)
    expected = []
    for _ in range(6):
        expected += whole.get_last_lr()
        whole.optimizer.step()
        whole.step()
    assert rates == pytest.approx(expected[4:], rel=1e-5)  # of the longer run's schedule


def test_evaluation_scores_skips_and_draws(bundle_root, trained, labelled, tmp_path):
    flow = workflow(
        bundle_root,
        "evaluate",
        kind="infer",
        run_id="evaluating",
        ckpt=str(trained / "model.pt"),
        dataset_dir=str(labelled),
        skip_unknown=True,
        output_dir=str(tmp_path),
    )
    flow.run()
    assert not flow.check_properties()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    keys = (
        "n accuracy balanced_accuracy pixel_accuracy mean_iou class_mean_iou iou recall confusion_matrix classes "
        "threshold skipped"
    )
    assert set(keys.split()) <= set(metrics)
    assert metrics["n"] == 3
    assert metrics["skipped"] == {"background": 1}
    assert metrics["recall"]["proteasome"] is None
    assert metrics["iou"]["tric"] is None  # its only item has no mask
    kept, trained_by = (
        json.loads((folder / "metrics.json").read_text())["provenance"] for folder in (tmp_path, trained)
    )
    assert kept["seed"] is None
    assert kept["config"]["ckpt"] == str(trained / "model.pt")
    assert "commit" in kept
    for name in ("versions", "device", "threads", "ranks"):
        assert kept[name] == trained_by[name], name
    assert (tmp_path / "predictions.png").stat().st_size > 10_000


def test_inference_writes_table_and_masks_on_the_files_grid(bundle_root, trained, tmp_path):
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    rng = np.random.RandomState(0)
    for n in range(3):
        image = rng.randn(36, 48, 44).astype(np.float32)
        write_mrc(inputs / f"s{n}.mrc", image, 12.0, origin=(1.0, 2.0, 3.0))
    flow = workflow(
        bundle_root,
        "inference",
        kind="infer",
        run_id="inferring",
        ckpt=str(trained / "model.pt"),
        dataset_dir=str(inputs),
        save_masks=True,
        output_dir=str(out),
    )
    flow.run()
    assert not flow.check_properties()
    with (out / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "class", "p_ribosome", "p_proteasome", "p_tric", "p_membrane"]
    assert [row[0] for row in rows[1:]] == ["s0.mrc", "s1.mrc", "s2.mrc"]
    for row in rows[1:]:
        p = [float(v) for v in row[2:]]
        assert sum(p) == pytest.approx(1, abs=1e-3)
        assert rows[0][2 + int(np.argmax(p))] == f"p_{row[1]}"
    mask, voxel_size, origin = read_mrc(out / "masks" / "s0_mask.mrc")
    assert mask.shape == (36, 48, 44)
    assert voxel_size == pytest.approx((12.0,) * 3)
    assert origin == pytest.approx((1.0, 2.0, 3.0))
    assert set(np.unique(mask)) <= {0, 1}


OWN = """
import torch

class MyNet(torch.nn.Module):
    def __init__(self, num_classes, width=2):
        super().__init__()
        self.first, self.masks = torch.nn.Conv3d(1, width, 3, padding=1), torch.nn.Conv3d(width, num_classes, 1)
        self.classes = torch.nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.first(x).relu()
        return {"logits": self.classes(x.amax((2, 3, 4))), "masks": self.masks(x)}
"""


def test_a_network_of_ones_own(bundle_root, labelled, tmp_path, monkeypatch, capsys):
    """As the bundle's page says: laid over for training, named again for what a record may not build."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_network.py").write_text(OWN)
    blocks = (bundle_root / "docs" / "README.md").read_text().split("```")
    (page,) = [block for block in blocks if "my_package.MyNet" in block and "_mode_" in block]
    node = yaml.safe_load(page.removeprefix("yaml").replace("my_package", "own_network"))["network_def"]
    small = {k: TINY[k] for k in ("batch_size", "epoch_length", "val_length")}
    out = {"output_dir": str(tmp_path), "max_epochs": 1, **small}
    workflow(bundle_root, "train", "quick", run_id="training", network_def=node, **out).run()
    model = {"ckpt": str(tmp_path / "model.pt"), "dataset_dir": str(labelled), "output_dir": str(tmp_path / "used")}
    with pytest.raises(RuntimeError) as error:
        workflow(bundle_root, "evaluate", kind="infer", run_id="evaluating", skip_unknown=True, **model).run()
    assert "pass --network_def to build it yourself" in str(find_refusal(error.value))
    own = {"_target_": "own_network.MyNet", "num_classes": 4}
    flow = workflow(
        bundle_root, "evaluate", kind="infer", run_id="evaluating", network_def=own, skip_unknown=True, **model
    )
    flow.run()
    assert json.loads((tmp_path / "used" / "metrics.json").read_text())["n"] == 3
    flow = workflow(
        bundle_root, "inference", kind="infer", run_id="inferring", network_def=own, pattern="t*c.mrc", **model
    )
    flow.run()
    assert (tmp_path / "used" / "predictions.csv").read_text().count("tric.mrc") == 1


@pytest.mark.slow
@pytest.mark.parametrize("overlay", ["fixed_parameters", None])
def test_the_papers_recipe_starts(bundle_root, tmp_path, overlay):
    """Two iterations of train.yaml at a small size; the paper's constants are read, not repeated here."""
    names = ["train", overlay] if overlay else ["train"]
    flow = workflow(bundle_root, *names, run_id="training", output_dir=str(tmp_path), **{**TINY, "max_epochs": 1})
    flow.run()
    parser = flow.parser
    assert isinstance(parser.get_parsed_content("optimizer"), torch.optim.SGD)
    assert parser.get_parsed_content("optimizer").param_groups[0]["nesterov"]
    with (tmp_path / "parameters.csv").open() as file:
        rows = list(csv.DictReader(file))
    (column,) = [name for name in rows[0] if name.endswith(".snr")]
    values = {float(row[column]) for row in rows}
    assert values == {0.1} if overlay else (len(values) == len(rows) and max(values) <= 10 and min(values) >= 0.03)


def test_structures_can_be_held_out_for_validation(bundle_root, tmp_path):
    source = load_templates()
    save_templates(source, tmp_path)
    file = tmp_path / "templates.yaml"
    file.write_text(
        file.read_text().replace("sources: [6qzp.mrc]", "sources: [6qzp.mrc, {source: 6qzp.mrc, name: other}]")
    )
    flow = workflow(bundle_root, "train", run_id="training", templates=str(file), hold_out=["other"], **TINY)
    train, validate = (flow.parser.get_parsed_content(f"{k}#dataset").library for k in ("train", "validate"))
    assert "other" not in train.structures
    assert "6qzp" not in validate.structures
    assert train.classes == validate.classes == source.classes


def test_the_papers_constants(bundle_root):
    config = ConfigParser.load_config_files(configs(bundle_root, "train"))
    assert config["max_epochs"] * config["epoch_length"] == 15_000
    assert (config["batch_size"], config["learning_rate"], config["loss_weight"]) == (32, 5e-3, 0.15)


@pytest.mark.slow
def test_two_processes_train_the_multi_gpu_config(bundle_root, tmp_path):
    options = {**TINY, "max_epochs": 1, "output_dir": str(tmp_path / "out")}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m"]
    command += ["monai.bundle", "run", "training", "--bundle_root", str(bundle_root), "--config_file"]
    command += [str(configs(bundle_root, "train", "multi_gpu_train"))]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    out = tmp_path / "out"
    assert json.loads((out / "metrics.json").read_text())["n"] == TINY["val_length"]
    assert len(list(out.glob("events.out.tfevents*"))) == 1  # of rank 0 alone
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["batch_size"], config["network"]["module"]) == (TINY["batch_size"], "@module")
    assert "--epoch_length 2" in (out / "config.yaml").read_text().splitlines()[0]


def run(bundle_root, run_id, *names, **options):
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--bundle_root", str(bundle_root)]
    command += ["--config_file", str(configs(bundle_root, *names))]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_evaluation_leaves_the_results_of_another_process_alone(bundle_root, trained, labelled, tmp_path):
    """Refused before anything is computed."""
    hold = f"from monai_cryo.io import hold_folder; hold_folder({str(tmp_path)!r}); print(flush=True); input()"
    (tmp_path / "metrics.json").write_text("another's")
    given = {"ckpt": str(trained / "model.pt"), "dataset_dir": str(labelled), "output_dir": str(tmp_path)}
    flow = workflow(bundle_root, "evaluate", kind="infer", run_id="evaluating", skip_unknown=True, **given)
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(RuntimeError) as error:
            flow.run()
        other.communicate(b"\n")
    assert "another process is at work in" in str(find_refusal(error.value))
    assert flow.parser.get_parsed_content("evaluator").state.iteration == 0
    assert (tmp_path / "metrics.json").read_text() == "another's"


def one_line(done):
    """Return what a failed process said, if it was one line."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "monai_cryo: error:" in line]
    return said


def test_a_mistyped_option_ends_in_one_line(bundle_root, tmp_path):
    done = run(bundle_root, "training", "train", "quick", max_epoch=3, output_dir=tmp_path / "out")
    assert "unknown option --max_epoch: did you mean --max_epochs?" in one_line(done)
    assert not (tmp_path / "out").exists()


def test_bad_input_ends_in_one_line(bundle_root, tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"no model")
    done = run(bundle_root, "evaluating", "evaluate", ckpt=tmp_path / "broken.pt", output_dir=tmp_path)
    assert f"error: {tmp_path / 'broken.pt'} is no readable model file" in one_line(done)


def test_a_refused_command_leaves_an_earlier_run_alone(bundle_root, tmp_path):
    (tmp_path / "config.yaml").write_text("of a finished run")
    done = run(bundle_root, "training", "train", "quick", snr="[0,1]", output_dir=tmp_path)
    assert "snr must be > 0" in one_line(done)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "of a finished run"


@pytest.mark.parametrize(
    ("run_id", "names", "options", "message"),
    [
        ("training", ["train"], {"box": 42}, "multiple of 8"),
        ("training", ["train"], {"snr": [0, 1]}, "snr must be > 0"),
        ("training", ["train"], {"templates": "nowhere.yaml"}, "nowhere.yaml"),
        ("training", ["train"], {"resume": "nowhere.pt"}, "no checkpoint nowhere.pt to resume from"),
        ("training", ["train"], {"resume": True}, "resume must be a checkpoint, auto or null, got True"),
        ("training", ["train"], {"dropout": 2}, "dropout must be a probability below 1, got 2"),
        ("training", ["train"], {"contrast": "grey"}, "contrast must be "),
        ("training", ["train"], {"ema": 1}, "must lie between 0 and 1, got 1"),
        ("evaluating", ["evaluate"], {"dataset_dir": "/nowhere"}, "no /nowhere/dataset.json"),
        ("evaluating", ["evaluate"], {"ckpt": "nowhere.pt"}, "no model file nowhere.pt"),
        ("evaluating", ["evaluate"], {"dataset_dir": "broken"}, "dataset.json must be a MONAI datalist"),
        ("inferring", ["inference"], {"dataset_dir": "/nowhere"}, "no folder /nowhere"),
        ("inferring", ["inference"], {"dataset_dir": "broken", "file_contrast": "grey"}, "file_contrast must be dark"),
    ],
)
def test_bad_options_are_refusals(bundle_root, tmp_path, monkeypatch, capsys, run_id, names, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # start() sets it
    monkeypatch.delenv("MONAI_CRYO_TRACEBACK", raising=False)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset.json").write_text("{")
    write_mrc(tmp_path / "broken" / "x.mrc", np.zeros((8, 8, 8), np.float32), 13.68)
    small = TINY if run_id == "training" else {}
    with pytest.raises(RuntimeError) as error:
        workflow(bundle_root, *names, run_id=run_id, output_dir="out", **small, **options).run()
    capsys.readouterr()
    sys.excepthook(error.type, error.value, error.tb)
    said = capsys.readouterr().err
    assert said.startswith("monai_cryo: error: ")
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "out").exists()
