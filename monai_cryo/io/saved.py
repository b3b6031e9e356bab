"""Files of ``torch.save``: plain values and tensors alone, in no more memory than a small multiple of the file."""

from __future__ import annotations

import os
import pickletools
import zipfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["read_saved"]

#: what rebuilds tensors, dicts and shapes; torch's own list also has what takes memory for a number, as bytearray does
_REBUILDS = (
    "collections OrderedDict",
    "torch Size",
    "torch.storage UntypedStorage",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
)
_LONGEST_PICKLE = 1 << 22  # bytes; every one can become an object
_SHARED = 2  # tied weights are saved once


def read_saved(path: str | os.PathLike[str]) -> Any:
    """Read what ``torch.save`` wrote, on the CPU; nothing in it is run.

    Raises
    ------
    ValueError
        If it cannot be read, holds anything but plain values and tensors, or claims more than the file has; the message
        says so of "it", without the name of the file.
    """
    try:
        refused = _refused(path)
        content = None if refused else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives and pickles raise errors of many kinds
        raise ValueError(f"it cannot be read ({type(error).__name__})") from error
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(content))
    size = os.path.getsize(path)
    if claimed > _SHARED * size:
        refused = f"its tensors claim {claimed} bytes, the file has {size}"
    if refused:
        raise ValueError(refused)
    return content


def _refused(path: str | os.PathLike[str]) -> str:
    """Say what stands against loading a file; nothing if all is well."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\3\4":
            return "it is no archive of torch.save"
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        unpacked, size = sum(entry.file_size for entry in entries), os.path.getsize(path)
        if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            return f"it would unpack to {unpacked} bytes, the file has {size}"
        # torch's reader must see the very archive that was looked at here
        pickles = [entry for entry in entries if entry.filename.lower().endswith("/data.pkl")]
        if len(pickles) != 1 or archive.comment or min(entry.header_offset for entry in entries):
            return "it is no archive as torch.save writes it"
        if pickles[0].file_size > _LONGEST_PICKLE:
            return f"its pickle has {pickles[0].file_size} bytes, expected at most {_LONGEST_PICKLE}"
        for opcode, argument, _ in pickletools.genops(archive.read(pickles[0])):
            if "GLOBAL" in opcode.name and not _rebuilds(argument):
                return f"it asks for {argument!r:.100}, expected plain values and tensors"
        if damaged := archive.testzip():  # torch's reader takes flipped bits for weights
            return f"its part {damaged!r:.100} is damaged: the check sum is another"
    return ""


def _rebuilds(name: Any) -> bool:
    module, _, word = str(name).partition(" ")
    kind = module == "torch" and (word.endswith("Storage") or isinstance(getattr(torch, word, None), torch.dtype))
    return kind or name in _REBUILDS


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield every tensor once, however often lists and mappings hold each other."""
    seen, left = set(), [content]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            left += value
