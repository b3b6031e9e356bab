"""Feed damaged files to every reader: ``python tools/fuzz.py --cases 100000 --seed 0 --reader mrc``.

A case reads its file or refuses it (`monai_cryo._refusals.is_refusal`). Anything else (another error, a crash, a hang,
memory beyond a bound) is a finding: the file is kept, beside the traceback, under the reader's name and case number.
Cases are functions of (seed, reader, number): ``--first N --cases 1`` repeats one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_mutators import mutate
from fuzz_readers import READERS, Reader

from monai_cryo._refusals import is_refusal

SECONDS = 10.0
MEMORY = 256 << 20
KEPT = 3
"""Files kept of each kind of finding."""


class Hang(BaseException):
    """A case took too long; no Exception, so that no reader takes it for a broken file."""


@dataclass
class Report:
    """What became of the cases of one reader."""

    reader: str
    seed: int
    cases: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    findings: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Return one line of JSON."""
        return json.dumps({**vars(self), "seconds": round(self.seconds, 1)}, ensure_ascii=False)


def fuzz(
    name: str, reader: Reader, cases: range, seed: int, keep: Path, *, seconds: float = SECONDS, killing: bool = False
) -> Report:
    """Run cases of one reader in this process.

    Parameters
    ----------
    name
        Of the reader; part of every case's seed.
    reader
        What reads.
    cases
        Their numbers.
    seed
        Of all cases.
    keep
        Folder for what is found; made when there is something.
    seconds
        A case may take.
    killing
        End the process, by SIGPROF, where a hang cannot be interrupted otherwise.
    """
    report = Report(name, seed)
    started = time.monotonic()
    previous = signal.signal(signal.SIGALRM, _hang)
    mortal = signal.signal(signal.SIGPROF, signal.SIG_DFL if killing else signal.SIG_IGN)
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            seeds = reader.seeds(Path(folder))
            # what one reading needs the first time, imports and all, is no case's affair
            for suffix, content in seeds:
                _read(reader, _write(Path(folder), suffix, content), 10 * seconds)
            for number in cases:
                _case(reader, number, seeds, Path(folder), report, keep, seconds)
    finally:
        signal.signal(signal.SIGALRM, previous)
        signal.signal(signal.SIGPROF, mortal)
    report.seconds = time.monotonic() - started
    return report


def _case(
    reader: Reader,
    number: int,
    seeds: Sequence[tuple[str, bytes]],
    folder: Path,
    report: Report,
    keep: Path,
    seconds: float,
) -> None:
    rng = random.Random(f"{report.seed} {report.reader} {number}")
    suffix, content = mutate(rng, seeds)
    path = _write(folder, suffix, content)
    before = _peak()
    report.cases += 1
    error = _read(reader, path, seconds)
    kind = "memory" if _peak() - before > MEMORY else ""
    if error is None:
        report.read += 1
    elif is_refusal(error):
        report.refused += 1
        if "\n" in str(error):
            kind = "refusal of several lines"
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} at {Path(last.filename).name}:{last.name}"
    if kind:
        report.findings[kind] += 1
        if report.findings[kind] <= KEPT:
            target = keep / report.reader / f"{report.seed}_{number}"
            target.mkdir(parents=True, exist_ok=True)
            (target / path.name).write_bytes(content)
            said = "".join(traceback.format_exception(error)) if error is not None else ""
            (target / "found.txt").write_text(f"{kind}\n{said}")


def _read(reader: Reader, path: Path, seconds: float) -> BaseException | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        signal.setitimer(signal.ITIMER_PROF, 3 * seconds)
        try:
            reader.read(path)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def _write(folder: Path, suffix: str, content: bytes) -> Path:
    path = folder / (suffix if "." in suffix.lstrip(".") else f"case{suffix}")
    path.write_bytes(content)
    return path


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _hang(number: int, frame: Any) -> None:
    raise Hang("too slow")


def survive(name: str, cases: range, seed: int, keep: Path, batch: int = 500) -> Report:
    """Run cases in child processes, so that a crash is a finding and not the end."""
    total = Report(name, seed)
    starts: list[range] = [cases[i : i + batch] for i in range(0, len(cases), batch)]
    for part in starts:
        _merge(total, part, seed, keep)
    return total


def _merge(total: Report, part: range, seed: int, keep: Path) -> None:
    out, into = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(out)
            report = fuzz(total.reader, READERS[total.reader], part, seed, keep, killing=True)
            os.write(into, str(report).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(into)
    with os.fdopen(out) as stream:
        text = stream.read()
    status = os.waitpid(child, 0)[1]
    if text:
        found: dict[str, Any] = json.loads(text)
        for key in ("cases", "read", "refused", "seconds"):
            setattr(total, key, getattr(total, key) + found[key])
        total.findings.update(found["findings"])
    elif os.WIFEXITED(status):
        raise SystemExit(f"{total.reader}: the fuzzer itself broke")
    elif len(part) == 1:
        total.cases += 1
        total.findings[f"killed by {signal.Signals(os.WTERMSIG(status)).name}"] += 1
        print(f"{total.reader}: case {part[0]} of seed {seed} ends the process", file=sys.stderr)
    else:  # which one it was
        middle = len(part) // 2
        _merge(total, part[:middle], seed, keep)
        _merge(total, part[middle:], seed, keep)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 1 if something was found."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1000, help="of each reader (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all cases (default: %(default)s)")
    parser.add_argument("--reader", choices=READERS, action="append", help="may be repeated (default: all)")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="folder for findings (%(default)s)")
    options = parser.parse_args(arguments)
    logging.getLogger("monai_cryo").setLevel(logging.ERROR)  # a warning a case says nothing
    chosen: Callable[[str], Report] = lambda name: survive(  # noqa: E731
        name, range(options.first, options.first + options.cases), options.seed, options.keep
    )
    reports = []
    for name in options.reader or READERS:
        reports.append(chosen(name))
        print(reports[-1], flush=True)
    return int(any(report.findings for report in reports))


if __name__ == "__main__":
    sys.exit(main())
