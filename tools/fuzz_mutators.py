"""Damage to files, of kinds that parsers meet: bits, bytes, words, lines, and values in YAML, JSON and torch files."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import yaml
from torch import Tensor

__all__ = ["mutate"]

INTEGERS = (0, 1, 2, 3, 4, 6, 12, 16, 90, 101, 255, 1024, 2**15, 2**24, 2**31 - 1, -1, -2, -(2**31))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-30, 1e-3, 0.1, 500.0, 1e30, 3e38, float("nan"), float("inf"), float("-inf"))
WORDS = (
    *("", "0", "-1", "1e999", "nan", "inf", "-inf", "1e-400", "9" * 30, "9" * 5000, "null", "~", "true", "'", '"'),
    *("#", "_", "[", "]", "{", "}", ":", "&a", "*a", "!!python/none", "<<", "..", "../..", "/", "/dev/zero", "~x"),
    *("$1", "\0", "\n", "\r", "\t", "é", "\ud800", "\ufeff", "loop_", "data_", "_target_", ";", "@", "1@", "a/b"),
    *("(1-1000)(1-1000)", "%s" * 9, "x" * 300),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**70, 10**400, 0.1, 1e-30, 1e30, float("nan"), float("inf"), "", "x"),
    *("$1+1", "@a", "%a", "/dev/zero", "..", "a.mrc", "dark", [], {}, [1], [1, 2], [2, 1], [[[]]], {"a": 1}),
    *({"source": "a.mrc"}, {"_target_": "os.getcwd"}, ["a.mrc"] * 3, "membrane", "background", "level:0.5"),
    *("mass:1e9", "fraction:nan", "x" * 300),
)
KEYS = ("x", "source", "sources", "name", "box", "voxel_size", "image", "label", "class", 1, None, "_target_")

Seed = tuple[str, bytes]


def mutate(rng: random.Random, seeds: Sequence[Seed]) -> Seed:
    """Return a damaged copy of one of the seeds: its suffix, and its bytes."""
    suffix, content = rng.choice(seeds)
    packed = suffix.endswith(".gz") and rng.random() < 0.7
    if packed:
        content = zlib.decompress(content, 31)
    if suffix.endswith((".yaml", ".json")) and rng.random() < 0.6:
        content = _structured(rng, content, suffix)
    elif suffix == ".pt" and (kind := rng.random()) < 0.8:
        content = _saved(rng, content) if kind < 0.6 else _archived(rng, content)
    else:
        kinds = TEXT if b"\0" not in content[:1024] else BINARY
        others = [c for s, c in seeds if s == suffix]
        for _ in range(1 + min(int(rng.expovariate(0.8)), 6)):
            content = rng.choice(kinds)(rng, content, others)
    return suffix, gzip.compress(content, 1, mtime=0) if packed else content


def _flip(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    out = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if out:
            out[_place(rng, len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _cut(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    return content[: rng.randint(0, len(content))]


def _word(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    order = rng.choice("<<<>")
    integer = rng.random() < 0.5
    word = struct.pack(f"{order}i", rng.choice(INTEGERS)) if integer else struct.pack(f"{order}f", rng.choice(FLOATS))
    at = 4 * (_place(rng, max(len(content), 1)) // 4)
    return content[:at] + word + content[at + 4 :]


def _move(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    a, b = sorted(_place(rng, len(content) + 1) for _ in range(2))
    b = min(b, a + 4096)
    at = rng.randint(0, len(content))
    return rng.choice((content[:a] + content[b:], content[:at] + content[a:b] + content[at:], content + content[a:b]))


def _splice(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    at = rng.randint(0, min(len(content), len(other)))
    return content[:at] + other[at:]


def _noise(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    at, length = _place(rng, len(content) + 1), rng.randint(1, 64)
    return content[:at] + rng.randbytes(length) + content[at + rng.choice((0, length)) :]


def _token(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    places = list(re.finditer(rb"[^\s,:\[\]{}]+", content))
    if not places:
        return content
    a, b = rng.choice(places).span()
    word = rng.choice(WORDS).encode("utf-8", "surrogatepass")
    again = content[slice(*rng.choice(places).span())]
    return content[:a] + (word if rng.random() < 0.7 else again) + content[b:]


def _line(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[a]
    elif kind == 1:
        lines[a:a] = [lines[b]] * rng.choice((1, 2, 50))
    elif kind == 2:
        lines[a], lines[b] = lines[b], lines[a]
    else:
        lines[a] = lines[a].rstrip() + rng.choice((b"", b" ", b" x\n", b"\r\n", b"\n\n"))
    return b"".join(lines)


def _deep(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    at = _place(rng, len(content) + 1)
    return content[:at] + rng.choice((b"[", b"{", b"(", b"- ", b"'", b"{a: ")) * rng.choice((1, 3, 300)) + content[at:]


Mutator = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
BINARY: tuple[Mutator, ...] = (_flip, _cut, _word, _word, _word, _move, _splice, _noise)
TEXT: tuple[Mutator, ...] = (_flip, _cut, _token, _token, _token, _line, _move, _splice, _noise, _deep)


def _place(rng: random.Random, size: int) -> int:
    """Anywhere, or, as often, in the first kilobyte, where headers are."""
    return rng.randrange(min(size, 1024) if rng.random() < 0.5 else size) if size else 0


def _structured(rng: random.Random, content: bytes, suffix: str) -> bytes:
    """Replace, drop or add values of a parsed file."""
    try:
        value = yaml.safe_load(content)
    except (ValueError, yaml.YAMLError):  # damaged before
        return content
    for _ in range(rng.randint(1, 3)):
        value = _altered(rng, value)
    try:
        text = yaml.safe_dump(value) if suffix.endswith(".yaml") else json.dumps(value)
    except (ValueError, yaml.YAMLError):  # whole numbers too long to be written
        return content
    return text.encode("utf-8", "surrogatepass")


def _saved(rng: random.Random, content: bytes) -> bytes:
    """Replace, drop or add values of what ``torch.save`` wrote, and of JSON that is kept in a tensor of bytes."""
    value = torch.load(io.BytesIO(content), weights_only=True)
    for _ in range(rng.randint(1, 3)):
        value = _altered(rng, value, whole=0.03)
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _archived(rng: random.Random, content: bytes) -> bytes:
    """Damage one file of an archive, mostly the pickle, whose check sum then is right again."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as whole,
        zipfile.ZipFile(buffer, "w", rng.choice((0, 0, 0, 8))) as damaged,
    ):
        names = whole.namelist()
        chosen = names[0] if rng.random() < 0.7 else rng.choice(names)
        for name in names:
            data = whole.read(name)
            if name == chosen:
                for _ in range(rng.randint(1, 3)):
                    data = rng.choice(BINARY)(rng, data, [data])
            damaged.writestr(zipfile.ZipInfo(name), data, compress_type=damaged.compression)
    return buffer.getvalue()


def _damaged_tensor(rng: random.Random, tensor: Tensor) -> Tensor:
    if tensor.numel() > 1 << 16:  # claimed already
        return tensor
    if tensor.dtype == torch.uint8 and rng.random() < 0.8:
        text = bytes(tensor.flatten().tolist())
        if text[:1] == b"{":
            text = _structured(rng, text, ".json") if rng.random() < 0.8 else rng.choice(TEXT)(rng, text, [text])
            return torch.tensor(list(text), dtype=torch.uint8)
    some = tensor.flatten()[:1] if tensor.numel() else torch.zeros(1, dtype=tensor.dtype)
    value = rng.choice((0, 1, -1, 2**31, float("nan"), float("inf")))
    kinds: tuple[Callable[[], Tensor], ...] = (
        lambda: some.expand(10**9),  # claims what it has not
        lambda: some.expand(10**3, *tensor.shape),
        lambda: some.reshape(()),
        lambda: tensor[None],
        lambda: tensor[:0] if tensor.ndim else tensor.reshape(1)[:0],
        lambda: tensor.to(rng.choice((torch.float64, torch.float16, torch.complex64, torch.int64, torch.bool))),
        lambda: torch.full(tensor.shape, float(value)),
    )
    return rng.choice(kinds)()


def _altered(rng: random.Random, value: Any, whole: float = 0.15) -> Any:
    if isinstance(value, Tensor) and rng.random() > whole:
        return _damaged_tensor(rng, value)
    if not isinstance(value, list | dict) or not value or rng.random() < whole:
        return rng.choice(VALUES)
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    # among weights, those of a record come as often as in small files
    named = [key for key in keys if isinstance(key, str) and key.startswith("record")]
    key, copy = rng.choice(named if named and rng.random() < 0.5 else keys), value.copy()
    kind = rng.random()
    if kind < whole * 2 / 3:
        del copy[key]
    elif kind < whole * 4 / 3 and isinstance(copy, dict):
        copy[rng.choice(("x", "source", "sources", "name", "box", "voxel_size", 1, None, "_target_"))] = rng.choice(
            VALUES
        )
    else:
        copy[key] = _altered(rng, value[key], whole)
    return copy
