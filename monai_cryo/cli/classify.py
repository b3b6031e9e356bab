"""The verb ``classify``: subtomograms, or the particles of STAR files, to classes and probabilities."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from typing import Any

from monai_cryo.cli.parser import Verbs, device, load_model, place, positive, reading_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    about = "Name the particle in each subtomogram: a table, and each STAR file again with class and probability."
    example = "particles.star --tomograms tomograms --output classes"
    inputs = "STAR files, MRC files, folders of MRC files, globs in quotes"
    verb = reading_verb(verbs, "classify", about, example, inputs)
    verb.add_argument(
        "--tomograms", type=place, metavar="PATH", help="the STAR files' tomograms: folder, or tomograms.star"
    )
    note = "Å a pixel of the STAR coordinates has; default: as the file says"
    verb.add_argument("--star_apix", type=positive(float), metavar="A", help=note)
    verb.add_argument("--batch_size", type=positive(int), default=32, metavar="N", help="%(default)s")
    verb.set_defaults(run=_classify)


class _Samples(Sequence[dict[str, Any]]):
    """Sequences of items one behind the other; an item is made when it is asked for."""

    def __init__(self, parts: Sequence[Any], done: set[str]) -> None:
        self._at = [(part, n) for part in parts for n in range(len(part)) if _name(part, n) not in done]

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, index: Any) -> Any:
        part, n = self._at[index]
        return part[n]

    def file(self, index: int) -> str:
        return _name(*self._at[index])


def _name(part: Any, index: int) -> str:
    return str(part.file(index) if hasattr(part, "file") else part[index]["file"])


def _classify(options: argparse.Namespace) -> None:
    from monai.bundle import ConfigParser

    from monai_cryo.bundle import bundle_root
    from monai_cryo.data import StarParticles
    from monai_cryo.handlers import PredictionsWriter
    from monai_cryo.inferers import list_tomograms
    from monai_cryo.io import check_folder, file_digests, hold_folder, read_star

    if os.environ.get("WORLD_SIZE", "1") != "1":  # tasks of a SLURM array have calls of their own
        raise ValueError("classify runs in one process: it keeps one table")
    check_folder(options.output)
    model = load_model(options)
    stars = [read_star(text) for text in options.inputs if text.lower().endswith(".star")]
    twice = len({star.path.name for star in stars}) < len(stars)
    if twice:
        raise ValueError("two STAR files have one name: classify them in two calls, each with its own output")
    others = [text for text in options.inputs if not text.lower().endswith(".star")]
    parts: list[Any] = [
        StarParticles(
            star,
            voxel_size=model.voxel_size,
            box=model.box,
            tomograms=options.tomograms,
            file_voxel_size=options.apix,
            pixel_size=options.star_apix,
        )
        for star in stars
    ]
    files = list_tomograms(others, one_name_each=False) if others else []
    parts.append([{"image": str(f), "file": str(f)} for f in files])

    for star in stars:  # what cannot be written back is told now
        star.with_columns(_columns(star, {}, model.classes))
    settings = _settings(options, model, parts[:-1])
    settings |= file_digests({str(source): source for part in parts[:-1] for source in part.sources})
    hold_folder(options.output)  # before the table is read that this goes on with
    digests = file_digests({str(file): file for file in files})
    predictions = PredictionsWriter(model.classes, str(options.output), not options.overwrite, settings, digests)
    samples = _Samples(parts, set(predictions.done))
    parser = ConfigParser()
    parser.read_config(str(bundle_root() / "configs" / "inference.yaml"))
    parser.update(
        {
            "model": model,
            "output_dir": str(options.output),
            "file_voxel_size": options.apix,
            "file_contrast": "bright" if options.invert else "dark",
            "flips": options.tta,
            "predictions": predictions,
            "dataset#data": samples,
            "batch_size": options.batch_size,
            "device": device(options),
        }
    )
    if len(samples):
        parser.get_parsed_content("evaluator").run()
    else:
        predictions.refused_path.unlink(missing_ok=True)
    for star in stars:
        target = options.output / f"{star.path.stem}_classified.star"
        star.write(target, _columns(star, predictions.done, model.classes))
        print(target)
    print(predictions.path)
    predictions.finish()


def _columns(star: Any, done: dict[str, tuple[str, list[str]]], classes: list[str]) -> dict[str, list[Any]]:
    """Columns of a STAR file's particles; 0 and "refused" for those that could not be read."""
    rows = [done.get(f"{star.path}:{n + 1}") for n in range(len(star))]
    return {
        "rlnClassNumber": [0 if row is None else classes.index(row[0]) + 1 for row in rows],
        "monaiCryoClassName": ["refused" if row is None else row[0] for row in rows],
        "monaiCryoClassProbability": [0.0 if row is None else max(map(float, row[1])) for row in rows],
    }


def _settings(options: argparse.Namespace, model: Any, parts: Sequence[Any]) -> dict[str, Any]:
    """Return what the predictions depend on; of each STAR file its rows, which are known by their numbers."""
    from monai_cryo.inferers import model_digest
    from monai_cryo.io.digest import sha256

    settings: dict[str, Any] = {"model": model_digest(model), "abundance": model.abundance}
    settings |= {name: getattr(options, name) for name in ("apix", "star_apix", "invert", "tta")}
    if getattr(model.normalize, "scope", "item") == "batch":  # an image is standardised with those beside it
        settings["batch_size"] = options.batch_size
    for part in parts:
        files, places = part.places()
        where = hashlib.sha256(repr([str(file.resolve()) for file in files]).encode() + places.tobytes()).hexdigest()
        settings[str(part.star.path)] = [sha256(part.star.path)[:16], where[:16]]
    return settings
