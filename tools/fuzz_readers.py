"""What `tools/fuzz.py` feeds: every reader of the package, with small whole files to begin with."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mrcfile
import numpy as np
import torch
from ignite.engine import Engine
from torch import nn

from monai_cryo._refusals import find_refusal, is_refusal
from monai_cryo.bundle import ModelRecord, read_model
from monai_cryo.data import StarParticles, load_labelled, preprocessing
from monai_cryo.handlers import AverageWeights, Checkpoints, KeepBest
from monai_cryo.inferers import TomogramRecord, read_record, write_record
from monai_cryo.io import (
    Picks,
    open_tomogram,
    positions,
    read_mrc,
    read_mtf,
    read_picks_csv,
    read_star,
    read_tomogram_list,
    star_text,
    write_mrc,
)
from monai_cryo.networks import TwoBranchNet, with_facts
from monai_cryo.templates import density_from_map, load_templates, read_structure
from monai_cryo.transforms import NormalizeSpectrum, Standardize

__all__ = ["READERS", "Reader"]

Seeds = list[tuple[str, bytes]]

ATOM = "ATOM  {0:5d}  {1:<3} GLY A{2:4d}    {3:8.3f}{4:8.3f}{5:8.3f}  1.00 20.00           {6}"
SYMMETRY = """REMARK 350 BIOMOLECULE: 1
REMARK 350 APPLY THE FOLLOWING TO CHAINS: A
REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000
REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000
"""
LIBRARY = """voxel_size: 10.0
box: 16
classes:
  ball: {sources: [a.mrc, {source: b.mrc, name: other, threshold: 'fraction:0.2'}], amplitude: [0.5, 1.0]}
  chain: {sources: c.pdb, resolution_a: 20.0, chains: A}
  membrane: {procedural: membrane, thickness_a: [20, 40], radius_a: [100, .inf]}
  nothing: {procedural: background, strangers: 0.5}
distractors:
- {source: b.mrc, contrast: bright, source_voxel_size: 8.0}
- {procedural: complexes, number: 2, mass_kda: [20, 30], seed: 1}
"""


@dataclass(frozen=True)
class Reader:
    """A reader, and the whole files that are damaged for it.

    Attributes
    ----------
    seeds
        From a folder, into which files of other kinds may be put, to (suffix or name, content).
    read
        Reads a file; it returns, or refuses.
    """

    seeds: Callable[[Path], Seeds]
    read: Callable[[Path], Any]


def _volumes(folder: Path) -> Seeds:
    rng = np.random.default_rng(0)
    found = []
    for dtype in (np.float32, np.int8, np.float16, np.dtype(">f4")):
        with mrcfile.new(folder / "seed.mrc", overwrite=True) as mrc:
            mrc.set_data((20 * rng.normal(size=(6, 7, 8))).astype(dtype))
            mrc.set_extended_header(np.frombuffer(b"x" * 64, "S1"))
            mrc.voxel_size = 10.0
            mrc.header.label[0] = b"seed"  # no time in it
        found.append((folder / "seed.mrc").read_bytes())
    return [(".mrc", content) for content in found] + [(".mrc.gz", gzip.compress(c, mtime=0)) for c in found[:2]]


def _read_subtomogram(path: Path) -> None:
    """Load and bring to a model's grid, as inference does."""
    try:
        image = PREPARE({"image": str(path)})["image"]
    except RuntimeError as error:  # MONAI wraps what its transforms raise
        refusal = find_refusal(error)
        if refusal is None:
            raise
        raise refusal from None
    assert bool(image.isfinite().all())


def _stars(folder: Path) -> Seeds:
    write_mrc(folder / "one.mrc", np.random.default_rng(0).normal(size=(8, 8, 8)), 10.0)
    write_mrc(folder / "TS_1.mrc", np.random.default_rng(0).normal(size=(20, 20, 20)), 10.0)
    optics: dict[str, list[object]] = {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [5.0]}
    columns: dict[str, list[object]] = {"rlnTomoName": ["TS_1"] * 2, "rlnImageName": ["one.mrc", "one.mrc"]}
    columns |= {f"rlnCoordinate{axis}": [20.0, 21.5] for axis in "XYZ"}
    columns |= {f"rlnOrigin{axis}Angst": [0.0, 1.0] for axis in "XYZ"}
    columns |= {f"rlnTomoSubtomogram{angle}": [0.0, 30.0] for angle in ("Rot", "Tilt", "Psi")}
    five: dict[str, list[object]] = {"rlnTomoName": ["TS_1"]}
    five |= {f"rlnCenteredCoordinate{axis}Angst": [3.0] for axis in "XYZ"}
    warp: dict[str, list[object]] = {"rlnMicrographName": ["TS_1.tomostar"], "rlnMagnification": [1e4]}
    warp |= {"rlnDetectorPixelSize": [5.0], **{f"rlnCoordinate{axis}": [20.0] for axis in "XYZ"}}
    texts = [star_text("optics", optics) + star_text("particles", columns | {"rlnOpticsGroup": [1, 1]})]
    texts += [star_text("", five), star_text("particles", warp)]
    return [(".star", text.encode()) for text in texts]


def _read_star(path: Path) -> None:
    """Read a STAR file in all ways; it is refused where each of them refuses it."""
    star = read_star(path)
    star.with_columns({"monaiCryoClassName": ["x"] * len(star)})
    ways: list[Callable[[], Any]] = [
        lambda: positions(star, 10.0, size_px=(20, 20, 20)),
        lambda: StarParticles(star, voxel_size=10.0, box=8)[0],
        lambda: StarParticles(star, voxel_size=10.0, box=8, tomograms=path.parent, pixel_size=10.0)[0],
    ]
    refusals = []
    for way in ways:
        try:
            way()
        except Exception as error:
            if not is_refusal(error):
                raise
            refusals.append(error)
    if len(refusals) == len(ways):
        raise refusals[0]


def _lists(folder: Path) -> Seeds:
    columns: dict[str, list[object]] = {"rlnTomoName": ["TS_1", "TS_2"]}
    columns |= {f"rlnTomoSize{axis}": [40, 41] for axis in "XYZ"}
    columns |= {"rlnTomoTiltSeriesPixelSize": [5.0, 5.5], "rlnTomoTomogramBinning": [2.0, 2]}
    columns |= {"rlnTomoReconstructedTomogram": ["TS_1.mrc", "None"], "rlnTomoReconstructedTomogramHalf1": ["a", "b"]}
    return [(".star", star_text("global", columns).encode())]


def _read_list(path: Path) -> None:
    for listed in read_tomogram_list(path).values():
        listed.check((20, 20, 20), listed.voxel_size or 10.0)


def _structures(folder: Path) -> Seeds:
    import gemmi

    atoms = [(n, name, n, 1.5 * n, 0.5 * n, -n, "C") for n, name in enumerate(("CA", "C", "CB", "CG"), 1)]
    pdb = SYMMETRY + "\n".join(ATOM.format(*atom) for atom in atoms) + "\nTER\nEND\n"
    structure = gemmi.read_pdb_string(pdb)
    cif = structure.make_mmcif_document().as_string()
    packed = gzip.compress(cif.encode(), mtime=0)
    return [(".pdb", pdb.encode()), (".cif", cif.encode()), (".cif.gz", packed), (".pdb", pdb.encode())]


def _read_structure(path: Path) -> None:
    read_structure(path)
    read_structure(path, assembly="1")


def _libraries(folder: Path) -> Seeds:
    grid = np.stack(np.meshgrid(*(np.arange(12) - 6,) * 3, indexing="ij"))
    ball = np.exp(-(grid**2).sum(0) / 12).astype(np.float32)
    write_mrc(folder / "a.mrc", ball, 10.0)
    write_mrc(folder / "b.mrc", ball, 8.0)
    (folder / "c.pdb").write_bytes(_structures(folder)[0][1])
    small = "voxel_size: 10.0\nbox: 16\nclasses: {ball: a.mrc, nothing: {procedural: background}}\n"
    as_json = {"voxel_size": 10.0, "box": 16, "classes": {"ball": {"sources": "a.mrc", "threshold": "level:0.3"}}}
    return [(".yaml", LIBRARY.encode()), (".yaml", small.encode()), (".json", json.dumps(as_json).encode())]


def _maps(folder: Path) -> Seeds:
    _libraries(folder)
    return [(".mrc", (folder / name).read_bytes()) for name in ("a.mrc", "b.mrc")]


def _datasets(folder: Path) -> Seeds:
    for name in ("a.mrc", "b.mrc"):
        write_mrc(folder / name, np.random.default_rng(0).normal(size=(8, 8, 8)), 10.0)
    items = [{"image": "a.mrc", "label": "b.mrc", "class": "ribosome"}, {"image": "b.mrc", "class": "membrane"}]
    head = {"name": "x", "voxel_size": 10.0, "contrast": "protein dark"}
    return [("dataset.json", json.dumps({**head, "test": items}).encode())]


def _models(folder: Path) -> Seeds:
    found = []
    for normalize in (Standardize(), NormalizeSpectrum()):
        torch.manual_seed(0)
        network = partial(TwoBranchNet, num_classes=2, features=(1, 1, 1, 1, 1), fc=(1, 1))
        built = ModelRecord(["ribosome", "membrane"], 10.0, 16, "dark", normalize, network).build()
        torch.save(built.state_dict(), folder / "seed.pt")
        found.append((".pt", (folder / "seed.pt").read_bytes()))
    return found


def _read_model(path: Path) -> None:
    read_model(path).network()


def _run(folder: Path, decay: float | None, resume: str | None = None) -> tuple[Engine, Checkpoints]:
    """Make a small training of two epochs of two iterations, with all that a checkpoint keeps."""
    torch.manual_seed(0)
    network = with_facts(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)), {"classes": ["a", "b"]})
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def step(engine: Engine, batch: Any) -> None:
        optimizer.zero_grad()
        network(torch.ones(2, 2)).sum().backward()
        optimizer.step()

    engine, average = Engine(step), AverageWeights(network, decay)
    engine.state.max_epochs, engine.state.epoch_length = 2, 2
    engine.data_loader = SimpleNamespace(dataset=range(4))
    average.attach(engine)
    state = {"network": network, "averaging": average, "optimizer": optimizer, "best": KeepBest(network, str(folder))}
    return engine, Checkpoints(state, str(folder), resume=resume)


def _checkpoints(folder: Path) -> Seeds:
    found = []
    for decay, epochs in ((0.9, 1), (None, 1)):
        engine, checkpoints = _run(folder, decay)
        engine.run([0, 0], max_epochs=epochs, epoch_length=2)
        checkpoints.save(engine)
        found.append((".pt", checkpoints.path.read_bytes()))
    return found


def _resume(path: Path) -> None:
    """Go on from a checkpoint, to the end of the training."""
    engine, checkpoints = _run(path.parent, 0.9, str(path))
    checkpoints.load(engine, path)
    engine.run([0, 0], max_epochs=2, epoch_length=2)


def _tables(folder: Path) -> Seeds:
    full = "tomogram,class,x,y,z,score,size_vox\nTS_1,ribosome,1.00,2.00,3.00,0.9000,12\nTS_2,membrane,4,5,6,,3\n"
    return [(".csv", full.encode()), (".csv", b"x,y,z,class\n1,2,3,a\n4,5,6,b\n")]


def _curves(folder: Path) -> Seeds:
    star = star_text("", {"rlnResolutionInversePixel": [0.0, 0.25, 0.5], "rlnMtfValue": [1.0, 0.6, 0.2]})
    return [(".star", star.encode()), (".txt", b"# MTF\n0 1\n0.5, 0.6\n1 0.2\n")]


PREPARE = preprocessing("image", voxel_size=10.0, box=8)


def _records(folder: Path) -> Seeds:
    picks = Picks(np.array([[1.0, 2.0, 3.5]]), ["ribosome"], np.array([0.7]), np.array([2000]), 13.68, (8, 9, 10))
    settings = {"model": "5d41402abc4b2a76", "classes": ["ribosome", "membrane"], "diameters_a": {"ribosome": 250.0}}
    found = []
    for kept in (picks, None):
        write_record(folder / "seed.json", TomogramRecord("TS_1", "0" * 16, settings, {"membrane": 0.1}, kept))
        found.append((".json", (folder / "seed.json").read_bytes()))
    return found


READERS: dict[str, Reader] = {
    "mrc": Reader(_volumes, read_mrc),
    "subtomogram": Reader(_volumes, _read_subtomogram),
    "tomogram": Reader(_volumes, open_tomogram),
    "star": Reader(_stars, _read_star),
    "list": Reader(_lists, _read_list),
    "structure": Reader(_structures, _read_structure),
    "templates": Reader(_libraries, load_templates),
    "map": Reader(_maps, lambda path: density_from_map(path, None, 10.0)),
    "dataset": Reader(_datasets, lambda path: load_labelled(str(path.parent), ["ribosome", "membrane"])),
    "model": Reader(_models, _read_model),
    "checkpoint": Reader(_checkpoints, _resume),
    "picks": Reader(_tables, read_picks_csv),
    "mtf": Reader(_curves, read_mtf),
    "record": Reader(_records, read_record),
}
