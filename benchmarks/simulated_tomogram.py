"""Whole simulated tomograms, as crowded as cells, of which every particle is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_cryo.data import item_state
from monai_cryo.physics import bilayer
from monai_cryo.physics.pose import bounding_radius, move, rotation_from_uniform
from monai_cryo.physics.scene import pack_
from monai_cryo.templates import Template, TemplateLibrary
from monai_cryo.transforms import RandCTF, RandDensityField, RandTiltSeries

KINDS = {"cell": ("ribosome", "proteasome", "tric"), "bacterium": ("ribosome",)}
"""Specimen -> the classes it has: the first makes half of its particles, the others together a tenth."""
SNRS = (0.02, 0.05, 0.15)  # of the projections, in turn
SPECIMEN = 0.75  # of the depth: ice lies above and below
MARGIN = 48  # voxels beyond the field of view along x: what a tilted specimen brings into it
CROWD = (70e-6, 130e-6)  # particles a voxel of the specimen
NEAREST = 12.0  # voxels between any two centres
TRIES = 64


@dataclass(frozen=True)
class Scene:
    """A tomogram, protein dark, and the particles whose centres lie in it.

    Attributes
    ----------
    image
        (D, H, W) float32.
    places
        (N, 3) indices (z, y, x).
    names
        Their classes, or ``"distractors"``; N.
    labels
        (D, H, W) int8: 1 + the library's class of what fills a voxel, 0 where that is nothing or no class.
    """

    image: NDArray[np.float32]
    places: NDArray[np.float64]
    names: list[str]
    labels: NDArray[np.int8]


def simulate_scene(library: TemplateLibrary, kind: str, seed: int, number: int, shape: tuple[int, int, int]) -> Scene:
    """Build and image one specimen: membranes, then particles around them, then a tilt series of the whole.

    Parameters
    ----------
    library
        Structures: those of the kind's classes, and distractors.
    kind
        Of `KINDS`.
    seed, number
        The same tomogram for the same four arguments.
    shape
        Voxels of the tomogram.
    """
    state = item_state(seed, "test", number, stream=100 + list(KINDS).index(kind))
    depth, height, width = shape
    box = (depth, height, width + 2 * MARGIN)
    density, occupied = _membranes(box, library.voxel_size, state)
    labels = occupied.to(torch.int8) * (1 + library.classes.index("membrane"))
    half = np.array([SPECIMEN * depth / 2 - 10, height / 2, box[2] / 2])  # where centres lie: whole particles along z
    count = round(state.uniform(*CROWD) * SPECIMEN * math.prod(box))
    placed, names = np.empty((0, 3)), []
    for name, template in _population(library, kind, count, state):
        particle, inside = _posed(template, state)
        tries = state.uniform(-half, half, (TRIES, 3)).round()
        away = np.linalg.norm(tries[:, None] - placed, axis=2).min(1, initial=np.inf)
        tries = tries[away >= NEAREST]
        before = occupied.clone()
        taken = pack_(density, occupied, particle, inside, torch.from_numpy(tries).long(), 0.03)
        if taken >= 0:
            if name in library.classes:
                labels[occupied & ~before] = 1 + library.classes.index(name)
            placed, names = np.vstack([placed, tries[taken]]), [*names, name]

    field = RandDensityField(float(state.uniform(0.05, 0.3)), points=9)
    imaging = RandTiltSeries(
        SNRS[number % len(SNRS)],
        ctf=RandCTF(defocus_um=(1.5, 5.0), cs_mm=2.7, contrast="dark"),
        tilt_jitter_deg=0.2,
        dose_per_tilt=3,
        output_size=shape,
        voxel_size=library.voxel_size,
    )
    batch = field.apply(density[None, None], [field.draw(state)])
    image = imaging.apply(batch, [imaging.draw(state)])[0, 0].numpy()
    places = placed + np.array(shape) // 2  # centre stays on centre
    seen = ((places >= 0) & (places <= np.array(shape) - 1)).all(1)
    kept = [name for name, s in zip(names, seen, strict=True) if s]
    return Scene(image, places[seen], kept, labels[:, :, MARGIN : MARGIN + width].numpy())


def _population(
    library: TemplateLibrary, kind: str, count: int, state: np.random.RandomState
) -> list[tuple[str, Template]]:
    """Classes and structures of so many particles, the rare ones first: they must find room."""
    first, *rare = KINDS[kind]
    main = round(count * state.uniform(0.4, 0.6))
    few = [max(2, round(0.05 * count))] * len(rare)
    numbers = {**dict(zip(rare, few, strict=True)), first: main, "distractors": count - main - sum(few)}
    members = {**library.templates, "distractors": library.distractors}
    people = []
    for name, number in numbers.items():
        odds = np.array([1 / int(member.mask.sum()) for member in members[name]])  # of a kind, small ones are many
        chosen = state.choice(len(odds), number, p=odds / odds.sum())
        people += [(name, members[name][n]) for n in chosen]
    return people


def _posed(template: Template, state: np.random.RandomState) -> tuple[Tensor, Tensor]:
    """Density and mask of a structure in a random pose."""
    radius = bounding_radius(template.density)
    pair = torch.stack([template.density, template.mask.to(template.density)])[None]
    rotation = rotation_from_uniform(state.uniform(size=(1, 3))).float()
    values, inside = move(pair, rotation, torch.zeros(1, 3), shape=(2 * radius + 3,) * 3, radius_vox=radius)[0]
    return values * float(state.uniform(0.8, 1.2)), inside >= 0.5


def _membranes(box: tuple[int, int, int], voxel_size: float, state: np.random.RandomState) -> tuple[Tensor, Tensor]:
    """Density and voxels of a sheet that crosses the specimen, nearly upright, and of a vesicle."""
    edge = np.array(box) * voxel_size
    turn = state.uniform(0, 2 * math.pi)
    sheet = {
        "normal": [state.uniform(-0.3, 0.3), math.sin(turn), math.cos(turn)],
        "offset_a": state.uniform(0.05, 0.3) * edge[1],
        "radius_a": 1 / state.uniform(-1 / 3000, 1 / 3000),
    }
    radius = state.uniform(200, 350)
    centre = state.uniform(-0.35, 0.35, 3) * edge * [0.2, 1, 1]
    away = float(np.linalg.norm(centre))
    vesicle = {"normal": centre.tolist(), "offset_a": away + radius, "radius_a": radius}
    density, occupied = torch.zeros(box), torch.zeros(box, dtype=torch.bool)
    z = (torch.arange(box[0]) - box[0] // 2).abs()[:, None, None]
    specimen = (z <= SPECIMEN * box[0] / 2).expand(box)
    for shape in (sheet, vesicle):
        values, mask = bilayer(box, voxel_size, thickness_a=state.uniform(32, 42), **shape)
        values, mask = values * specimen, mask & specimen
        density += values * (float(state.uniform(0.5, 0.8)) / values[mask].mean())
        occupied |= mask
    return density, occupied
