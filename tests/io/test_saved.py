"""Files of torch.save: read as they were, or refused before they take more than they have."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_cryo._refusals import is_refusal
from monai_cryo.io import saved
from monai_cryo.io.saved import read_saved


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def repack(path: Path, change: Any = None, packing: int = zipfile.ZIP_STORED, comment: bytes = b"") -> Path:
    """Write an archive anew, with another pickle, packed, or with a comment behind it."""
    with zipfile.ZipFile(path) as whole:
        files = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(name, change(content) if change and name.endswith("data.pkl") else content)
        archive.comment = comment
    return path


def test_values_and_tensors_come_back(tmp_path: Path) -> None:
    shared = torch.arange(1000.0)
    content = {
        "weights": OrderedDict(a=shared, tied=shared, part=shared[3:5], empty=torch.zeros(0), one=torch.tensor(2)),
        "kinds": [torch.ones(2, dtype=kind) for kind in (torch.bfloat16, torch.uint8, torch.bool, torch.uint16)],
        "plain": (1, -2.5, "x", None, True, 2**70, {"a": [1]}, torch.Size([2])),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    found = read_saved(write(tmp_path / "a.pt", content))
    assert found["plain"] == content["plain"]
    for name, tensor in content["weights"].items():
        assert torch.equal(found["weights"][name], tensor)
    for ours, theirs in zip(content["kinds"], found["kinds"], strict=True):
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    repack(tmp_path / "a.pt")  # by another tool
    assert torch.equal(read_saved(tmp_path / "a.pt")["weights"]["a"], shared)


def refuses(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_saved(path)
    assert is_refusal(error.value)
    assert "\n" not in str(error.value)


def test_what_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    refuses(write(tmp_path / "expanded.pt", {"a": [torch.ones(1).expand(10**12)]}), "tensors claim 4000000000000 bytes")
    many = list(torch.ones(1000).expand(50, 1000))
    refuses(write(tmp_path / "shared.pt", many), "tensors claim 200000 bytes, the file has")
    packed = repack(write(tmp_path / "packed.pt", torch.zeros(1 << 20)), packing=zipfile.ZIP_DEFLATED)
    assert packed.stat().st_size < 1 << 14
    refuses(packed, "it would unpack to 419[0-9]+ bytes, the file has")


def test_only_what_rebuilds_tensors_is_run(tmp_path: Path) -> None:
    hungry = b"\x80\x02cbuiltins\nbytearray\nJ" + struct.pack("<i", 2**31 - 1) + b"\x85R."
    refuses(
        repack(write(tmp_path / "bytes.pt", [1]), lambda _: hungry), "asks for 'builtins bytearray', expected plain"
    )
    tensor = b"\x80\x02ctorch\nTensor\nJ" + struct.pack("<i", 2**31 - 1) + b"\x85R."
    refuses(repack(write(tmp_path / "tensor.pt", [1]), lambda _: tensor), "asks for 'torch Tensor'")
    refuses(write(tmp_path / "sparse.pt", torch.eye(3).to_sparse()), "asks for 'torch._utils _rebuild_sparse_tensor'")
    refuses(write(tmp_path / "module.pt", torch.nn.ReLU()), "asks for 'torch.nn.modules.activation ReLU'")


def test_other_archives_and_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(tmp_path / "whole.pt", {"a": torch.ones(3)}).read_bytes()
    torch.save({"a": 1}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    refuses(tmp_path / "old.pt", "it is no archive of torch.save")
    for n, content in enumerate((b"", b"text", b"x" + whole)):
        (tmp_path / f"{n}.pt").write_bytes(content)
        refuses(tmp_path / f"{n}.pt", "it is no archive of torch.save")
    (tmp_path / "cut.pt").write_bytes(whole[:-30])
    refuses(tmp_path / "cut.pt", r"it cannot be read \(BadZipFile\)")
    flipped = whole.replace(torch.ones(3).numpy().tobytes(), torch.zeros(3).numpy().tobytes())
    (tmp_path / "flipped.pt").write_bytes(flipped)
    assert flipped != whole
    refuses(tmp_path / "flipped.pt", "its part 'whole/data/0' is damaged: the check sum is another")
    refuses(repack(write(tmp_path / "said.pt", [1]), comment=b"x"), "no archive as torch.save writes it")
    (tmp_path / "twice.pt").write_bytes(whole)
    with zipfile.ZipFile(tmp_path / "twice.pt", "a") as archive:
        archive.writestr("whole/DATA.PKL", b"\x80\x02]." * 9)
    refuses(tmp_path / "twice.pt", "no archive as torch.save writes it")
    # a second archive before the one that Python finds, which torch's reader would not
    other = io.BytesIO()
    torch.save([1], other)
    (tmp_path / "two.pt").write_bytes(other.getvalue() + whole)
    refuses(tmp_path / "two.pt", "no archive as torch.save writes it")
    monkeypatch.setattr(saved, "_LONGEST_PICKLE", 10)
    refuses(write(tmp_path / "long.pt", list(range(9))), "its pickle has [0-9]+ bytes, expected at most 10")


def test_what_holds_itself_is_walked_once(tmp_path: Path) -> None:
    laughs: list[Any] = [torch.ones(1)]
    for _ in range(60):
        laughs = [laughs, laughs]
    assert len(read_saved(write(tmp_path / "laughs.pt", laughs))) == 2
    assert os.path.getsize(tmp_path / "laughs.pt") < 1 << 14
