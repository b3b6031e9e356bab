"""Particle STAR files: read with gemmi, written back with added columns and every other byte as it was."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi

from monai_cryo.io.atomic import replacing

__all__ = ["ParticleStar", "read_star", "star_text"]

# What makes a loop a table of particles: it says where a particle is, or which image holds it.
_PARTICLE_TAGS = ("rlnImageName", "rlnCoordinateX", "rlnCenteredCoordinateXAngst", "wrpCoordinateX1")
_TOKEN = re.compile(r"""'(?:[^']|'(?=\S))*'|"(?:[^"]|"(?=\S))*"|\S+""")


@dataclass(frozen=True, eq=False)
class ParticleStar:
    """A particle STAR file.

    Attributes
    ----------
    path
        Where it was read.
    text
        The whole file.
    columns
        Of the particle table: label without the leading underscore -> values as text, in the order of the file.
    optics
        Of the optics table, keyed by ``rlnOpticsGroup``: label -> value as text. Empty where there is none.
    """

    path: Path
    text: str
    columns: dict[str, list[str]]
    optics: dict[str, dict[str, str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def numbers(self, label: str) -> list[float]:
        """Return a column as floats.

        Raises
        ------
        ValueError
            If there is no such column or a value is no finite number.
        """
        if label not in self.columns:
            raise ValueError(f"{self.path}: no column _{label}, found {', '.join('_' + c for c in self.columns)}")
        try:
            found = [float(value) for value in self.columns[label]]
        except ValueError as error:
            raise ValueError(f"{self.path}: column _{label} must hold numbers: {error}") from error
        if not all(map(math.isfinite, found)):
            raise ValueError(f"{self.path}: column _{label} must hold finite numbers, got NaN or infinity")
        return found

    def with_columns(self, columns: Mapping[str, Sequence[object]]) -> str:
        """Return the text of the file with these columns in the particle table.

        A new column stands behind the others; the values of one that is there are replaced where they stand. Every
        other byte is kept: other tables, comments, spaces, line ends.

        Parameters
        ----------
        columns
            Label without the leading underscore -> one value per particle; floats are written with six digits.

        Raises
        ------
        ValueError
            If a column has another length than the table, or the table's rows do not stand one on a line.
        """
        for label, values in columns.items():
            if len(values) != len(self):
                raise ValueError(f"{self.path}: column _{label} has {len(values)} values for {len(self)} particles")
        lines = self.text.splitlines(keepends=True)
        last_tag, rows = self._layout(lines)
        old = list(self.columns)
        new = [label for label in columns if label not in self.columns]
        replaced = {old.index(label): label for label in columns if label in self.columns}
        for row, line in enumerate(rows):
            body = lines[line].rstrip()
            end = lines[line][len(body) :]
            tokens = list(_TOKEN.finditer(body))[: len(old)]
            for place in sorted(replaced, reverse=True):
                a, b = tokens[place].span()
                body = body[:a] + _word(columns[replaced[place]][row]) + body[b:]
            tail = "".join(f" {_word(columns[label][row]):>12}" for label in new)
            # the blanks RELION leaves at the end of a row stay behind the new columns
            lines[line] = body + tail + end
        tag = lines[last_tag]
        end = tag[len(tag.rstrip("\r\n")) :] or "\n"
        numbered = "#" in tag
        lines[last_tag] = tag.rstrip("\r\n") + end
        lines[last_tag] += "".join(
            f"_{label}" + (f" #{len(old) + n}" if numbered else "") + end for n, label in enumerate(new, 1)
        )
        text = "".join(lines)
        try:
            found = _particles(_parsed(text), self.path)
        except (ValueError, RuntimeError):  # what was added fell into a comment, or the rows stand otherwise
            found = {}
        expected = self.columns | {k: [gemmi.cif.as_string(_word(v)) for v in vs] for k, vs in columns.items()}
        if found != expected:
            raise ValueError(f"{self.path}: expected one particle on each line of the table, to add columns to")
        return text

    def write(self, path: str | os.PathLike[str], columns: Mapping[str, Sequence[object]]) -> None:
        """Write the file with these columns, whole or not at all; see `with_columns`."""
        text = self.with_columns(columns)
        with replacing(path) as temporary:
            temporary.write_bytes(text.encode())  # line ends as they are

    def _layout(self, lines: Sequence[str]) -> tuple[int, list[int]]:
        """Line of the particle table's last label, and the lines of its rows."""
        first, tags = f"_{next(iter(self.columns))}", [f"_{label}" for label in self.columns]
        starts = [n for n, line in enumerate(lines) if line.split()[:1] == [first]]
        for start in starts:
            words = [(n, line.split()[0]) for n, line in enumerate(lines[start:], start) if _content(line)]
            if [word for _, word in words[: len(tags)]] == tags:
                rows = [n for n, _ in words[len(tags) : len(tags) + len(self)]]
                if len(rows) == len(self) and all(len(_TOKEN.findall(lines[n])) >= len(tags) for n in rows):
                    return words[len(tags) - 1][0], rows
        raise ValueError(f"{self.path}: expected one label and one particle on each line of the table")


def read_star(path: str | os.PathLike[str]) -> ParticleStar:
    """Read a particle STAR file of RELION 3, 4 or 5, Warp or M.

    The particle table is the block ``data_particles``, or the first loop that holds image names or coordinates.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is no STAR file, or none of its tables is one of particles.
    """
    file = Path(path)
    text, document = read_document(file)
    return ParticleStar(file, text, _particles(document, file), _optics(document))


def read_document(file: Path) -> tuple[str, gemmi.cif.Document]:
    """Read any STAR file, as text and as gemmi reads it.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file or it is no STAR file.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such STAR file")
    try:
        text = file.read_bytes().decode()
        return text, _parsed(text)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{file}: not a STAR file: {' '.join(str(error).split())}") from error


def _parsed(text: str) -> gemmi.cif.Document:
    return gemmi.cif.read_string(text.removeprefix("\ufeff"))  # a byte order mark, as Windows writes it


def star_text(block: str, columns: Mapping[str, Sequence[object]]) -> str:
    """Return one table as a STAR data block, as RELION writes it."""
    tags = "".join(f"_{label} #{n}\n" for n, label in enumerate(columns, 1))
    rows = "".join(" ".join(f"{_word(v):>12}" for v in row) + "\n" for row in zip(*columns.values(), strict=True))
    return f"\ndata_{block}\n\nloop_\n{tags}{rows}\n"


def _particles(document: gemmi.cif.Document, path: Path) -> dict[str, list[str]]:
    blocks = sorted(document, key=lambda block: block.name != "particles")
    for block in blocks:
        for item in block:
            tags = [tag.lstrip("_") for tag in item.loop.tags] if item.loop is not None else []
            if item.loop is not None and (set(tags) & set(_PARTICLE_TAGS)) and item.loop.length() > 0:
                return {
                    label: [gemmi.cif.as_string(item.loop[row, n]) for row in range(item.loop.length())]
                    for n, label in enumerate(tags)
                }
    known = ", ".join(f"_{tag}" for tag in _PARTICLE_TAGS)
    raise ValueError(f"{path}: no table of particles, expected a loop with one of {known} and at least one row")


def _optics(document: gemmi.cif.Document) -> dict[str, dict[str, str]]:
    block = document.find_block("optics")
    if block is None:
        return {}
    pairs: list[Any] = [item.pair for item in block if item.pair is not None]
    rows = [{label.lstrip("_"): gemmi.cif.as_string(value) for label, value in pairs}]
    for item in block:
        if item.loop is not None:
            labels = [tag.lstrip("_") for tag in item.loop.tags]
            values = ([item.loop[row, n] for n in range(len(labels))] for row in range(item.loop.length()))
            rows += [dict(zip(labels, map(gemmi.cif.as_string, found), strict=True)) for found in values]
    return {row["rlnOpticsGroup"]: row for row in rows if "rlnOpticsGroup" in row}


def _content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _word(value: object) -> str:
    text = f"{float(value):.6f}" if hasattr(value, "__float__") and not hasattr(value, "__index__") else str(value)
    plain = text and text not in "?." and text[0] not in "_$[];" and not re.search(r"""[\s'"#]""", text)
    return (
        text
        if plain and not re.match(r"data_|save_|(loop|stop|global)_$", text, re.IGNORECASE)
        else gemmi.cif.quote(text)
    )
