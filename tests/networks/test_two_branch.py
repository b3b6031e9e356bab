from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.utils import convert_to_torchscript
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from monai_cryo.losses import TwoBranchLoss
from monai_cryo.networks import TwoBranchNet, TwoBranchTensorNet
from monai_cryo.networks.two_branch import _DecoderStack, _Mixed

needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor emulates bfloat16: minutes"
)
BOTH = ["float32", pytest.param("bfloat16", marks=needs_bfloat16)]
SMALL = {"features": (2, 4, 4, 6, 8), "fc": (8, 8), "num_classes": 3}


def sample(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(**kwargs: object) -> tuple[TwoBranchNet, TwoBranchNet]:
    """Return the same network in float32 and in bfloat16."""
    torch.manual_seed(0)
    plain = TwoBranchNet(**{**SMALL, **kwargs})
    mixed = TwoBranchNet(**{**SMALL, **kwargs}, precision="bfloat16")
    mixed.load_state_dict(plain.state_dict())
    return plain, mixed


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize(
    "box", [(8,) * 3, (16,) * 3, (24,) * 3, (32,) * 3, (40,) * 3, (48,) * 3, (32, 40, 48), (8, 72, 16)]
)
def test_any_box_of_multiples_of_8(box: tuple[int, int, int], precision: str) -> None:
    out = TwoBranchNet(**SMALL, precision=precision)(sample(2, 1, *box))
    assert out["logits"].shape == (2, 3)
    assert out["masks"].shape == (2, 3, *box)
    for value in out.values():
        assert value.dtype == torch.float32
        assert value.isfinite().all()


@pytest.mark.parametrize("box", [(8,) * 3, (16, 24, 40), (40,) * 3, (48,) * 3])
@pytest.mark.parametrize("precision", BOTH)
def test_half_the_resolution(box: tuple[int, int, int], precision: str) -> None:
    network = TwoBranchNet(**SMALL, stride=2, precision=precision)
    sizes: list[int] = []
    for module in [*network.encoder, network.deepest, *network.decoder]:
        module.register_forward_hook(lambda _m, _i, out: sizes.append(out.shape[2]))
    out = network(sample(2, 1, *box))
    assert out["logits"].shape == (2, 3)
    assert out["masks"].shape == (2, 3, *box)
    half = box[0] // 2
    assert sizes[:3] == [half, half, half // 2]
    assert sizes[-2:] == [half, half]
    (out["logits"].square().sum() + out["masks"].square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_the_middle_of_a_box_stays_in_the_middle_at_half_the_resolution() -> None:
    x = sample(1, 1, 40, 40, 40)
    network = TwoBranchNet(**SMALL, stride=2).eval()
    for stack in network.encoder:  # symmetric kernels: a mirrored box then has mirrored maps
        stack.layer.conv.weight.data.copy_((stack.layer.conv.weight + stack.layer.conv.weight.flip(-1)) / 2)
    first = network.encoder[0]
    torch.testing.assert_close(first(x.flip(-1)).flip(-1), first(x))


def test_masks_at_half_the_resolution_are_of_whole_voxels() -> None:
    """With the kernel of a trilinear interpolation they are one; any other says more."""
    network = TwoBranchNet(**SMALL, stride=2).eval()
    last = network.segmenter.layer
    once = torch.randn(last.in_channels, 3, 1, 1, 1)
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    last.weight.data.copy_(once * line[:, None, None] * line[:, None] * line)
    maps: list[torch.Tensor] = []
    network.decoder[-1].register_forward_hook(lambda _m, _i, out: maps.append(out))
    masks = network(sample(1, 1, 24, 24, 24))["masks"]
    half = torch.einsum("bizyx,io->bozyx", maps[0], once[..., 0, 0, 0])
    expected = torch.nn.functional.interpolate(half, scale_factor=2, mode="trilinear") + last.bias[:, None, None, None]
    inner = (..., slice(1, -1), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(masks[inner], expected[inner], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("share", "count"), [(0.25, 2), (0.01, 1), (1.0, 6)])
def test_a_share_of_a_training_batch_is_outlined(share: float, count: int) -> None:
    torch.manual_seed(0)
    network = TwoBranchNet(**SMALL, outlined=share, dropout=0.0)
    x = sample(6, 1, 16, 16, 16)
    out = network(x)
    assert out["logits"].shape == (6, 3)
    assert out["masks"].shape == (count, 3, 16, 16, 16)
    target = {"class": torch.arange(6) % 3, "mask": x > 1}
    parts = TwoBranchLoss().parts(out, target)
    network.outlined = 1.0
    first = {key: value[:count] for key, value in network(x).items()}
    expected = TwoBranchLoss().parts(first, {key: value[:count] for key, value in target.items()})
    torch.testing.assert_close(parts["segmentation"], expected["segmentation"])
    network.outlined = share
    assert network.eval()(x)["masks"].shape[0] == 6


def test_box_of_64() -> None:
    assert TwoBranchNet(**SMALL)(sample(1, 1, 64, 64, 64))["masks"].shape[2:] == (64, 64, 64)


def test_sizes_follow_the_paper() -> None:
    network = TwoBranchNet(**SMALL)
    seen: dict[str, Tensor] = {}
    for name in ["encoder.0", "encoder.1", "encoder.2", "encoder.3", "deepest", *(f"decoder.{i}" for i in range(4))]:
        network.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    network.classifier.register_forward_pre_hook(lambda _m, args: seen.update(pooled=args[0]))
    network(sample(2, 1, 40, 40, 40))
    assert [seen[f"encoder.{i}"].shape[-1] for i in range(4)] == [40, 20, 10, 5]
    assert seen["deepest"].shape == (2, 8, 2, 2, 2)
    assert [tuple(seen[f"decoder.{i}"].shape[1:3]) for i in range(4)] == [(6, 5), (4, 10), (4, 20), (2, 40)]
    torch.testing.assert_close(seen["pooled"], F.max_pool3d(seen["deepest"], 2).flatten(1))


def test_parameters_of_the_default() -> None:
    with torch.device("meta"):
        network = TwoBranchNet()
    channels = (1, 32, 64, 128, 256, 512)
    encoder = sum(27 * a * b + b for a, b in pairwise(channels))
    decoder = sum(8 * b * a + a + 27 * 2 * a * a + a for a, b in pairwise(channels[1:]))
    classifier = 512 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 4 + 4
    assert sum(p.numel() for p in network.parameters()) == encoder + decoder + classifier + 32 * 4 + 4
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.7, 0.7]


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = TwoBranchNet(**SMALL, dropout=0.0)
    out = network(sample(4, 1, 40, 40, 40))
    (out["logits"].square().sum() + out["masks"].square().sum()).backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize(
    ("norm", "layer"),
    [("batch", nn.BatchNorm3d), ("instance", nn.InstanceNorm3d), (("group", {"num_groups": 2}), nn.GroupNorm)],
)
def test_norm_stands_before_every_relu(norm: object, layer: type[nn.Module]) -> None:
    network = TwoBranchNet(**SMALL, norm=norm)
    stacks = [m for m in network.modules() if hasattr(m, "adn")]
    assert len(stacks) == 9
    for stack in stacks:
        assert [type(m) for m in stack.adn] == [layer, nn.ReLU]
    assert network(sample(2, 1, 32, 32, 32))["masks"].isfinite().all()
    assert not any(isinstance(m, layer) for m in TwoBranchNet(**SMALL).modules())


def test_dropout_in_training_only() -> None:
    network, x = TwoBranchNet(**SMALL), sample(2, 1, 16, 16, 16)
    assert not torch.equal(network(x)["logits"], network(x)["logits"])
    network.eval()
    assert torch.equal(network(x)["logits"], network(x)["logits"])


def test_metatensor_becomes_a_tensor() -> None:
    network, x = TwoBranchNet(**SMALL).eval(), sample(2, 1, 16, 16, 16)
    out = network(MetaTensor(x))
    for key, value in network(x).items():
        assert type(out[key]) is Tensor
        assert torch.equal(out[key], value)


@pytest.mark.parametrize(
    "shape", [(1, 1, 20, 40, 40), (1, 1, 40, 40, 12), (1, 2, 16, 16, 16), (1, 16, 16, 16), (1, 1, 0, 8, 8)]
)
def test_refuses_other_inputs(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"input must have shape \(B, 1, D, H, W\) with .* of 8, got \[[\d, ]*\]$"):
        TwoBranchNet(**SMALL)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"features": (8, 16)}, r"features must hold 5 channel counts, whole numbers from 1, got \(8, 16\)"),
        ({"features": 8}, "features must hold 5 channel counts, whole numbers from 1, got 8"),
        ({"features": ["a"] * 5}, "features must hold 5 channel counts, whole numbers from 1"),
        ({"features": [0] * 5}, "features must hold 5 channel counts, whole numbers from 1"),
        ({"norm": "foo"}, "norm must be null or one of .*batch.*, got 'foo'"),
        ({"norm": 3}, "norm must be null or one of"),
        ({"fc": (8,)}, r"fc must hold 2 layer widths, whole numbers from 1, got \(8,\)"),
        ({"dropout": 2}, "dropout must be a probability below 1, got 2"),
        ({"dropout": -0.1}, "dropout must be a probability below 1, got -0.1"),
        ({"outlined": 0}, "outlined must be a share above 0 and at most 1, got 0"),
        ({"outlined": 1.5}, "outlined must be a share"),
        ({"stride": 3}, "stride must be 1 or 2, got 3"),
        ({"precision": "float16"}, r"precision must be one of auto, float32, bfloat16, got 'float16'"),
    ],
)
def test_refuses_other_arguments(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TwoBranchNet(**kwargs)


@needs_bfloat16
@pytest.mark.parametrize("norm", [None, "batch"])
def test_bfloat16_agrees_with_float32(norm: str | None) -> None:
    plain, mixed = pair(features=(8, 8, 16, 16, 32), norm=norm, dropout=0.0)
    x = sample(4, 1, 40, 40, 40)
    expected, got = plain(x), mixed(x)
    assert not torch.equal(got["masks"], expected["masks"])
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=0.02, atol=0.02 * float(value.detach().std() + 1))


@needs_bfloat16
def test_bfloat16_keeps_small_maps_in_float32() -> None:
    _, mixed = pair()
    kinds: dict[int, set[torch.dtype]] = {}
    for module in mixed.modules():
        if isinstance(module, _Mixed):
            module.register_forward_hook(lambda _m, _i, out: kinds.setdefault(out.shape[-1], set()).add(out.dtype))
    mixed(sample(2, 1, 32, 32, 32))
    mixed(sample(2, 1, 24, 24, 24))
    assert kinds[3] == {torch.float32}
    assert kinds[4] == kinds[32] == {torch.bfloat16}
    assert {p.dtype for p in mixed.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", BOTH)
def test_all_maps_are_channels_last(precision: str) -> None:
    network = TwoBranchNet(**SMALL, precision=precision)
    layouts: list[bool] = []
    for module in [*network.encoder, network.deepest, *network.decoder]:
        module.register_forward_hook(
            lambda _m, _i, out: layouts.append(out.is_contiguous(memory_format=torch.channels_last_3d))
        )
    network(sample(2, 1, 16, 16, 16))
    assert len(layouts) == 9
    assert all(layouts)


def poison() -> None:
    """Leave freed memory full of NaN behind, so that whatever a kernel forgets to write shows."""
    for size in (512, 1024, 4096, 16384, 65536):
        held = [torch.full((size,), torch.nan) for _ in range(8)]
        del held


@needs_bfloat16
@pytest.mark.parametrize("box", [16, 40])
def test_bfloat16_network_has_finite_gradients(box: int) -> None:
    for attempt in range(15):
        _, network = pair(features=(2, 4, 8, 32, 16))
        batch = 4 + attempt % 5
        x = sample(batch, 1, box, box, box, seed=attempt)
        loss = TwoBranchLoss()(network(x), {"class": torch.arange(batch) % 3, "mask": x > 1})
        poison()
        loss.backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad.isfinite().all(), name


@needs_bfloat16
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_bfloat16_layer_has_the_gradients_of_float32(size: int) -> None:
    for attempt in range(5):
        x, gradient = sample(6, 16, size, size, size, seed=attempt), sample(6, 8, size, size, size, seed=99)
        layer = _Mixed(nn.Conv3d(16, 8, 3, padding=1), "bfloat16").to(memory_format=torch.channels_last_3d)
        (expected,) = torch.autograd.grad(layer.layer(x), layer.layer.weight, gradient)
        poison()
        y = layer(x.contiguous(memory_format=torch.channels_last_3d))
        poison()
        (got,) = torch.autograd.grad(y, layer.layer.weight, gradient.to(y.dtype))
        assert (got - expected).norm() < 0.01 * expected.norm()


@needs_bfloat16
@pytest.mark.parametrize("size", [2, 4, 10])
def test_bfloat16_decoder_fills_odd_sizes(size: int) -> None:
    x = sample(4, 16, size, size, size)
    stack = _DecoderStack(nn.ConvTranspose3d(16, 8, 2, 2), nn.Identity(), "bfloat16")
    poison()
    out = stack(x, torch.zeros(4, 8, *[2 * size + 1] * 3))
    torch.testing.assert_close(out[:, 8:], stack.deconvolution(x, [2 * size + 1] * 3), rtol=0.02, atol=0.02)


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="this processor has no AMX: the tests above were it")
def test_bfloat16_without_amx() -> None:
    """Where the CPU has AMX, ask oneDNN for the kernels of those that have not: theirs are the wrong gradients."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "bfloat16 and not amx", __file__]
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("num_classes", [1, 3])
def test_one_tensor_holds_class_mask_and_probabilities(num_classes: int) -> None:
    torch.manual_seed(0)
    two = TwoBranchNet(**{**SMALL, "num_classes": num_classes}).eval()
    one = TwoBranchTensorNet(**{**SMALL, "num_classes": num_classes}).eval()
    one.load_state_dict(two.state_dict())
    x = sample(6, 1, 16, 16, 16)
    expected, output = two(x), one(x)
    probabilities = expected["logits"].softmax(1)
    predicted = probabilities.argmax(1)
    mask = expected["masks"][torch.arange(6), predicted].sigmoid()

    assert output.shape == (6, num_classes, 16, 16, 16)
    assert torch.equal(output[:, :, 3, 7, 11].argmax(1), predicted)
    for threshold in (0.01, 0.5, 0.9):
        chosen = (output >= threshold).nonzero(as_tuple=True)
        assert torch.equal(chosen[1], predicted[chosen[0]])
        assert torch.equal((output >= threshold).any(1), mask >= threshold)
    decoded_probabilities, decoded_mask = TwoBranchTensorNet.decode(output)
    torch.testing.assert_close(decoded_probabilities, probabilities)
    assert torch.equal(decoded_mask, mask[:, None])


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("use_trace", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_exports_to_torchscript(use_trace: bool, stride: int) -> None:
    network = TwoBranchTensorNet(**SMALL, norm="batch", stride=stride)
    x = sample(2, 1, 40, 40, 40)
    exported = convert_to_torchscript(network, inputs=[x], use_trace=use_trace, verify=True, device=torch.device("cpu"))
    if not use_trace:
        other = sample(1, 1, 16, 24, 32)
        torch.testing.assert_close(exported(other), network(other))
        with pytest.raises(torch.jit.Error, match="multiples of 8"):
            exported(torch.zeros(1, 1, 20, 20, 20))
