"""The loss is read once, and a training ends where it is no number: with its weights whole and its batch kept."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import nn
from torch.utils.data import DataLoader, default_collate

from monai_cryo.data import TemplateDataset
from monai_cryo.engines import SimulateBatch
from monai_cryo.handlers import TrainingLoss, TrainingScalars
from monai_cryo.losses import TwoBranchLoss
from monai_cryo.templates import load_templates
from monai_cryo.transforms import BatchCompose, FourierComposed, RandPosed, RandSNR


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.masks, self.classes = nn.Conv3d(1, 4, 1), nn.Linear(4, 4)

    def forward(self, x):
        masks = self.masks(x)
        return {"logits": self.classes(masks.mean((2, 3, 4))), "masks": masks}


def trainer(folder, spoil=None):
    """Three iterations of two samples; `spoil` is applied to the loss of the second."""
    pose = RandPosed(["image", "mask"], mode=["bilinear", "nearest"], posed_key="posed", radius_key="radius_vox")
    noise = FourierComposed("image", mask_key="mask", transforms=[RandSNR((0.1, 1.0))], voxel_size=13.68)
    prepare = SimulateBatch(BatchCompose([pose, noise]))
    dataset = TemplateDataset(load_templates(), length=6, seed=5)
    assert [item["index"] for item in dataset] == list(range(6))
    torch.manual_seed(0)
    network, loss, calls = Small(), TwoBranchLoss(), []

    def spoiled(pred, label):
        calls.append(label)
        value = loss(pred, label)
        return spoil(value, network) if spoil and len(calls) == 2 else value

    writer = SimpleNamespace(scalars=[])
    writer.add_scalar = lambda *given: writer.scalars.append(given)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    engine = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(dataset, batch_size=2),
        prepare_batch=prepare,
        network=network,
        optimizer=optimizer,
        loss_function=spoiled,
        decollate=False,
        train_handlers=[TrainingLoss(loss, network, str(folder)), TrainingScalars(writer, optimizer)],
    )
    return SimpleNamespace(engine=engine, network=network, dataset=dataset, prepare=prepare, writer=writer)


def not_a_number(value, network):
    return value * float("nan")


def endless_slope(value, network):
    """A loss of the same value, whose gradient is infinite, or infinity times 0."""
    return value + (network.classes.weight - network.classes.weight.detach()).abs().sum().sqrt()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(not_a_number, "the loss of iteration 2 is nan"), (endless_slope, "the gradient of iteration 2 is (nan|inf)")],
)
def test_what_is_no_number_stops_before_the_weights_change(tmp_path, spoil, message):
    run, weights, images = trainer(tmp_path / "out", spoil), [], []

    @run.engine.on(Events.ITERATION_STARTED)
    def keep(engine):
        weights.append({name: value.clone() for name, value in run.network.state_dict().items()})

    inner = run.engine.inferer
    run.engine.inferer = lambda image, network: images.append(image) or inner(image, network)
    with pytest.raises(ValueError, match=f"{message}: training has stopped .* its 2 samples .*not_finite.json"):
        run.engine.run()
    assert run.engine.state.iteration == 2
    assert not torch.equal(weights[1]["masks.weight"], weights[0]["masks.weight"])
    assert all(torch.equal(value, weights[1][name]) for name, value in run.network.state_dict().items())

    kept = json.loads((tmp_path / "out" / "not_finite.json").read_text())
    assert kept["iteration"] == 2
    assert kept["loss" if spoil is not_a_number else "gradient"] in ("nan", "inf")
    items = [drawn["item"] for drawn in kept["parameters"]]
    assert [(item["seed"], item["split"], item["index"]) for item in items] == [(5, "train", 2), (5, "train", 3)]
    batch = default_collate([run.dataset[item["index"]] for item in items])
    again, _ = run.prepare(batch, parameters=kept["parameters"])
    assert torch.equal(again, images[1])


def test_an_earlier_runs_batch_is_forgotten(tmp_path):
    (tmp_path / "not_finite.json").write_text("{}")
    trainer(tmp_path).engine.run()
    assert not (tmp_path / "not_finite.json").exists()


def test_scaled_gradients_are_refused(tmp_path):
    engine = trainer(tmp_path)
    engine.amp = True
    loss = TwoBranchLoss()
    with pytest.raises(ValueError, match="amp must be false: --precision bfloat16"):
        TrainingLoss(loss, torch.nn.Linear(1, 1), str(tmp_path)).attach(engine)


def test_the_loss_and_its_parts_are_logged(tmp_path):
    run = trainer(tmp_path / "out")
    run.engine.run()
    assert {name for name, _, _ in run.writer.scalars} == {
        "train/loss",
        "train/loss_classification",
        "train/loss_segmentation",
        "train/learning_rate",
    }
    assert ("train/learning_rate", 0.5, 2) in run.writer.scalars
    values = {name: value for name, value, step in run.writer.scalars if step == 3}
    assert values["train/loss"] == run.engine.state.output["loss"].item()
    parts = values["train/loss_classification"], values["train/loss_segmentation"]
    assert values["train/loss"] == pytest.approx(0.15 * parts[0] + 0.85 * parts[1], rel=1e-5)
    assert not (tmp_path / "out").exists()
