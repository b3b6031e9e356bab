"""A training begins with what a model has learnt, of the same classes or of others."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.networks.nets import BasicUNet

from monai_cryo.bundle import ModelRecord
from monai_cryo.networks import TwoBranchNet
from monai_cryo.transforms import Standardize

SHAPE = {"features": [2, 2, 2, 4, 4], "fc": [4, 4], "norm": "batch"}


def record(classes=("a", "b"), network=TwoBranchNet, **changes):
    shape = {**SHAPE, "num_classes": len(classes)} if network is TwoBranchNet else changes.pop("shape")
    facts = {"voxel_size": 10.0, "box": 16, "contrast": "dark", "normalize": Standardize("item"), **changes}
    return ModelRecord(list(classes), network=partial(network, **shape), **facts)


@pytest.fixture(params=[1, 2])
def model(tmp_path, request, monkeypatch):
    """A model of classes a and b that has seen something, and its file, at either resolution."""
    monkeypatch.setitem(SHAPE, "stride", request.param)
    network = record().build()
    network(torch.randn(4, 1, 16, 16, 16))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    return network.eval(), tmp_path / "model.pt"


def test_the_same_classes_take_everything_but_the_record(model):
    trained, path = model
    begun = record(box=24).build(path)
    assert begun.record.facts["box"] == 24
    x = torch.randn(2, 1, 16, 16, 16)
    torch.testing.assert_close(begun.eval()(x), trained(x))


def test_classes_go_by_their_names(model):
    trained, path = model
    stride = SHAPE["stride"]
    torch.manual_seed(0)
    fresh = record(["c", "b", "d"]).build()
    torch.manual_seed(0)
    begun = record(["c", "b", "d"]).build(path)
    x = torch.randn(2, 1, 16, 16, 16)
    old, new = trained(x), begun.eval()(x)
    torch.testing.assert_close(new["logits"][:, 1], old["logits"][:, 1])
    torch.testing.assert_close(new["masks"][:, 1], old["masks"][:, 1])
    for row in (0, 2):
        torch.testing.assert_close(begun.classifier[-1].weight[row], fresh.classifier[-1].weight[row])
        new_rows = [net.segmenter.layer.weight[(slice(None), row) if stride == 2 else row] for net in (begun, fresh)]
        torch.testing.assert_close(*new_rows)
    # as many classes in another order: the rows change places
    turned = record(["b", "a"]).build(path).eval()(x)
    torch.testing.assert_close(turned["logits"], old["logits"].flip(1))


def test_what_does_not_fit_is_refused(model, tmp_path):
    _, path = model
    for change, message in (
        ({"voxel_size": 12.0}, "voxel_size 10.0, this training 12.0"),
        ({"contrast": "bright"}, "contrast 'dark', this training 'bright'"),
        ({"normalize": Standardize("batch")}, "normalize"),
    ):
        with pytest.raises(ValueError, match=message):
            record(**change).build(path)
    with pytest.raises(FileNotFoundError, match="no model file"):
        record().build(tmp_path / "none.pt")
    unet = {"shape": {"spatial_dims": 3, "features": (4,) * 6}}
    with pytest.raises(ValueError, match="has classes a, b, this training a, c"):
        record(["a", "c"], BasicUNet, **unet).build(path)
    with pytest.raises(ValueError, match=r"does not fit: .* has shape None"):
        record(["a", "b"], BasicUNet, **unet).build(path)
    state = torch.load(path)
    state["classifier.6.weight"] = torch.zeros(1, 4)
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"classifier.6.weight has shape \[1, 4\], expected \[2, 4\]"):
        record(["b", "c", "d"]).build(path)
