"""What the model zoo checks of every bundle, by MONAI's own functions, and the exports it makes of the model."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import fire
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export, verify_metadata, verify_net_in_out
from torch import Tensor

from monai_cryo.bundle import read_model

NET = "network_def"
Answer = Callable[[Path, Tensor], Tensor]


@pytest.fixture
def files(bundle_root: Path) -> dict[str, str]:
    """Return what MONAI's checks and exports want to know of a bundle."""
    return {
        "bundle_root": str(bundle_root),
        "config_file": str(bundle_root / "configs" / "inference.yaml"),
        "meta_file": str(bundle_root / "configs" / "metadata.json"),
    }


def test_files(bundle_root: Path) -> None:
    assert (bundle_root / "LICENSE").read_text() == (bundle_root.parents[1] / "LICENSE").read_text()
    assert (bundle_root / "docs" / "README.md").is_file()
    assert (bundle_root / "models" / "model.pt").stat().st_size < 25e6
    metadata = json.loads((bundle_root / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]


@pytest.mark.filterwarnings("ignore:No hash value provided:UserWarning")
def test_metadata_follows_the_schema(files: dict[str, str], shared_data: Path, tmp_path: Path) -> None:
    schema = json.loads(Path(files["meta_file"]).read_text())["schema"].rsplit("/", 1)[1]
    shutil.copy(shared_data.parent / "schema" / schema, tmp_path / "schema.json")  # else MONAI downloads it
    verify_metadata(meta_file=files["meta_file"], filepath=tmp_path / "schema.json")
    wrong = json.loads(Path(files["meta_file"]).read_text()) | {"network_data_format": 1}
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(tmp_path / "wrong.json"), filepath=tmp_path / "schema.json")


def test_metadata_says_what_the_model_is(bundle_root: Path, files: dict[str, str]) -> None:
    metadata = json.loads(Path(files["meta_file"]).read_text())
    model = read_model(bundle_root / "models" / "model.pt")
    (image,), (pred,) = (metadata["network_data_format"][k].values() for k in ("inputs", "outputs"))
    assert list(pred["channel_def"].values()) == model.classes
    assert pred["num_channels"] == len(model.classes)
    assert image["spatial_shape"] == pred["spatial_shape"] == [model.box] * 3


def test_network_in_and_out(files: dict[str, str]) -> None:
    verify_net_in_out(net_id=NET, device="cpu", **files)


def test_the_model_is_a_plain_state_dict(bundle_root: Path, files: dict[str, str]) -> None:
    state = torch.load(bundle_root / "models" / "model.pt", weights_only=True)
    parser = ConfigParser()
    parser.read_config(files["config_file"])
    parser["bundle_root"] = files["bundle_root"]
    parser.get_parsed_content(NET).load_state_dict(state)
    assert all(isinstance(value, torch.Tensor) for value in state.values())


def page_command(bundle_root: Path, verb: str) -> list[str]:
    """Return the words of a command on the bundle's page, with BUNDLE put in."""
    page = (bundle_root / "docs" / "README.md").read_text().replace("\\\n", " ").replace("BUNDLE", str(bundle_root))
    (line,) = (line for line in page.splitlines() if f"monai.bundle {verb} " in line)
    return shlex.split(line)[3:]


def run_torchscript(folder: Path, x: Tensor) -> Tensor:
    return torch.jit.load(str(folder / "model.ts"))(x)


def run_onnx(folder: Path, x: Tensor) -> Tensor:
    from onnxruntime import InferenceSession

    session = InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["pred"], {"image": x.numpy()})[0])


NEEDS_TORCH_2_9 = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9),
    reason="the ONNX exporter before torch 2.9 knows no branches",
)


@pytest.mark.filterwarnings("ignore:.*dynamic_axes.*", "ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize(
    ("verb", "answer"),
    [
        ("ckpt_export", run_torchscript),
        pytest.param("onnx_export", run_onnx, marks=[pytest.mark.slow, NEEDS_TORCH_2_9]),
    ],
)
def test_exports_answer_as_the_model_does(
    bundle_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, answer: Answer
) -> None:
    """By the command on the bundle's page, from another folder, for any number of boxes."""
    monkeypatch.chdir(tmp_path)
    fire.Fire({"ckpt_export": ckpt_export, "onnx_export": onnx_export}, command=page_command(bundle_root, verb))
    model = read_model(bundle_root / "models" / "model.pt")
    network = model.load(model.network(one_tensor=True)).eval()
    boxes = torch.randn(6, 1, *[model.box] * 3, generator=torch.Generator().manual_seed(0))
    boxes[3:, :, 12:28, 12:28, 12:28] -= 2  # a particle
    with torch.no_grad():
        for x in (boxes, boxes[:1]):
            torch.testing.assert_close(answer(tmp_path, x), network(x), rtol=1e-4, atol=1e-5)
