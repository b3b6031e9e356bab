"""Simulated subtomograms written to disk as a labelled set that anyone reads: shard by shard, always the same bytes."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from monai_cryo import __version__
from monai_cryo._progress import progress_bar
from monai_cryo._typing import Contrast, parse_contrast
from monai_cryo.data.dataset import TemplateDataset
from monai_cryo.io.atomic import flush_to_disk, replacing, write_text
from monai_cryo.io.columns import parameter_columns
from monai_cryo.io.folder import clear_leftovers, hold_folder
from monai_cryo.io.mrc import write_mrc

__all__ = ["write_simulated"]

#: samples that are imaged together: in other batches sums are rounded otherwise, so shards are cut between them
BATCH = 8
#: columns of a table, by their names in the list that evaluation reads
_LABELS = {"image": "image", "label": "label", "class": "class", "structure": "item.structure"}
_SETTINGS, _TABLE, _LIST = "simulation.json", "parameters.csv", "dataset.json"


def write_simulated(
    folder: str | os.PathLike[str],
    dataset: TemplateDataset,
    simulate: Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]],
    *,
    contrast: Contrast,
    shards: int = 1,
    facts: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Path:
    """Simulate a data set and write it as MRC files, images and masks, with a ``dataset.json`` that evaluation reads.

    Where it was cut off it goes on with the shard that was not whole, under the same versions of torch and numpy. The
    same seed gives the same bytes, whatever the shards, on one machine and number of threads. Memory does not grow with
    the number of samples.

    Parameters
    ----------
    folder
        Where to; made if missing.
    dataset
        What is imaged: its items 0 .. length - 1.
    simulate
        :class:`monai_cryo.engines.SimulateBatch`, without a normalisation: that is the reader's, as for real images.
    contrast
        Of the particles in the images, dark or bright.
    shards
        Subfolders that the samples are spread over.
    facts
        What else the bytes depend on, kept in ``simulation.json``: a folder begun with other facts is refused.
    progress
        Show a bar.

    Returns
    -------
    Path
        ``dataset.json``. Beside it: ``parameters.csv``, a line a sample with its files, class and drawn values
        (:meth:`monai_cryo.engines.SimulateBatch.draw`); and in every shard its part of that table, whose presence says
        that the shard is whole.

    Raises
    ------
    ValueError
        If there are too many shards, the folder holds another set, or a part of one of other versions, or another
        process is at work in it.
    """
    folder, number = Path(folder), len(dataset)
    batches = -(-number // BATCH)
    if not 1 <= shards <= batches:
        raise ValueError(f"shards must lie in 1..{batches}, at least {BATCH} samples in each, got {shards}")
    library = dataset.library
    settings: dict[str, Any] = {
        **(facts or {}),
        "library": library.digest(),
        "number": number,
        "shards": shards,
        "seed": dataset.seed,
        "split": dataset.split,
        "balanced": dataset.balanced,
        "voxel_size": library.voxel_size,
        "box": library.box,
        "contrast": f"protein {parse_contrast(contrast)}",
        "classes": library.classes,
        "structures": library.structures,
        "monai_cryo": __version__,
    }
    _check(folder, settings)
    if (folder / _LIST).is_file():
        return folder / _LIST
    # a whole set stays what it is; one to go on with would be half of one version and half of another
    settings |= {"torch": str(torch.__version__), "numpy": np.__version__}
    _check(folder, settings)
    hold_folder(folder)
    for shard in folder.glob("shard_*"):
        clear_leftovers(shard)
    if not _check(folder, settings):
        write_text(folder / _SETTINGS, json.dumps(settings, indent=1) + "\n")
    tables = [folder / f"shard_{i:0{len(str(shards - 1))}d}" / _TABLE for i in range(shards)]
    with progress_bar(total=number, desc=f"simulating {folder}", unit="sample", disable=not progress) as bar:
        for i, table in enumerate(tables):
            indices = range(BATCH * (i * batches // shards), min(number, BATCH * ((i + 1) * batches // shards)))
            if not table.is_file():
                table.parent.mkdir(exist_ok=True)
                _write_table(table, _write_items(table.parent, dataset, simulate, indices, bar.update))
            else:
                bar.update(len(indices))
    _join(folder, tables, settings)
    return folder / _LIST


def _check(folder: Path, settings: dict[str, Any]) -> bool:
    """Compare the settings with those of an older set; False if there is none."""
    path = folder / _SETTINGS
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not what this command writes: {error}") from error
        differing = [key for key in settings if not isinstance(found, dict) or found.get(key) != settings[key]]
        if differing:
            was = found.get(differing[0]) if isinstance(found, dict) else found
            raise ValueError(
                f"{folder} holds a set with {differing[0]} {was!r}, not {settings[differing[0]]!r}: name another folder"
            )
        return True
    if (folder / _LIST).exists():
        raise ValueError(f"{folder} holds a {_LIST} that was not simulated here: name another folder")
    return False


def _write_items(
    folder: Path,
    dataset: TemplateDataset,
    simulate: Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]],
    indices: Sequence[int],
    done: Callable[[int], Any],
) -> Iterator[dict[str, Any]]:
    """Write the images and masks of some items, and yield a row of the table for each; then flush all."""
    library = dataset.library
    width = len(str(len(dataset) - 1))
    for first in range(0, len(indices), BATCH):
        batch = default_collate([dataset[i] for i in indices[first : first + BATCH]])
        images, label = simulate(batch)
        masks = label["mask"].cpu().numpy() >= 0.5
        for n, image in enumerate(images.cpu().numpy().astype(np.float32)):
            names = _names(int(batch["index"][n]), width)
            for name, volume in zip(names, (image[0], masks[n, 0].astype(np.int8)), strict=True):
                write_mrc(folder / name, volume, library.voxel_size, overwrite=True)
            image_name, label_name = (f"{folder.name}/{name}" for name in names)
            row = {"image": image_name, "label": label_name, "class": library.classes[int(batch["class"][n])]}
            yield {**row, **dict(parameter_columns(label["parameters"][n]))}
        done(len(images))
    for index in indices:  # by now most of it is there
        for name in _names(index, width):
            flush_to_disk(folder / name)


def _names(index: int, width: int) -> tuple[str, str]:
    return f"{index:0{width}d}.mrc", f"{index:0{width}d}_mask.mrc"


def _write_table(path: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    """Write rows as they come; the columns, which only the last row completes, need a second pass."""
    columns: dict[str, None] = {}
    with replacing(path) as part, tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
        for row in rows:
            columns.update(dict.fromkeys(row))
            spool.write(json.dumps(row) + "\n")
        spool.seek(0)
        with part.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(json.loads(line) for line in spool)
        flush_to_disk(part)


def _join(folder: Path, tables: Sequence[Path], settings: Mapping[str, Any]) -> None:
    """Write the whole table and, last, the list, a row at a time."""
    columns: dict[str, None] = {}
    for path in tables:
        with path.open(newline="", encoding="utf-8") as file:
            columns.update(dict.fromkeys(next(csv.reader(file))))
    with replacing(folder / _TABLE) as part, part.open("w", newline="", encoding="utf-8") as file:
        whole = csv.DictWriter(file, columns, lineterminator="\n")
        whole.writeheader()
        whole.writerows(_rows(tables))
    with replacing(folder / _LIST) as part, part.open("w", encoding="utf-8") as file:
        file.write(json.dumps(dict(settings), indent=1)[:-2] + ',\n "test": [')
        for n, row in enumerate(_rows(tables)):
            file.write(",\n  " if n else "\n  ")
            file.write(json.dumps({name: row[column] for name, column in _LABELS.items()}))
        file.write("\n ]\n}\n")
        file.flush()
        os.fsync(file.fileno())


def _rows(tables: Sequence[Path]) -> Iterator[dict[str, str]]:
    for path in tables:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
