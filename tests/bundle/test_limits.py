"""Models that claim to be large: refused in one line, in little more memory than the file has."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet, SwinUNETR
from torch import Tensor

from monai_cryo._refusals import is_refusal
from monai_cryo.bundle import ModelRecord, read_model
from monai_cryo.bundle.limits import no_larger_than
from monai_cryo.networks import TwoBranchNet
from monai_cryo.templates.file import MAX_BOX
from monai_cryo.transforms import Standardize

TINY = {"num_classes": 2, "features": [1, 1, 1, 1, 1], "fc": [1, 1]}
NET = "monai.networks.nets."
CLAIMS: dict[str, dict[str, Any]] = {
    "features": {"features": [10**6] * 5},
    "one feature": {"features": [1, 1, 1, 1, 10**6]},
    "classes": {"num_classes": 10**7},
    "widths": {"fc": [10**9, 10**9]},
    "one width": {"fc": [1, 10**8]},
    "channels": {"in_channels": 10**8},
    "beyond any machine": {"features": [10**12] * 5},
    "beyond any number": {"fc": [2**70, 1]},
    "nothing": {"features": [0, 0, 0, 0, -1]},
    "groups": {"norm": ["group", {"num_groups": 0}]},
    "another network": {"_target_": f"{NET}BasicUNet", "spatial_dims": 3, "features": [10**6] * 6},
    "many layers": {
        "_target_": f"{NET}UNet",
        **{"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
        **{"channels": [1, 1], "strides": [2], "num_res_units": 10**9},
    },
}
MEASURE = """
import json, resource, sys
from monai_cryo.bundle import read_model
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_model(sys.argv[1]).network()
said = []
for path in sys.argv[2:]:
    before = peak()
    try:
        read_model(path).network()
    except ValueError as error:
        said.append([path, peak() - before, str(error)])
    else:
        said.append([path, peak() - before, ""])
print(json.dumps(said))
"""


def record(**changes: Any) -> ModelRecord:
    network = partial(TwoBranchNet, **TINY)
    return ModelRecord(["a", "b"], 10.0, 16, "dark", Standardize(), changes.get("network", network))


def lie(state: dict[str, Tensor], network: dict[str, Any] | None = None, **facts: Any) -> dict[str, Tensor]:
    """Return a state dict whose record claims something else."""
    told = json.loads(bytes(state["record._extra_state"].tolist())) | facts
    if network is not None:
        base = {} if "_target_" in network else told["network"]
        told["network"] = {**base, **network}
    return {**state, "record._extra_state": torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)}


def test_memory_stays_small_whatever_a_record_claims(tmp_path: Path) -> None:
    state = record().build().state_dict()
    with torch.device("meta"):
        large = TwoBranchNet(num_classes=2, features=[4000] * 5, fc=[1, 1]).state_dict()
    # weights that have the shapes of what is claimed, each of one number
    same = {name: torch.zeros((), dtype=t.dtype).expand(t.shape) for name, t in large.items() if name in state}
    files = {name: lie(state, claims) for name, claims in CLAIMS.items()}
    files["box"] = lie(state, box=10**5)
    files["expanded"] = {**same, **lie({**state}, {"features": [4000] * 5})}
    files["record"] = {**state, "record._extra_state": torch.zeros(1, dtype=torch.uint8).expand(10**10)}
    torch.save(state, tmp_path / "fine.pt")
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pt")
        assert (tmp_path / f"{name}.pt").stat().st_size < 1 << 16
    names = [str(tmp_path / f"{name}.pt") for name in ("fine", *files)]
    done = subprocess.run([sys.executable, "-c", MEASURE, *names], check=True, capture_output=True, text=True)
    said = json.loads(done.stdout.splitlines()[-1])  # MONAI's BasicUNet prints as well
    assert len(said) == len(files)
    for path, grown_kib, message in said:
        assert message.startswith(path), path
        assert "\n" not in message
        assert len(message) < 1000
        assert grown_kib < 16 << 10, path


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_are_refused_before_they_are_built(name: str, tmp_path: Path) -> None:
    torch.save(lie(record().build().state_dict(), CLAIMS[name]), tmp_path / "model.pt")
    says = r"(it asks for (a|one)|does not take the recorded)"
    if name == "nothing":
        says = "features must hold 5 channel counts, whole numbers from 1"
    with pytest.raises(ValueError, match=rf"model\.pt: .*{says}") as error:
        read_model(tmp_path / "model.pt").network()
    assert is_refusal(error.value)


def test_the_box_is_as_large_as_templates_are(tmp_path: Path) -> None:
    state = record().build().state_dict()
    torch.save(lie(state, box=MAX_BOX), tmp_path / "model.pt")
    assert read_model(tmp_path / "model.pt").box == MAX_BOX
    torch.save(lie(state, box=MAX_BOX + 8), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=f"box must be a multiple of 8 voxels, at most {MAX_BOX}"):
        read_model(tmp_path / "model.pt")


def test_classes_are_as_many_as_the_networks(tmp_path: Path) -> None:
    torch.save(lie(record().build().state_dict(), classes=["a", "b", "c"]), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt: the network has 2 classes, the record 3: a, b, c"):
        read_model(tmp_path / "model.pt").network()


@pytest.mark.parametrize("state", [{1: torch.ones(1)}, {"a": 1}, {"a": [torch.ones(1)]}, [1], {}])
def test_a_state_dict_has_names_and_tensors(state: Any, tmp_path: Path) -> None:
    both = {**record().build().state_dict(), **state} if isinstance(state, dict) and state else state
    torch.save(both, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="expected a state dict with a record in it"):
        read_model(tmp_path / "model.pt")


@pytest.mark.parametrize("normalize", ["RandIntensity", "RandMissingWedge", "LoadSubtomogramd"])
def test_images_are_normalised_by_what_is_recorded(normalize: str, tmp_path: Path) -> None:
    target = {"_target_": f"monai_cryo.transforms.{normalize}"}
    torch.save(lie(record().build().state_dict(), normalize=[target]), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt is no model of this bundle: .*(not random|does not)"):
        read_model(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "network",
    [
        partial(TwoBranchNet, num_classes=2),  # the paper's, of 12 million weights
        partial(BasicUNet, spatial_dims=3, out_channels=2),
        partial(SwinUNETR, in_channels=1, out_channels=2, feature_size=12),
    ],
)
def test_networks_of_their_own_weights_are_built(network: Any, tmp_path: Path) -> None:
    torch.save(record(network=network).build().state_dict(), tmp_path / "model.pt")
    model = read_model(tmp_path / "model.pt")
    assert isinstance(model.network(), network.func)
    model.network(one_tensor=True)


def test_the_limit_ends_with_its_block() -> None:
    message = r"a Linear with a weight of \(3000, 3000\), but the weights are 0 tensors"
    with pytest.raises(ValueError, match=message), no_larger_than({}):
        torch.nn.Linear(3000, 3000)
    torch.nn.Linear(3000, 3000)
