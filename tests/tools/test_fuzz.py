"""The fuzzer: a small part of its cases on every run of the tests, and proof that it sees what it looks for."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz as program
import pytest
from fuzz_mutators import mutate
from fuzz_readers import READERS, Reader

import monai_cryo.io.mrc as inside
from monai_cryo._refusals import is_refusal

CASES = {"templates": 25, "model": 25, "checkpoint": 40}


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    count = CASES.get(name, 60)
    report = program.fuzz(name, READERS[name], range(count), 11, tmp_path / "found", seconds=60)
    found = "\n".join(path.read_text() for path in tmp_path.rglob("found.txt"))
    assert not report.findings, found
    assert report.cases == count == report.read + report.refused
    assert report.refused


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(name: str, tmp_path: Path) -> None:
    whole = 0
    for suffix, content in READERS[name].seeds(tmp_path):
        path = tmp_path / (suffix if "." in suffix[1:] and suffix[0] != "." else f"case{suffix}")
        path.write_bytes(content)
        READERS[name].read(path)
        whole += 1
    assert whole


def test_cases_are_functions_of_their_numbers(tmp_path: Path) -> None:
    seeds = READERS["picks"].seeds(tmp_path)
    first, again, other = (mutate(program.random.Random(f"0 picks {n}"), seeds) for n in (5, 5, 6))
    assert first == again != other


def _fails(path: Path) -> None:
    raise TypeError("a defect")


def _library_refuses(path: Path) -> None:
    int("x")


def _hangs(path: Path) -> None:
    while path:
        time.sleep(0.01)


def _reads(path: Path) -> None:
    pass


def _after_the_first(read: Callable[[Path], None]) -> Callable[[Path], None]:
    """Leave the whole file, which goes first, alone."""
    calls: list[Path] = []

    def guarded(path: Path) -> None:
        calls.append(path)
        if len(calls) > 1:
            read(path)

    return guarded


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (_fails, "TypeError at test_fuzz.py:_fails"),
        (_library_refuses, "ValueError at test_fuzz.py:_library_refuses"),
        (_hangs, "Hang at fuzz.py:_hang"),
    ],
)
def test_what_is_no_refusal_is_found_and_kept(tmp_path: Path, read: Callable[[Path], None], kind: str) -> None:
    reader = Reader(lambda folder: [(".txt", b"some text 1.0\n")], _after_the_first(read))
    report = program.fuzz("planted", reader, range(3, 4), 0, tmp_path, seconds=0.2)
    assert list(report.findings) == [kind]
    assert kind in (tmp_path / "planted" / "0_3" / "found.txt").read_text()
    assert (tmp_path / "planted" / "0_3" / "case.txt").is_file()


def test_memory_beyond_the_bound_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([0, program.MEMORY, program.MEMORY, 2 * program.MEMORY + 1])
    monkeypatch.setattr(program, "_peak", lambda: next(peaks))
    report = program.fuzz("planted", Reader(lambda folder: [(".txt", b"x")], _reads), range(2), 0, tmp_path)
    assert report.findings == {"memory": 1}
    assert report.read == 2


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Yield the package's logger, which the program silences, and give it its voice back."""
    logger = logging.getLogger("monai_cryo")
    yield logger
    logger.setLevel(logging.NOTSET)


@pytest.mark.usefixtures("logger")
def test_the_program_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inside.read_mrc is READERS["mrc"].read
    assert program.main(["--cases", "5", "--reader", "picks", "--keep", str(tmp_path)]) == 0
    assert '"reader": "picks", "seed": 0, "cases": 5' in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "empty"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_or_empty_is_refused_by_every_reader(name: str, kind: str, tmp_path: Path) -> None:
    suffix = READERS[name].seeds(tmp_path)[0][0]
    path = tmp_path / (f"none{suffix}" if suffix.startswith(".") else suffix)
    path.unlink(missing_ok=True)
    if kind != "nothing":
        {"folder": Path.mkdir, "pipe": os.mkfifo, "empty": Path.touch}[kind](path)
    if (name, kind) == ("record", "nothing"):  # of a tomogram that was not read yet
        assert READERS[name].read(path) is None
        return
    with pytest.raises(Exception, match=path.name) as error:
        READERS[name].read(path)
    assert is_refusal(error.value)
    assert "\n" not in str(error.value)
