"""Many tomograms read one after another: what is finished stays, what is broken is listed, nothing is half written."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_cryo._defaults import MIN_SCORE
from monai_cryo._progress import progress_bar
from monai_cryo._refusals import is_refusal
from monai_cryo.inferers.records import TomogramRecord, read_record, write_record
from monai_cryo.inferers.sharing import my_share, process_rank, wait_for_others
from monai_cryo.inferers.tomograms import BACKGROUND, TomogramReader, TomogramReading
from monai_cryo.io.atomic import csv_text, flush_to_disk, write_text
from monai_cryo.io.digest import file_digest
from monai_cryo.io.folder import working_folder
from monai_cryo.io.mrc import tomogram_name
from monai_cryo.io.tomogram import Tomogram, open_tomogram, tomogram_header
from monai_cryo.io.tomogram_list import ListedTomogram
from monai_cryo.visualize.tomogram import draw_tomogram

__all__ = ["TomogramWorkflow"]

logger = logging.getLogger(__name__)


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
            If a tomogram was read with other settings before, or is to be read again without picks though it has some;
            at the end, if one was refused: what and why stands in ``refused.csv``.
        """
        self.output_dir.mkdir(parents=True, exist_ok=True)
        inputs = self._inputs(paths)
        if self.overwrite and not self.pick:
            self._check_unpicked(inputs)
        mine = my_share(inputs)
        if len(mine) < len(inputs):
            rank, count = process_rank()
            print(f"{len(mine)} of {len(inputs)} tomograms are for this process, number {rank} of {count}", flush=True)
        mine = [path for path in mine if not self._finished(path, voxel_size)]
        refused: list[tuple[Path, str]] = []
        # what a header tells is told before anything long begins
        todo = []
        for path in mine:
            if reason := _refusal(path, self._check, voxel_size):
                refused.append((path, reason))
            else:
                todo.append(path)
        if self.overwrite:  # killed on the way, the same call without it goes on
            for path in todo:
                (self.output_dir / f"{tomogram_name(path)}.json").unlink(missing_ok=True)
        for number, path in enumerate(todo, 1):
            if reason := _refusal(path, self._one, voxel_size, f"{number}/{len(todo)}"):
                refused.append((path, reason))
        self._list_refused(refused)
        wait_for_others()
        if refused:
            raise ValueError(f"{len(refused)} of {len(mine)} tomograms refused: {refused[0][1]}")
        return self.records(paths, voxel_size)

    def records(self, paths: Sequence[Path], voxel_size: float | None = None) -> list[TomogramRecord]:
        """Return the records of the tomograms that are finished, read as this workflow reads them."""
        found = []
        for path in self._inputs(paths):
            record = read_record(self.output_dir / f"{tomogram_name(path)}.json")
            if record is not None and not self._changed(record, path, voxel_size):
                found.append(record)
        return found

    def others(self, paths: Sequence[Path]) -> list[TomogramRecord]:
        """Return the records of other calls' tomograms in the folder that were read as this workflow reads."""
        named = {tomogram_name(path) for path in paths}
        found = []
        ours = {**self._settings(Path(), None), "voxel_size": None}  # a file's own
        for file in sorted(self.output_dir.glob("*.json")):
            try:
                record = read_record(file) if file.stem not in named else None
            except ValueError:  # another program's, or another verb's
                continue
            if record is not None and record.name == file.stem and {**record.settings, "voxel_size": None} == ours:
                found.append(record)
        return found

    def _check_unpicked(self, paths: Sequence[Path]) -> None:
        """Refuse to read again without picking what has picks: lists in the folder would tell of what is gone."""
        for path in paths:
            record = read_record(self.output_dir / f"{tomogram_name(path)}.json")
            if record is not None and record.picks is not None:
                raise ValueError(
                    f"{self.output_dir / record.name}.json has picks, which lists beside it name: read it again with "
                    "`monai_cryo pick --overwrite`, or into another folder"
                )

    def _inputs(self, paths: Sequence[Path]) -> list[Path]:
        """Leave out what a run has written beside its own tomograms."""
        results = {tomogram_name(file) for path in paths for file in self._volumes(tomogram_name(path))}
        home = self.output_dir.resolve()
        return [path for path in paths if path.resolve().parent != home or tomogram_name(path) not in results]

    def _open(self, path: Path, voxel_size: float | None) -> Tomogram:
        self._check(path, voxel_size)
        return open_tomogram(path, self._voxel_size(path, voxel_size))

    def _check(self, path: Path, voxel_size: float | None) -> None:
        """Refuse what a tomogram's header tells against it."""
        header, size = tomogram_header(path, self._voxel_size(path, voxel_size))
        shape = [header.shape[axis] for axis in header.order]
        if entry := self.listed.get(tomogram_name(path)):
            entry.check(shape, size)
        model = self.reader.model
        if max(shape) * size <= model.voxel_size * model.box:
            raise ValueError(
                f"{path}: {' x '.join(map(str, shape))} voxels of {size:g} Å fit into the model's box "
                f"of {model.voxel_size * model.box:.0f} Å: this is a subtomogram, read it with `monai_cryo classify`"
            )

    def _voxel_size(self, path: Path, voxel_size: float | None) -> float | None:
        """Å, what is believed in place of a header."""
        entry = self.listed.get(tomogram_name(path))
        return voxel_size or (entry.voxel_size if entry else None)

    def _one(self, path: Path, voxel_size: float | None, count: str) -> None:
        began, name = time.monotonic(), tomogram_name(path)
        with working_folder(self.output_dir / f".{name}.part") as part:
            scratch, results = part / "scratch", part / "results"
            if self._finished(path, voxel_size):
                print(f"{count} {name}: finished by another process", flush=True)
                return
            scratch.mkdir()
            results.mkdir()
            digest, written = file_digest(path), path.stat().st_mtime_ns
            tomogram = self._open(path, voxel_size)
            with progress_bar(desc=f"{count} {name}", unit="window") as bar:

                def show(done: int, total: int) -> None:
                    bar.total = total
                    bar.update(done - bar.n)

                reading = self.reader.read(tomogram, scratch, show)
            picks = reading.picks(self.reader.diameters_a, min_score=self.min_score) if self.pick else None
            if (file_digest(path), path.stat().st_mtime_ns) != (digest, written):
                raise ValueError(f"{path}: changed while it was read")
            settings, entry = self._settings(path, voxel_size), self.listed.get(name)
            record = TomogramRecord(name, digest, settings, reading.covered(), picks, entry)
            self._write(results, name, reading, record)
            del reading, tomogram
            shutil.rmtree(scratch)
            # what was there is another reading's; without its record it counts as not finished
            for file in (Path(f"{name}.json"), Path(f"{name}.png"), *self._volumes(name)):
                (self.output_dir / file).unlink(missing_ok=True)
            for file in sorted(results.iterdir()):
                flush_to_disk(file)
                file.replace(self.output_dir / file.name)
            write_record(self.output_dir / f"{name}.json", record)
        print(f"{record.summary()}  {time.monotonic() - began:.0f} s", flush=True)

    def _volumes(self, name: str) -> list[Path]:
        """Name the volumes that a tomogram may become: its labels, and each class's map."""
        return [Path(f"{name}_{kind}.mrc") for kind in ("labels", *self._mapped)]

    @property
    def _mapped(self) -> list[str]:
        """Classes that have a map: the background's is 0 everywhere."""
        return [kind for kind in self.reader.model.classes if kind != BACKGROUND]

    def _settings(self, path: Path, voxel_size: float | None) -> dict[str, Any]:
        """All that a record depends on, plain values."""
        size = self._voxel_size(path, voxel_size)
        believed = {} if size is None else {"voxel_size": size}
        return {**self.reader.settings, **believed, "picking": {"min_score": self.min_score} if self.pick else None}

    def _write(self, folder: Path, name: str, reading: TomogramReading, record: TomogramRecord) -> None:
        labels, *scores = self._volumes(name)
        reading.write_labels(folder / labels)
        if self.save_scores:
            for kind, file in zip(self._mapped, scores, strict=True):
                reading.write_score(folder / file, self.reader.model.classes.index(kind))
        if self.picture:
            figure = draw_tomogram(reading, record.picks, self.reader.diameters_a, title=name)
            figure.savefig(folder / f"{name}.png", dpi=110)

    def _finished(self, path: Path, voxel_size: float | None) -> bool:
        """Whether all that is asked of a tomogram is there."""
        name = tomogram_name(path)
        record = None if self.overwrite else read_record(self.output_dir / f"{name}.json")
        if record is None:
            return False
        changed = self._changed(record, path, voxel_size)
        if set(changed) - {"picking"}:
            raise ValueError(
                f"{self.output_dir / name}.json was made with another {', '.join(changed)}: "
                "pass --overwrite, or another --output"
            )
        asked = self._volumes(name)[: None if self.save_scores else 1]
        asked += [Path(f"{name}.png")] if self.picture else []
        return not changed and all((self.output_dir / file).is_file() for file in asked)

    def _changed(self, record: TomogramRecord, path: Path, voxel_size: float | None) -> list[str]:
        """Name what a record was made with otherwise; its picks may stand where none are asked for."""
        old, new = record.settings, self._settings(path, voxel_size)
        if new["picking"] is None:
            new = new | {"picking": old.get("picking")}
        changed = [key for key in {**new, **old} if old.get(key) != new.get(key)]
        return changed + (["file"] if record.digest != file_digest(path) else [])

    def _list_refused(self, refused: Sequence[tuple[Path, str]]) -> None:
        rank, count = process_rank()
        target = self.output_dir / ("refused.csv" if count == 1 else f"refused_{rank}.csv")
        of_more = self.output_dir.glob("refused_[0-9]*.csv") if count == 1 else []
        for old in (target, *of_more):
            old.unlink(missing_ok=True)
        if refused:
            write_text(target, csv_text([("file", "reason"), *refused]))


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
