"""What a model was trained for travels in its weights, and builds nothing but what it may."""

from __future__ import annotations

import copy
import math
import re
from functools import partial

import pytest
import torch
from monai.networks.nets import BasicUNet
from monai.transforms import Compose, NormalizeIntensity, Transform

from monai_cryo._refusals import is_refusal
from monai_cryo.bundle import RECORD_KEYS, ModelRecord, check_facts, read_model
from monai_cryo.bundle.builder import build, build_network, describe_network, describe_transform
from monai_cryo.networks import TwoBranchNet, TwoBranchTensorNet, facts_in
from monai_cryo.transforms import RandIntensity, Standardize

SHAPE = {"num_classes": 2, "features": [2, 2, 2, 4, 4], "fc": [4, 4]}
TINY = partial(TwoBranchNet, **SHAPE)


def record(**changes):
    facts = {"classes": ["a", "b"], "voxel_size": 10.0, "box": 16, "contrast": "dark", "network": TINY}
    return ModelRecord(**{**facts, "normalize": Standardize(scope="item"), **changes})


def save(path, state):
    torch.save(state, path)
    return path


def test_the_file_is_a_plain_state_dict_with_the_record_in_it(tmp_path):
    network = record().build()
    path = save(tmp_path / "m.pt", network.state_dict())
    state = torch.load(path, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    plain = TINY()
    plain.load_state_dict(state)  # as the model zoo does
    assert plain.record.facts == record().facts
    assert facts_in(copy.deepcopy(plain).state_dict()) == record().facts

    model = read_model(path)
    assert (model.classes, model.voxel_size, model.box, model.contrast) == (["a", "b"], 10.0, 16, "dark")
    assert model.normalize.config() == Standardize(scope="item").config()
    assert not model.negates("protein dark")
    assert model.negates("bright")
    assert "voxel_size=10.0" in repr(model)
    x = torch.randn(2, 1, 16, 16, 16)
    expected = network.eval()(x)
    torch.testing.assert_close(model.network("float32")(x), expected)
    one = model.network(one_tensor=True)
    assert isinstance(one, TwoBranchTensorNet)
    torch.testing.assert_close(one.decode(one(x))[0], expected["logits"].softmax(1))


@pytest.mark.parametrize("abundance", [{"b": 0}, {"a": 0.2, "b": 3}, {"a": 1, "b": 1.0, "c": 1}])
def test_probabilities_follow_how_common_classes_are(tmp_path, abundance):
    """Bayes' rule for another prior than that of training: times the ratio of the two, and shared out anew."""
    shape = {**SHAPE, "num_classes": 3}
    network = record(classes=["a", "b", "c"], network=partial(TwoBranchNet, **shape)).build()
    path = save(tmp_path / "m.pt", network.state_dict())
    x = torch.randn(2, 1, 16, 16, 16)
    expected = network.eval()(x)["logits"].softmax(1) * torch.tensor([abundance.get(name, 1.0) for name in "abc"])
    expected /= expected.sum(1, keepdim=True)
    model = read_model(path, abundance)
    torch.testing.assert_close(model.network("float32")(x)["logits"].softmax(1), expected)
    one = model.network(one_tensor=True)
    torch.testing.assert_close(one.decode(one(x))[0], expected)
    assert model.absent == [name for name in "abc" if abundance.get(name) == 0]
    assert model.abundance == {"a": 1, "b": 1, "c": 1, **abundance}
    assert set(read_model(path).abundance.values()) == {1}
    assert model.with_abundance({"b": 5}).abundance == {**model.abundance, "b": 5}
    saved = save(tmp_path / "told.pt", model.network().state_dict())
    assert read_model(saved).abundance == model.abundance


def test_a_network_that_was_built_with_abundances_is_recorded_with_them(tmp_path):
    """They count in evaluation alone, exports have them, and other ones can be told."""
    shape = {**SHAPE, "num_classes": 2, "dropout": 0.0}
    network = record(network=partial(TwoBranchNet, **shape, abundance=[1, 0.2])).build()
    model = read_model(save(tmp_path / "m.pt", network.state_dict()))
    assert model.abundance == {"a": 1, "b": 0.2}
    x = torch.randn(2, 1, 16, 16, 16)
    plain = model.with_abundance({"b": 1}).network()(x)["logits"]
    torch.testing.assert_close(network.train()(x)["logits"], plain)
    torch.testing.assert_close(model.network()(x)["logits"], plain + torch.tensor([0.0, math.log(0.2)]))
    names = {name for name, _ in TwoBranchNet(**shape).named_parameters()}
    assert {name for name in network.state_dict() if "_extra_state" not in name} == names
    exported = torch.jit.script(model.network("float32", one_tensor=True))
    torch.testing.assert_close(exported(x), model.network("float32", one_tensor=True)(x))


def test_a_training_knows_nothing_of_the_abundances_that_it_records(tmp_path):
    told = record(network=partial(TwoBranchNet, **SHAPE, dropout=0.0), abundance={"b": 0.2})
    network = told.build().eval()
    x = torch.randn(2, 1, 16, 16, 16)
    model = read_model(save(tmp_path / "m.pt", network.state_dict()))
    assert model.abundance == {"a": 1.0, "b": 0.2}
    expected = network(x)["logits"] + torch.tensor([0.0, math.log(0.2)])
    torch.testing.assert_close(model.network()(x)["logits"], expected)
    unet = partial(BasicUNet, spatial_dims=3, out_channels=2, features=(2, 2, 2, 2, 2, 2))
    assert "abundance" not in record(network=unet, abundance={"b": 0.2}).facts["network"]


@pytest.mark.parametrize("wrong", [[1], 3, "ab", [1, -1], [0, 0], {"a": 1}, [1, None]])
def test_a_record_with_abundances_that_cannot_be_is_refused(wrong):
    facts = record().facts
    with pytest.raises(ValueError, match="abundance"):
        check_facts({**facts, "network": {**facts["network"], "abundance": wrong}})


@pytest.mark.parametrize("wrong", [[1], [1, -1], [0, 0], [1, float("inf")], "ab", 3, [True, 1]])
def test_a_network_refuses_abundances_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="abundance must hold 2 numbers from 0 to 1e\\+06, not all 0, got"):
        TwoBranchNet(**{**SHAPE, "num_classes": 2}, abundance=wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"groel": 1}, "to some of the classes ribosome, membrane, got {'groel': 1}"),
        (["ribosome"], "to some of the classes ribosome, membrane, got"),
        ({"ribosome": -1}, "abundance of ribosome must be a number from 0 to 1e+06, got -1"),
        ({"ribosome": 10**400}, "abundance of ribosome must be a number from 0 to 1e+06, got 1000"),
        ({"ribosome": 1e300}, "abundance of ribosome must be a number from 0 to 1e+06, got 1e+300"),
        ({"ribosome": float("nan")}, "abundance of ribosome must be a number from 0 to 1e+06, got nan"),
        ({"ribosome": True}, "abundance of ribosome must be a number from 0 to 1e+06, got True"),
        ({"ribosome": "few"}, "abundance of ribosome must be a number from 0 to 1e+06, got 'few'"),
        ({"ribosome": 0, "membrane": 0.0}, "abundance of all classes is 0"),
    ],
)
def test_an_abundance_that_cannot_be_is_refused(tmp_path, wrong, message):
    path = save(tmp_path / "m.pt", record(classes=["ribosome", "membrane"]).build().state_dict())
    with pytest.raises(ValueError, match=re.escape(message)):
        read_model(path, wrong)


def test_another_network_takes_no_abundances(tmp_path):
    unet = partial(BasicUNet, spatial_dims=3, out_channels=2, features=(2, 2, 2, 2, 2, 2))
    path = save(tmp_path / "m.pt", record(network=unet).build().state_dict())
    with pytest.raises(ValueError, match="can be told to a TwoBranchNet, not to BasicUNet"):
        read_model(path, {"a": 0.5})


def test_a_network_of_ones_own_is_recorded_as_what_it_is(tmp_path):
    """MONAI's own, whose state dict knows nothing of records."""
    unet = partial(BasicUNet, spatial_dims=3, out_channels=2, features=(2, 2, 2, 2, 2, 2))
    network = record(network=unet).build()
    model = read_model(save(tmp_path / "m.pt", network.state_dict()))
    assert model.facts["network"] == {
        "_target_": "monai.networks.nets.BasicUNet",
        "spatial_dims": 3,
        "out_channels": 2,
        "features": [2] * 6,
    }
    x = torch.randn(1, 1, 32, 32, 32)
    torch.testing.assert_close(model.network()(x), network.eval()(x))


def test_the_precision_is_the_machines():
    facts = record(network=partial(TINY, precision="bfloat16")).facts
    assert facts == record().facts
    assert build_network(facts["network"], "bfloat16").precision == "bfloat16"


def test_a_precision_that_there_is_not_is_what_is_refused(tmp_path):
    model = read_model(save(tmp_path / "m.pt", record().build().state_dict()))
    with pytest.raises(ValueError, match=r"^precision must be one of .*, got 'half'$"):
        model.network("half")


def test_a_network_that_was_built_already_is_refused():
    with pytest.raises(ValueError, match="say `_mode_: callable` beside its _target_"):
        describe_network(TINY())


@pytest.mark.parametrize("value", [torch.nn.GELU, {"act": torch.nn.GELU}, [torch.ones(2)], float("nan")])
def test_arguments_that_no_file_can_hold_are_refused_before_training(value):
    with pytest.raises(ValueError, match="network_def's norm is no plain value that a configuration could hold"):
        record(network=partial(TINY, norm=value))


def test_several_transforms_are_recorded_in_order():
    both = describe_transform(Compose([Standardize(scope="item"), Standardize(scope="batch")]))
    assert [config["scope"] for config in both] == ["item", "batch"]
    assert all(config["_target_"] == "monai_cryo.transforms.Standardize" for config in both)


@pytest.mark.parametrize("odd", [NormalizeIntensity(), RandIntensity(), None])
def test_a_normalisation_that_cannot_be_recorded_is_refused(odd):
    with pytest.raises(ValueError, match=r"images are normalised by|normalize must be a list"):
        record(normalize=odd)


@pytest.mark.parametrize("missing", RECORD_KEYS)
def test_incomplete_records(missing):
    with pytest.raises(ValueError, match=f"missing: {missing}"):
        check_facts({k: v for k, v in record().facts.items() if k != missing})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("box", 42, "multiple of 8 voxels, at most 512, got 42"),
        ("classes", [], "classes must be a list of names"),
        ("box", 10**5, "multiple of 8 voxels, at most 512, got 100000"),
        ("voxel_size", 0, "voxel_size must be 0.2 to 100 Å, got 0"),
        ("voxel_size", 1e-30, "voxel_size must be 0.2 to 100 Å, got 1e-30"),
        ("contrast", "grey", "contrast must be dark or bright"),
        ("normalize", [], "normalize must be a list of transform configs"),
    ],
)
def test_impossible_records(key, value, message):
    with pytest.raises(ValueError, match=message):
        check_facts({**record().facts, key: value})


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({"_target_": "os.system", "command": "true"}, Transform, "may only name parts of"),
        ({"_target_": "monai_cryo.cli.os.system"}, Transform, "does not have"),
        ({"_target_": "monai_cryo.cli.main"}, Transform, "is no Transform"),
        ({"_target_": "monai_cryo.data.chains.LoadImaged", "keys": "i"}, Transform, r"which is monai\.transforms\."),
        ({"_target_": "monai_cryo.networks.Gone"}, torch.nn.Module, "does not have"),
        ({"_target_": "monai_cryo.networks.TwoBranchNet", "fc": "$[1, 2]"}, torch.nn.Module, "plain values"),
        ({"_target_": "monai_cryo.networks.TwoBranchNet", "fc": ["@fc"]}, torch.nn.Module, "plain values"),
        ({"_target_": "monai_cryo.networks.TwoBranchNet", "norm": {"_target_": "x"}}, torch.nn.Module, "may not ask"),
        ({"_target_": "monai.networks.nets.EfficientNetBN", "pretrained": True}, torch.nn.Module, "may not ask"),
        ({"_target_": "monai_cryo.networks.TwoBranchNet", "colour": 1}, torch.nn.Module, "recorded arguments"),
        ({}, torch.nn.Module, "found None"),
    ],
)
def test_a_record_builds_nothing_but_networks_and_transforms(config, kind, message):
    with pytest.raises(ValueError, match=message):
        build(config, kind)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("nets.EfficientNetBN", {"model_name": "efficientnet-b0", "spatial_dims": 2, "in_channels": 3}),
        ("nets.ResNetFeatures", {"model_name": "resnet10", "in_channels": 1}),
        ("blocks.fcn.FCN", {}),
        ("blocks.fcn.MCFCN", {}),
        ("nets.MILModel", {"num_classes": 2}),
        ("blocks.text_embedding.TextEncoder", {"out_channels": 2, "encoding": "clip_embedding"}),
    ],
)
def test_no_network_loads_weights_of_its_own(name, arguments, monkeypatch):
    """Also one that does so unless it is told not to."""

    def refuse(*_, **__):
        raise AssertionError("it looks for weights elsewhere")

    for place in ("torch.hub.load_state_dict_from_url", "torch.utils.model_zoo.load_url"):
        monkeypatch.setattr(place, refuse)
    monkeypatch.setattr("monai.networks.nets.resnet.get_pretrained_resnet_medicalnet", refuse)
    if "fcn" in name or "MIL" in name:
        pytest.importorskip("torchvision")
    assert isinstance(build({"_target_": f"monai.networks.{name}", **arguments}, torch.nn.Module), torch.nn.Module)


@pytest.mark.parametrize("name", ["TorchVisionFCModel", "cell_sam_wrapper.CellSamWrapper", "Transchex"])
def test_networks_that_always_load_weights_are_refused(name):
    with pytest.raises(ValueError, match=rf"may not name monai\.networks\.nets\.{name}, which loads"):
        build({"_target_": f"monai.networks.nets.{name}"}, torch.nn.Module)


def test_nothing_that_a_record_names_is_called(tmp_path):
    """MONAI's LoadImage finds its reader by name, any function, and calls it."""
    state = record().build().state_dict()
    touched = tmp_path / "touched"
    for target in (
        "monai_cryo.data.chains.LoadImaged",
        "monai_cryo.data.RefusingDataset",
    ):
        lying = record().build()
        lying.record.facts["normalize"] = [
            {"_target_": target, "keys": "image", "reader": "os.system", "command": f"touch {touched}"}
        ]
        with pytest.raises(ValueError, match=r"bad\.pt"):
            read_model(save(tmp_path / "bad.pt", lying.state_dict()))
        assert not touched.exists()
    read_model(save(tmp_path / "good.pt", state))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    state = record().build().state_dict()
    name = next(name for name in state if name.endswith("bias"))
    state[name] = torch.full_like(state[name], value, dtype=torch.float64)
    with pytest.raises(
        ValueError, match=rf"m\.pt is no model .*: expected finite weights, but {name} holds NaN"
    ) as error:
        read_model(save(tmp_path / "m.pt", state))
    assert is_refusal(error.value)


def test_no_model_and_no_model_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file"):
        read_model(tmp_path / "none.pt")
    for content in (b"", b"text"):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.pt is no readable model file"):
            read_model(tmp_path / "bad.pt")
    for state in ({"weights": 1}, [1], TINY().state_dict()):
        with pytest.raises(ValueError, match=r"old\.pt is no model of this bundle: expected a state dict with"):
            read_model(save(tmp_path / "old.pt", state))
    foreign = record().build()
    foreign.record.facts["network"]["_target_"] = "elsewhere.Net"
    model = read_model(save(tmp_path / "foreign.pt", foreign.state_dict()))
    with pytest.raises(ValueError, match=r"foreign\.pt: .*elsewhere\.Net.*; pass --network_def to build it yourself"):
        model.network()
    torch.testing.assert_close(model.load(TINY()).segmenter.layer.weight, foreign.segmenter.layer.weight)
    with pytest.raises(ValueError, match="the weights do not fit TwoBranchNet"):
        model.load(TwoBranchNet(**{**SHAPE, "num_classes": 3}))
