"""Atomic structures (PDB, mmCIF, gzipped or not) as weighted atoms, and as densities."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import torch
from torch import Tensor

from monai_cryo.io.header import check_packed
from monai_cryo.physics.density import atoms_to_density

__all__ = ["Atoms", "density_from_structure", "read_structure"]

WEIGHTS = ("mass", "atomic_number", "electron")
MAX_EXTENT_A = 5000.0
MAX_ATOMS = 20_000_000
_MASS_DA = [gemmi.Element(number).weight for number in range(119)]
_ASCII = bytes(range(128)) + b"?" * 128
_WATER_DA = 18.015
_MEAN_RESIDUE_DA = 110.0


@dataclass(frozen=True, eq=False)
class Atoms:
    """The atoms of one molecule, centred.

    Attributes
    ----------
    positions_a
        (N, 3) float32 in Å as (z, y, x), relative to the centre of mass.
    weights
        (N,) float32, what each atom adds to a density.
    mass_kda
        Molecular mass in kDa, hydrogens included, waters not.
    source
        The file.
    """

    positions_a: Tensor
    weights: Tensor
    mass_kda: float
    source: str

    @property
    def radius_a(self) -> float:
        """Distance in Å of the outermost atom from the centre of mass."""
        return float(torch.linalg.vector_norm(self.positions_a, dim=1).max())

    @property
    def extent_a(self) -> tuple[float, float, float]:
        """Size in Å as (z, y, x) of the box around the atoms."""
        z, y, x = (self.positions_a.amax(0) - self.positions_a.amin(0)).tolist()
        return z, y, x


def read_structure(
    path: str | os.PathLike[str],
    *,
    chains: str | Sequence[str] | None = None,
    assembly: str | int | None = None,
    weights: str = "mass",
) -> Atoms:
    """Read the first model of a structure file; hydrogens and waters are dropped, of alternatives the first is kept.

    Masses are those of whole residues: the mass of a standard amino acid or nucleotide in its chain is shared among
    its atoms in the file, so that hydrogens count and a file of CA atoms weighs what the molecule weighs. A CA
    alone in a residue without a mass of its own (a bead) counts as a mean residue of 110 Da. Occupancies are ignored.

    Parameters
    ----------
    path
        PDB (hybrid-36 too) or mmCIF, gzipped or not; told apart by content.
    chains
        Names or patterns of chains to keep, such as ``"A*"`` or ``["A", "B?"]``, as the author named them (mmCIF:
        auth_asym_id). Each must match at least one.
    assembly
        Name of a biological assembly in the file, usually "1"; None takes the atoms as they stand.
    weights
        "mass" (Da), "atomic_number", or "electron" (scattering factor for electrons at s = 0, in Å).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one line, if the file cannot be read, a chain or assembly is not in it, no atom is left, an element is
        unknown, or the coordinates are not finite or span more than 5000 Å.

    References
    ----------
    Wojdyr, GEMMI: a library for structural biology, J. Open Source Softw. 7 (2022) 4200.
    Peng, Electron atomic scattering factors, Micron 30 (1999) 625-648 (gemmi's c4322).
    """
    path = Path(path)
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    model = _model(path, assembly)
    positions: list[list[float]] = []
    numbers: list[int] = []
    masses: list[float] = []
    for residue, atoms in _residues(_selected(model, chains, path)):
        heavy = [(position, number) for position, number in atoms if number != 1]
        if any(number == 0 for _, number in heavy):
            name = next(a.name for a in residue if a.element.atomic_number == 0)
            raise ValueError(
                f"{path}: unknown element of atom {name!r} in residue {residue.name} {residue.seqid}, "
                "expected a chemical symbol in the element column"
            )
        present = sum(_MASS_DA[number] for _, number in heavy)
        scale = _residue_mass(residue, sum(_MASS_DA[number] for _, number in atoms)) / present if heavy else 0.0
        for position, number in heavy:
            positions.append(position)
            numbers.append(number)
            masses.append(scale * _MASS_DA[number])
    if not positions:
        raise ValueError(f"{path}: no atoms left, expected some besides hydrogens and waters")
    xyz = np.array(positions)
    if not np.isfinite(xyz).all():
        raise ValueError(f"{path}: {np.count_nonzero(~np.isfinite(xyz).all(1))} atoms have coordinates not finite")
    extent = float(np.ptp(xyz, axis=0).max())
    if extent > MAX_EXTENT_A:
        raise ValueError(f"{path}: coordinates span {extent:g} Å, expected at most {MAX_EXTENT_A:g} Å")

    mass = np.array(masses)
    centred = xyz - mass @ xyz / mass.sum()
    if weights == "mass":
        values = mass
    else:
        table = {n: n if weights == "atomic_number" else _electron_factor(n, path) for n in set(numbers)}
        values = np.array([table[n] for n in numbers])
    return Atoms(
        positions_a=torch.from_numpy(np.ascontiguousarray(centred[:, ::-1], dtype=np.float32)),
        weights=torch.from_numpy(values.astype(np.float32)),
        mass_kda=float(mass.sum() / 1000.0),
        source=str(path),
    )


def density_from_structure(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    voxel_size: float | Sequence[float],
    *,
    resolution_a: float | None = None,
    convention: str = "pdb2vol",
    lattice_correction: bool = False,
    chains: str | Sequence[str] | None = None,
    assembly: str | int | None = None,
    weights: str = "mass",
) -> Tensor:
    """Density (D, H, W) of a structure file, its centre of mass at the centre of voxel ``shape // 2``.

    The parameters are those of `read_structure` and of `monai_cryo.physics.density.atoms_to_density`.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_structure`; also if the molecule is larger than the box, with the box it needs.
    """
    atoms = read_structure(path, chains=chains, assembly=assembly, weights=weights)
    try:
        return atoms_to_density(
            atoms.positions_a,
            atoms.weights,
            shape,
            voxel_size,
            resolution_a=resolution_a,
            convention=convention,
            lattice_correction=lattice_correction,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _model(path: Path, assembly: str | int | None) -> Any:
    """Return the first model, expanded to the assembly."""
    expected = "expected a PDB or mmCIF file, plain or .gz"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, {expected}")
    if not path.is_file():
        raise ValueError(f"{path}: a {'directory' if path.is_dir() else 'device'}, {expected}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: an empty file, {expected}")
    try:
        # authors' names in any encoding; nothing that is used has letters beyond ASCII
        content = _unpacked(path).translate(_ASCII)
        structure = gemmi.read_structure_string(content, format=gemmi.CoorFormat.Detect)
    except PermissionError:
        raise
    except (RuntimeError, ValueError, OSError, EOFError, MemoryError, zlib.error) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}; {expected}") from None
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise ValueError(f"{path}: holds no atoms, {expected}")
    if structure.input_format == gemmi.CoorFormat.Pdb:
        _check_coordinates(content, path)
    if assembly is None:
        return structure[0]
    known = {a.name: a for a in structure.assemblies}
    if str(assembly) not in known:
        names = ", ".join(known) or "none"
        raise ValueError(f"{path}: no assembly {str(assembly)!r}, the file has {names}")
    copies = sum(len(g.operators) for g in known[str(assembly)].generators)
    if copies * structure[0].count_atom_sites() > MAX_ATOMS:
        raise ValueError(f"{path}: assembly {assembly} has {copies} copies, expected at most {MAX_ATOMS} atoms")
    try:
        return gemmi.make_assembly(known[str(assembly)], structure[0], gemmi.HowToNameCopiedChain.Dup)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: assembly {assembly} cannot be built: {error}") from None


def _check_coordinates(content: bytes, path: Path) -> None:
    """Refuse coordinates in the columns of a PDB file that are no numbers: gemmi reads them as 0."""
    for number, line in enumerate(content.splitlines(), 1):
        if line.startswith((b"ATOM  ", b"HETATM")):
            for start in (30, 38, 46):
                try:
                    float(line[start : start + 8])
                except ValueError:
                    found = line[start : start + 8].decode("ascii", "replace").strip()
                    raise ValueError(f"{path}: line {number}: a coordinate is a number, got {found!r}") from None


def _unpacked(path: Path) -> bytes:
    """Content of a file, gzipped or not: gemmi itself would take memory for whatever a packed file holds."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    if not packed:
        return path.read_bytes()
    out = bytearray()
    with gzip.open(path) as stream:
        while chunk := stream.read(1 << 20):
            check_packed(path, len(out) + len(chunk))
            out += chunk
    return bytes(out)


def _selected(model: Any, chains: str | Sequence[str] | None, path: Path) -> list[Any]:
    if chains is None:
        return list(model)
    patterns = [chains] if isinstance(chains, str) else list(chains)
    for pattern in patterns or [""]:
        if not any(fnmatchcase(chain.name, pattern) for chain in model):
            names = ", ".join(dict.fromkeys(chain.name for chain in model))
            raise ValueError(f"{path}: no chain {pattern!r}, the file has {names}")
    return [chain for chain in model if any(fnmatchcase(chain.name, pattern) for pattern in patterns)]


def _residues(chains: list[Any]) -> Iterator[tuple[Any, list[tuple[list[float], int]]]]:
    """Yield each residue but waters with its atoms (position, atomic number), of alternatives the first."""
    for chain in chains:
        place = kept = None
        for residue in chain:
            if residue.is_water():
                continue
            if residue.seqid != place:  # residues that share a place are alternatives too
                place, kept = residue.seqid, None
            atoms = []
            for atom in residue:
                if atom.altloc != "\0":
                    kept = kept or atom.altloc
                    if atom.altloc != kept:
                        continue
                atoms.append((atom.pos.tolist(), atom.element.atomic_number))
            yield residue, atoms


def _residue_mass(residue: Any, found: float) -> float:
    """Mass in Da of a residue in its chain; `found`, that of its atoms in the file, where no table knows it."""
    info = gemmi.find_tabulated_residue(residue.name)
    if info.is_amino_acid() or info.is_nucleic_acid():
        return float(info.weight) - _WATER_DA
    if all(atom.name == "CA" and atom.element.name == "C" for atom in residue):
        return _MEAN_RESIDUE_DA * len(residue)
    return found


def _electron_factor(number: int, path: Path) -> float:
    element = gemmi.Element(number)
    if element.c4322 is None:
        raise ValueError(f"{path}: no electron scattering factor for element {element.name}, use weights='mass'")
    return float(element.c4322.calculate_sf(0.0))
