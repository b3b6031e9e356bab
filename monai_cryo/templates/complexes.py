"""Made-up protein complexes: what a cell holds besides the structures that are known, for a network to call nothing."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from monai_cryo.physics.density import atoms_to_density
from monai_cryo.templates.masking import CUBIC_A_PER_DALTON, cut, to_box
from monai_cryo.templates.template import Template

__all__ = ["random_complexes"]

DOMAIN_KDA = (15.0, 40.0)
SYMMETRIES = ("C1", "C1", "C2", "C3", "C4", "C6", "C7", "D2", "D3", "D4", "D6", "D7")
_BEAD_DA = 110.0  # a residue
_TRIES = 60
_CLOSEST = 0.75  # of the sum of their radii: as near as the middles of two domains come

Points = NDArray[np.float64]


def random_complexes(
    number: int,
    mass_kda: tuple[float, float],
    voxel_size: float,
    box: int,
    *,
    class_name: str,
    name: str = "complex",
    seed: int = 0,
) -> list[Template]:
    """Make up complexes of compact domains in contact, with a cyclic or dihedral symmetry or none.

    No real protein looks like one of them, but as a whole they are as lobed, and as often rings and barrels, as what
    crowds a cell. A network that learns to give these no name depends less on which other proteins it was shown.

    Parameters
    ----------
    number
        How many.
    mass_kda
        Of a whole complex: (min, max), log-uniform; one that does not fit the box is drawn anew.
    voxel_size
        Å.
    box
        Voxels that each has to fit into, in every orientation.
    class_name
        For the templates.
    name
        Of the templates: ``complex_00`` ...
    seed
        The same complexes for the same arguments.

    Returns
    -------
    list
        Templates; densities as of atoms at the voxel's resolution or 20 Å, masks at 15 % of the maximum.

    Raises
    ------
    ValueError
        If complexes of these masses do not fit the box.

    References
    ----------
    Harpaz, Gerstein and Chothia, Structure 2 (1994) 641-649: volume from mass. Goodsell and Olson, Annu. Rev. Biophys.
    Biomol. Struct. 29 (2000) 105-153: that most complexes are symmetric, and how.
    """
    state = np.random.RandomState(seed)
    return [
        _template(f"{name}_{i:0{len(str(number - 1))}d}", class_name, mass_kda, voxel_size, box, state)
        for i in range(number)
    ]


def _template(
    name: str, class_name: str, mass_kda: tuple[float, float], voxel_size: float, box: int, state: np.random.RandomState
) -> Template:
    most = (box // 2 - 2) * voxel_size
    least = (3 * CUBIC_A_PER_DALTON * 1000 * mass_kda[0] / (4 * math.pi)) ** (1 / 3)  # of a ball
    for _ in range(_TRIES if least < most else 0):
        mass = math.exp(state.uniform(*np.log(mass_kda)))
        beads = _beads(mass, SYMMETRIES[state.randint(len(SYMMETRIES))], state)
        beads = (beads - beads.mean(0)).round(3)  # the same to the last bit on every machine
        if np.linalg.norm(beads, axis=1).max() > most:
            continue
        blur = 20.0 if voxel_size < 10 else None  # or residues would stand apart
        reach = np.ceil((np.abs(beads).max(0) + 2 * (blur or 0)) / voxel_size).astype(int)
        shape = (2 * reach + 5).tolist()
        weights = torch.full((len(beads),), _BEAD_DA)
        full = atoms_to_density(torch.as_tensor(beads), weights, shape, voxel_size, resolution_a=blur).numpy()
        density, mask, _ = cut(full, "fraction:0.15", voxel_size, None)
        tight, inside = to_box(density, mask, np.array(shape) // 2, None, name)
        return Template.scaled(name, class_name, tight, inside, voxel_size)
    raise ValueError(
        f"complexes of {mass_kda[0]:g} to {mass_kda[1]:g} kDa do not fit a box of {box} voxels of {voxel_size:g} Å"
    )


def _beads(mass_kda: float, symmetry: str, state: np.random.RandomState) -> Points:
    """Points (N, 3), one a residue, that fill the domains of a complex; its axis is z."""
    operators = Rotation.create_group(symmetry).as_matrix()  # about z, the identity first
    left = 1000.0 * mass_kda / len(operators)
    masses = []
    while left > 0:
        masses.append(min(left, 1000.0 * state.uniform(*DOMAIN_KDA)))
        left -= masses[-1]
    radii = (3 * CUBIC_A_PER_DALTON * np.array(masses) / (4 * math.pi)) ** (1 / 3)
    fold = int(symmetry[1:])
    # far enough from the axis for its copies to touch; for two rings, off the plane between them
    ring = radii[0] / math.sin(math.pi / fold) * state.uniform(0.9, 1.2) if fold > 1 else 0.0
    height = radii[0] * state.uniform(0.8, 1.2) if symmetry[0] == "D" else 0.0
    centres: list[Points] = [np.array([ring, 0.0, height])]
    placed = operators @ centres[0]
    sizes = np.full(len(operators), radii[0])
    for radius in radii[1:]:
        for _ in range(_TRIES):
            base = state.randint(len(centres))
            turn = state.normal(size=3)
            centre = centres[base] + turn / np.linalg.norm(turn) * 0.9 * (radii[base] + radius)
            own = operators @ centre
            away = np.linalg.norm(placed - centre, axis=1) / (sizes + radius)
            copies = np.linalg.norm(own[1:] - centre, axis=1) / (2 * radius)
            if min(away.min(), copies.min(initial=1.0)) >= _CLOSEST:
                break
        centres.append(centre)
        placed, sizes = np.vstack([placed, own]), np.append(sizes, np.full(len(own), radius))
    parts = [
        centre + radius * _ball(max(1, round(mass / _BEAD_DA)), state)
        for centre, radius, mass in zip(centres, radii, masses, strict=True)
    ]
    unit = np.concatenate(parts)
    return np.concatenate([unit @ operator.T for operator in operators])


def _ball(count: int, state: np.random.RandomState) -> Points:
    """Points uniform in the unit ball, (count, 3)."""
    points = state.normal(size=(count, 3))
    radius: Points = state.uniform(size=(count, 1)) ** (1 / 3)
    return points / np.linalg.norm(points, axis=1, keepdims=True) * radius
