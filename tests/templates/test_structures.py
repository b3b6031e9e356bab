"""Structures read from small files written here, and from real entries."""

from __future__ import annotations

import gzip

import gemmi
import numpy as np
import pytest
import torch

from monai_cryo.physics.density import atoms_to_density
from monai_cryo.templates.structures import density_from_structure, read_structure


def line(
    n=1, name=" CA ", residue="ALA", chain="A", seq=1, xyz=(0, 0, 0), element="C", alt=" ", occ=1.0, record="ATOM"
):
    x, y, z = xyz
    return (
        f"{record:6}{n:5d} {name:4}{alt}{residue:>3}{chain:>2}{seq:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occ:6.2f}  0.00          {element:>2}"
    )


def write(path, *lines):
    text = "\n".join([*lines, "END", ""]).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


HETERO = {"residue": "LIG", "record": "HETATM"}
TWO = [
    line(1, " C1 ", xyz=(1, 2, 3), **HETERO),
    line(2, " O1 ", xyz=(5, 2, 3), element="O", **HETERO),
]


@pytest.mark.parametrize("name", ["a.pdb", "a.ent", "a.pdb.gz", "a.cif", "a.cif.gz", "a.dat"])
def test_positions_are_z_y_x_about_the_centre_of_mass(tmp_path, name):
    path = write(tmp_path / "a.pdb", *TWO)
    if ".cif" in name:
        text = gemmi.read_structure(str(path)).make_mmcif_document().as_string().encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    else:
        write(tmp_path / name, *TWO)
    atoms = read_structure(tmp_path / name)
    carbon, oxygen = 12.0107, 15.9994
    x = torch.tensor([-4 * oxygen, 4 * carbon]) / (carbon + oxygen)
    torch.testing.assert_close(atoms.positions_a, torch.stack([0 * x, 0 * x, x], dim=1))
    torch.testing.assert_close(atoms.weights, torch.tensor([carbon, oxygen]))
    assert atoms.positions_a.dtype == atoms.weights.dtype == torch.float32
    assert atoms.mass_kda == pytest.approx((carbon + oxygen) / 1000)
    assert atoms.extent_a == (0.0, 0.0, 4.0)
    assert atoms.radius_a == pytest.approx(4 * oxygen / (carbon + oxygen))
    assert atoms.source == str(tmp_path / name)


@pytest.mark.parametrize("found", ["********", "   1.0 2", "     abc", "        "])
def test_coordinates_that_are_no_numbers_are_refused(tmp_path, found):
    broken = TWO[1][:38] + found + TWO[1][46:]
    with pytest.raises(ValueError, match=r"a\.pdb: line 2: a coordinate is a number, got"):
        read_structure(write(tmp_path / "a.pdb", TWO[0], broken))


def test_weights(tmp_path):
    path = write(tmp_path / "a.pdb", *TWO)
    assert read_structure(path, weights="atomic_number").weights.tolist() == [6, 8]
    electron = read_structure(path, weights="electron").weights
    torch.testing.assert_close(electron, torch.tensor([2.509, 1.983]), atol=1e-3, rtol=0)  # Peng's f(0)
    with pytest.raises(ValueError, match="weights must be one of mass, atomic_number, electron, got 'charge'"):
        read_structure(path, weights="charge")


def test_hydrogens_waters_and_alternatives_are_dropped_but_hydrogens_weigh(tmp_path):
    path = write(
        tmp_path / "a.pdb",
        *TWO,
        line(3, " H1 ", xyz=(1, 3, 3), element="H", **HETERO),
        line(4, " D1 ", xyz=(1, 1, 3), element="D", **HETERO),
        line(5, " O  ", "HOH", seq=2, element="O", record="HETATM"),
        line(6, " N1 ", seq=3, xyz=(1, 1, 1), element="N", alt="A", occ=0.4, **HETERO),
        line(7, " N1 ", seq=3, xyz=(2, 2, 2), element="N", alt="B", occ=0.6, **HETERO),
        line(8, " O1 ", seq=3, xyz=(4, 4, 4), element="O", **HETERO),
        line(9, " S1 ", "LIH", seq=3, xyz=(2, 2, 2), element="S", alt="B", occ=0.6, record="HETATM"),
    )
    atoms = read_structure(path, weights="atomic_number")
    assert atoms.weights.tolist() == [6, 8, 7, 8]
    assert atoms.positions_a[2, 0] - atoms.positions_a[0, 0] == pytest.approx(-2)
    assert atoms.mass_kda * 1000 == pytest.approx(12.0107 + 2 * 15.9994 + 14.0067 + 2 * 1.00794, abs=1e-3)


def test_residues_weigh_what_they_weigh_in_their_chain(tmp_path):
    full = [line(i, f" {n:3}", xyz=(i, 0, 0), element=n[0]) for i, n in enumerate(["N", "CA", "C", "O", "CB"], 1)]
    trace = [line(6, xyz=(6, 0, 0), seq=2, residue="TRP"), line(7, xyz=(7, 0, 0), seq=9, residue="BEA")]
    calcium = line(8, "CA  ", residue="CA", seq=10, element="CA", record="HETATM", xyz=(9, 0, 0))
    atoms = read_structure(write(tmp_path / "a.pdb", *full, *trace, calcium))
    alanine, tryptophan, bead = 71.08, 186.21, 110.0  # residue masses of the textbooks
    assert atoms.weights[:5].sum() == pytest.approx(alanine, abs=0.02)
    assert atoms.weights[0] / atoms.weights[1] == pytest.approx(14.0067 / 12.0107)
    assert atoms.weights[5:].tolist() == pytest.approx([tryptophan, bead, 40.08], abs=0.02)


def test_beads_that_share_name_and_number_are_all_kept(tmp_path):
    beads = [line(i, residue="BEA", xyz=(i, 0, 0)) for i in range(5)]
    atoms = read_structure(write(tmp_path / "a.pdb", *beads))
    assert len(atoms.weights) == 5
    assert atoms.mass_kda == pytest.approx(0.55, rel=0.01)


def chains_file(tmp_path):
    return write(tmp_path / "a.pdb", *[line(i, chain=c, xyz=(i, 0, 0)) for i, c in enumerate(["AA", "AB", "B", "CA"])])


@pytest.mark.parametrize(
    ("chains", "n"), [(None, 4), ("A*", 2), ("AA", 1), (["B", "C?"], 2), (("A*", "AA"), 2), ("?A", 2)]
)
def test_chains(tmp_path, chains, n):
    assert len(read_structure(chains_file(tmp_path), chains=chains).weights) == n


@pytest.mark.parametrize("chains", ["D", ["AA", "D*"], [], "a*"])
def test_unknown_chains_list_the_known(tmp_path, chains):
    with pytest.raises(ValueError, match=r"a\.pdb: no chain .*the file has AA, AB, B, CA$"):
        read_structure(chains_file(tmp_path), chains=chains)


def test_assembly(tmp_path):
    remark = [
        "REMARK 350 BIOMOLECULE: 1",
        "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A",
        "REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000",
        "REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000",
        "REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000",
        "REMARK 350   BIOMT1   2 -1.000000  0.000000  0.000000        0.00000",
        "REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000        0.00000",
        "REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000",
    ]
    path = write(tmp_path / "a.pdb", *remark, line(1, xyz=(10, 0, 0)), line(2, xyz=(11, 0, 0), chain="B"))
    assert len(read_structure(path).weights) == 2
    for name in ("1", 1):
        atoms = read_structure(path, assembly=name, chains="A")
        torch.testing.assert_close(atoms.positions_a, torch.tensor([[0.0, 0, 10], [0, 0, -10]]))
    with pytest.raises(ValueError, match=r"a\.pdb: no assembly '2', the file has 1$"):
        read_structure(path, assembly=2)
    with pytest.raises(ValueError, match=r"no assembly '1', the file has none$"):
        read_structure(write(tmp_path / "b.pdb", *TWO), assembly="1")


def test_only_the_first_model_counts(tmp_path):
    path = write(tmp_path / "a.pdb", "MODEL        1", TWO[0], "ENDMDL", "MODEL        2", *TWO, "ENDMDL")
    assert len(read_structure(path).weights) == 1


def refusals():
    yield "empty.pdb", b"", "expected a PDB or mmCIF"
    yield "text.pdb", b"hello\nworld\n", "holds no atoms"
    yield "no.cif", b"data_x\n_a.b 1\n", "holds no atoms"
    yield "bad.cif", b"data_x\nloop_\n_a.b\n_a.c\n1\n", "expected a PDB or mmCIF"
    yield "noise.pdb", bytes(range(256)) * 9, "expected a PDB or mmCIF"
    yield "cut.pdb.gz", gzip.compress(("\n".join(TWO) * 50).encode())[:-20], "expected a PDB or mmCIF"
    yield "short.pdb", TWO[0][:40].encode(), "too short"
    yield "water.pdb", line(1, " O  ", "HOH", element="O").encode(), "no atoms left"
    yield "hydrogen.pdb", line(1, " H  ", element="H").encode(), "no atoms left"
    odd = line(2, " QQ ", element="Qq", seq=2)
    yield "element.pdb", f"{TWO[0]}\n{odd}".encode(), "unknown element of atom 'QQ' in residue ALA 2"
    yield "nan.pdb", line(1).replace("   0.000", "     nan", 1).encode(), "1 atoms have coordinates not finite"
    yield "far.pdb", (line(1) + "\n" + line(2, xyz=(0, 6000, 0))).encode(), "coordinates span 6000 Å, expected at most"


@pytest.mark.parametrize(("name", "content", "text"), list(refusals()), ids=lambda v: v if isinstance(v, str) else "")
def test_bad_files_are_one_line_that_names_them(tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=text) as error:
        read_structure(tmp_path / name)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.pdb: no such file"):
        read_structure(tmp_path / "no.pdb")
    with pytest.raises(ValueError, match="expected a PDB or mmCIF"):
        read_structure(tmp_path)


def test_density_is_that_of_the_atoms_and_knows_its_box(tmp_path):
    path = write(tmp_path / "a.pdb", *TWO)
    options = {"resolution_a": 6.0, "convention": "molmap", "lattice_correction": True}
    density = density_from_structure(path, (9, 10, 11), 2.0, weights="electron", **options)
    atoms = read_structure(path, weights="electron")
    assert density.shape == (9, 10, 11)
    torch.testing.assert_close(density, atoms_to_density(atoms.positions_a, atoms.weights, (9, 10, 11), 2.0, **options))
    path = write(tmp_path / "b.pdb", line(1, xyz=(0, 1, 2)), line(2, xyz=(5, 8, 12), seq=2))
    with pytest.raises(ValueError, match=r"b\.pdb: 2 of 2 atoms lie outside the box .*at least \(11, 9, 7\)"):
        density_from_structure(path, (3, 3, 1), 1.0)


@pytest.mark.parametrize(
    ("name", "options", "n", "kda", "extent"),
    [  # masses of what is modelled: residues x textbook residue masses; lengths from the literature, Å
        ("4v5d.cif.gz", {}, 148_020, (2100, 2400), (200, 280)),
        ("4v8r_h36.pdb.gz", {"chains": "A*"}, 64_390, (880, 980), (150, 190)),
        ("3j9i.pdb.gz", {}, 46_228, (630, 730), (115, 180)),
        ("1oel.pdb.gz", {}, 26_929, (370, 410), (70, 150)),
        ("1bxn.pdb.gz", {"assembly": "1"}, 36_288, (500, 560), (120, 135)),
        ("26S-PIPs_model1_CA_partial.pdb.gz", {}, 8_887, (900, 1100), (200, 280)),
        ("derived_26S_singlecap_composite_CA.pdb.gz", {}, 13_000, (700, 800), (200, 330)),
        ("bilayer_DOPC.pdb.gz", {}, 6_912, (100, 101), (50, 85)),  # 128 x 786.1 Da
        ("4v1w.cif.gz", {}, 32_736, (440, 500), (115, 130)),
    ],
)
def test_real_entries(shared_data, name, options, n, kda, extent):
    atoms = read_structure(shared_data / "structures" / name, **options)
    assert len(atoms.weights) == len(atoms.positions_a) == n
    assert kda[0] < atoms.mass_kda < kda[1]
    assert all(extent[0] < e < extent[1] for e in atoms.extent_a)
    if name.startswith("bilayer"):
        assert atoms.mass_kda == pytest.approx(128 * 786.113 / 1000, rel=1e-3)


def test_every_shared_structure_loads(shared_data):
    paths = sorted((shared_data / "structures").glob("*.gz"))
    assert len(paths) > 15
    for path in paths:
        if path.name.startswith("4v5d"):  # read above, and slow to parse
            continue
        assert len(read_structure(path).weights) > 1000


def test_a_density_computed_elsewhere_agrees(shared_data):
    """polnet's map of the same entry, found by an exhaustive shift: the handedness and axis order are right."""
    from monai_cryo.io.mrc import read_mrc

    map_, voxel_size, _ = read_mrc(shared_data / "maps" / "polnet10A_1u6g.mrc.gz")
    path = shared_data / "structures" / "1u6g.pdb.gz"
    density = density_from_structure(path, map_.shape, voxel_size, resolution_a=20.0).numpy()

    def best(volume):
        a, b = (np.fft.rfftn(v - v.mean()) for v in (volume, map_))
        product = np.fft.irfftn(a.conj() * b, s=map_.shape, axes=(0, 1, 2))
        return product.max() / (volume.std() * map_.std() * map_.size)

    assert best(density) > 0.9
    assert best(density) > best(density[:, :, ::-1]) + 0.05
    assert best(density) > best(density.transpose(2, 1, 0)) + 0.05
