"""Many tomograms read one after another: what is finished stays, what is broken is listed, nothing is half written."""

from __future__ import annotations

import csv
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monai_cryo._refusals import is_refusal
from monai_cryo.inferers.picks import MIN_SCORE
from monai_cryo.inferers.records import TomogramRecord, read_record, write_record
from monai_cryo.inferers.sharing import my_share, process_rank
from monai_cryo.inferers.tomograms import TomogramReader, TomogramReading
from monai_cryo.io.atomic import replacing
from monai_cryo.io.mrc import SUFFIXES
from monai_cryo.io.tomogram import Tomogram, open_tomogram
from monai_cryo.io.tomogram_list import ListedTomogram, read_tomogram_list

__all__ = ["TomogramWorkflow", "list_tomograms", "listed_tomograms", "tomogram_name"]

logger = logging.getLogger(__name__)


def list_tomograms(inputs: Sequence[str | None]) -> list[Path]:
    """List the MRC files that files, folders, globs and RELION 5's ``tomograms.star`` name, sorted, each once.

    Raises
    ------
    FileNotFoundError
        If one of them names nothing, or a listed file is not there.
    ValueError
        If two files have one name, which is what their results are called by.
    """
    found: list[Path] = []
    for text in inputs:
        if not text:
            raise FileNotFoundError("no tomogram named, expected an MRC file, a folder of them, or a glob")
        path = Path(text)
        if path.is_dir():
            part = [f for f in path.iterdir() if f.name.lower().removesuffix(".gz").endswith(SUFFIXES) and f.is_file()]
        elif path.suffix.lower() == ".star":
            part = _reconstructed(path)
        elif path.is_file():
            part = [path]
        else:
            anchor = Path(path.anchor)
            part = [f for f in anchor.glob(str(path.relative_to(anchor))) if f.is_file()]
        if not part:
            raise FileNotFoundError(f"{text}: no such file, no folder with {' '.join(SUFFIXES)}, and no glob of any")
        found += part
    files = sorted({file.resolve(): file for file in found}.values())
    names: dict[str, Path] = {}
    for file in files:
        other = names.setdefault(tomogram_name(file), file)
        if other != file:
            raise ValueError(f"{other} and {file} have one name: read them in two calls, each with its own output")
    return files


def listed_tomograms(inputs: Sequence[str | None]) -> dict[str, ListedTomogram]:
    """Return what the ``tomograms.star`` among the inputs say of their tomograms, by `tomogram_name`."""
    lists = [read_tomogram_list(text) for text in inputs if text and text.lower().endswith(".star")]
    return {tomogram_name(t.path): t for found in lists for t in found.values() if t.path is not None}


def _reconstructed(file: Path) -> list[Path]:
    listed = read_tomogram_list(file)
    paths = [entry.path for entry in listed.values() if entry.path is not None]
    if not paths:
        raise ValueError(f"{file}: none of the {len(listed)} tomograms listed is reconstructed")
    gone = [path for path in paths if not path.is_file()]
    if gone:
        raise FileNotFoundError(f"{file}: {len(gone)} of {len(paths)} tomograms are missing, the first is {gone[0]}")
    return paths


def tomogram_name(path: Path) -> str:
    """Return a file's name without the suffixes of the MRC family."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return next((name[: -len(s)] for s in SUFFIXES if name.lower().endswith(s)), name)


class TomogramWorkflow:
    """Read tomograms into a folder: ``<name>_labels.mrc``, ``<name>.png``, and ``<name>.json`` once all is there.

    A tomogram whose JSON is there is finished and skipped. What is being made lies in ``.<name>.part``, which the next
    run clears away. A list is dealt to the processes of torchrun or of a SLURM array (`my_share`).

    Parameters
    ----------
    reader
        The model and how it reads.
    output_dir
        Where to; made if it is not there.
    pick
        List the particles, too: of the classes that the reader has diameters of.
    min_score
        Of picks, 0..1.
    save_scores
        Write each class's map as ``<name>_<class>.mrc``.
    overwrite
        Read finished ones again, and those that were read with other settings.
    picture
        Draw ``<name>.png``.
    listed
        What RELION 5 says of the tomograms, by name (`listed_tomograms`): their voxel sizes, if none is given, are
        believed rather than the headers', and a file of another size than listed is refused.
    """

    def __init__(
        self,
        reader: TomogramReader,
        output_dir: str,
        *,
        pick: bool = True,
        min_score: float = MIN_SCORE,
        save_scores: bool = False,
        overwrite: bool = False,
        picture: bool = True,
        listed: Mapping[str, ListedTomogram] | None = None,
    ) -> None:
        self.reader, self.output_dir = reader, Path(output_dir)
        self.pick = pick
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score must be 0 to 1, got {min_score}")
        self.min_score, self.save_scores = min_score, save_scores
        self.overwrite, self.picture = overwrite, picture
        self.listed = dict(listed or {})

    def run(self, paths: Sequence[Path], voxel_size: float | None = None) -> list[TomogramRecord]:
        """Read this process's share of the tomograms.

        Parameters
        ----------
        paths
            What `list_tomograms` returned.
        voxel_size
            Å, in place of the headers'.

        Returns
        -------
        list
            The records of all of `paths` that are finished, by whichever process.

        Raises
        ------
        ValueError
            If a tomogram was read with other settings before; at the end, if one was refused: what and why stands in
            ``refused.csv``.
        """
        self.output_dir.mkdir(parents=True, exist_ok=True)
        mine = [path for path in my_share(paths) if not self._finished(path, voxel_size)]
        refused: list[tuple[Path, str]] = []
        # what a header tells is told before anything long begins; a compressed file is only opened once
        todo = []
        for path in mine:
            reason = "" if path.suffix.lower() == ".gz" else _refusal(path, self._open, voxel_size)
            if reason:
                refused.append((path, reason))
            else:
                todo.append(path)
        for number, path in enumerate(todo, 1):
            if reason := _refusal(path, self._one, voxel_size, f"{number}/{len(todo)}"):
                refused.append((path, reason))
        self._list_refused(refused)
        if refused:
            raise ValueError(f"{len(refused)} of {len(mine)} tomograms refused: {refused[0][1]}")
        return self.records(paths)

    def records(self, paths: Sequence[Path]) -> list[TomogramRecord]:
        """Return the records of the tomograms that are finished."""
        found = (read_record(self.output_dir / f"{tomogram_name(path)}.json") for path in paths)
        return [record for record in found if record is not None]

    def _open(self, path: Path, voxel_size: float | None) -> Tomogram:
        tomogram = open_tomogram(path, self._voxel_size(path, voxel_size))
        if entry := self.listed.get(tomogram_name(path)):
            entry.check(tomogram.data.shape, tomogram.voxel_size)
        model, shape = self.reader.model, tomogram.data.shape
        if max(shape) * tomogram.voxel_size <= model.voxel_size * model.box:
            raise ValueError(
                f"{path}: {' x '.join(map(str, shape))} voxels of {tomogram.voxel_size:g} Å fit into the model's box "
                f"of {model.voxel_size * model.box:.0f} Å: this is a subtomogram, read it with `monai_cryo classify`"
            )
        return tomogram

    def _voxel_size(self, path: Path, voxel_size: float | None) -> float | None:
        """Å, what is believed in place of a header."""
        entry = self.listed.get(tomogram_name(path))
        return voxel_size or (entry.voxel_size if entry else None)

    def _one(self, path: Path, voxel_size: float | None, count: str) -> None:
        began, name = time.monotonic(), tomogram_name(path)
        part = self.output_dir / f".{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        (part / "scratch").mkdir(parents=True)
        try:
            tomogram = self._open(path, voxel_size)
            with tqdm(desc=f"{count} {name}", unit="window", ncols=100, disable=None) as bar:

                def show(done: int, total: int) -> None:
                    bar.total = total
                    bar.update(done - bar.n)

                reading = self.reader.read(tomogram, part / "scratch", show)
            picks = reading.picks(self.reader.diameters_a, min_score=self.min_score) if self.pick else None
            settings = self._settings(path, voxel_size)
            record = TomogramRecord(name, path.stat().st_size, settings, reading.covered(), picks)
            self._write(part, name, reading, record)
            del reading, tomogram
            shutil.rmtree(part / "scratch")
            for file in sorted(part.iterdir()):
                file.replace(self.output_dir / file.name)
            write_record(self.output_dir / f"{name}.json", record)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        print(f"{record.summary()}  {time.monotonic() - began:.0f} s", flush=True)

    def _settings(self, path: Path, voxel_size: float | None) -> dict[str, Any]:
        """All that a record depends on, plain values."""
        size = self._voxel_size(path, voxel_size)
        believed = {} if size is None else {"voxel_size": size}
        return {**self.reader.settings, **believed, "picking": {"min_score": self.min_score} if self.pick else None}

    def _write(self, folder: Path, name: str, reading: TomogramReading, record: TomogramRecord) -> None:
        from monai_cryo.visualize.tomogram import draw_tomogram

        reading.write_labels(folder / f"{name}_labels.mrc")
        if self.save_scores:
            for k, class_name in enumerate(reading.classes):
                reading.write_score(folder / f"{name}_{class_name}.mrc", k)
        if self.picture:
            figure = draw_tomogram(reading, record.picks, self.reader.diameters_a, title=name)
            figure.savefig(folder / f"{name}.png", dpi=110)

    def _finished(self, path: Path, voxel_size: float | None) -> bool:
        """Whether all that is asked of a tomogram is there."""
        name = tomogram_name(path)
        record = None if self.overwrite else read_record(self.output_dir / f"{name}.json")
        if record is None:
            return False
        old, new = dict(record.settings), self._settings(path, voxel_size)
        picked, wanted = old.pop("picking", None), new.pop("picking")
        if old != new or record.size_bytes != path.stat().st_size:
            changed = [key for key in {**new, **old} if old.get(key) != new.get(key)] or ["the file itself"]
            raise ValueError(
                f"{self.output_dir / name}.json was made with another {', '.join(changed)}: "
                "pass --overwrite, or another --output"
            )
        maps = [self.output_dir / f"{name}_{c}.mrc" for c in self.reader.model.classes] if self.save_scores else []
        return wanted in (None, picked) and all(file.is_file() for file in maps)

    def _list_refused(self, refused: Sequence[tuple[Path, str]]) -> None:
        rank, count = process_rank()
        target = self.output_dir / ("refused.csv" if count == 1 else f"refused_{rank}.csv")
        target.unlink(missing_ok=True)
        if refused:
            with replacing(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerows([("file", "reason"), *refused])


def _refusal(path: Path, action: Callable[..., Any], *arguments: Any) -> str:
    """Do something with a file; say and return why it was refused, or return ``""``. Defects are raised."""
    try:
        action(path, *arguments)
    except (ValueError, OSError) as error:
        if not is_refusal(error):
            raise
        reason = " ".join(str(error).split())
        reason = reason if str(path) in reason else f"{path}: {reason}"
        logger.error("refused: %s", reason)
        return reason
    return ""
