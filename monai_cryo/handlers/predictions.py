"""Predictions for unlabelled images, as a table that grows while they are made."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_cryo._described import Described
from monai_cryo.io.atomic import csv_text, write_text
from monai_cryo.io.folder import hold_folder

__all__ = ["PredictionsWriter"]

_REFUSED = ["file", "reason"]
_FILES = "files"


class PredictionsWriter(Described):
    """Write ``predictions.csv`` (``file,class,p_<class>...``) row by row, and what was refused to ``refused.csv``.

    Parameters
    ----------
    classes
        Class names.
    output_dir
        Where to.
    resume
        Go on with the table that is there, instead of beginning anew: `done` says which files need no second look.
    settings
        What the predictions depend on, plain values; kept in ``settings.json``.
    files
        A digest of each image, by its name in the table; kept there, too.

    Raises
    ------
    ValueError
        If the table to go on with cannot be read, is of other classes, or was made with other `settings` of those
        names, or of another file of a name in `files`. When it begins: if another process is at work in the folder.
    """

    def __init__(
        self,
        classes: Sequence[str],
        output_dir: str,
        resume: bool = False,
        settings: Mapping[str, Any] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.classes, self.output_dir, self.resume = list(classes), Path(output_dir), resume
        self.path, self.refused_path = self.output_dir / "predictions.csv", self.output_dir / "refused.csv"
        self.settings, self._settings_path = dict(settings or {}), self.output_dir / "settings.json"
        self.files = dict(files or {})
        self.refused: list[list[str]] = []
        self.done: dict[str, tuple[str, list[str]]] = {}
        if resume and self.path.is_file():
            self.done = self._read()
            before, files = self._earlier()
            self.settings, self.files = before | self.settings, files | self.files

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose postprocessing ends in :class:`monai_cryo.data.DecodePredictiond`'s entries."""
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)

    def begin(self, engine: Engine | None = None) -> None:
        """Begin the table, or cut the one to go on with behind its last whole row."""
        hold_folder(self.output_dir)
        self.refused.clear()
        self.refused_path.unlink(missing_ok=True)
        if not self.resume:
            self.done.clear()
        write_text(self._settings_path, json.dumps(self.settings | {_FILES: self.files}) + "\n")
        rows = [["file", "class", *(f"p_{name}" for name in self.classes)]]
        rows += [[file, kind, *numbers] for file, (kind, numbers) in self.done.items()]
        write_text(self.path, csv_text(rows))

    def collect(self, engine: Engine) -> None:
        """Write the decoded predictions of this batch."""
        rows = []
        for item, out in zip(engine.state.batch, engine.state.output, strict=True):
            if item.get("refused"):
                self.refused.append([item["file"], item["refused"]])
                continue
            numbers = [f"{p:.4f}" for p in out["probability"].tolist()]
            self.done[item["file"]] = (self.classes[out["class"]], numbers)
            rows.append([item["file"], self.classes[out["class"]], *numbers])
        with self.path.open("a", encoding="utf-8") as file:
            file.write(csv_text(rows))
        if self.refused:
            write_text(self.refused_path, csv_text([_REFUSED, *self.refused]))

    def finish(self) -> None:
        """Raise ValueError, in one line, if a file was refused."""
        if self.refused:
            total = len(self.done) + len(self.refused)
            raise ValueError(f"{len(self.refused)} of {total} refused ({self.refused_path}): {self.refused[0][1]}")

    def _earlier(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return settings and files of the table that is there; refuse it if one is another now."""
        if not self._settings_path.is_file():
            return {}, {}
        try:
            before = dict(json.loads(self._settings_path.read_text(encoding="utf-8")))
            files = dict(before.pop(_FILES, {}))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self._settings_path} holds no settings: pass another output folder") from error
        changed = [name for name, value in self.settings.items() if before.get(name, value) != value]
        # what has no row is looked at again anyway
        changed += [name for name in self.done if name in self.files and files.get(name) != self.files[name]]
        if changed:
            raise ValueError(
                f"{self.path} was made with another {', '.join(changed)}: begin anew (--overwrite, or resume: false), "
                "or name another folder"
            )
        return before, files

    def _read(self) -> dict[str, tuple[str, list[str]]]:
        # a row that was being written when the machine stopped has no line end
        try:
            whole = self.path.read_text(encoding="utf-8").rpartition("\n")[0]
            rows: list[list[str]] = list(csv.reader(io.StringIO(whole)))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"{self.path} is no table of predictions ({error}): begin anew (--overwrite, or resume: false), or "
                "name another folder"
            ) from error
        names = [name.removeprefix("p_") for name in rows[0][2:]] if rows else self.classes
        if names != self.classes:
            raise ValueError(f"{self.path} is of classes {', '.join(names)}, the model knows {', '.join(self.classes)}")
        return {row[0]: (row[1], row[2:]) for row in rows[1:] if len(row) == len(self.classes) + 2}
