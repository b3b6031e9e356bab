"""Atoms to density against closed forms and gemmi's own density calculator."""

from __future__ import annotations

import math

import gemmi
import numpy as np
import pytest
import torch

from monai_cryo.physics.density import SIGMA_PER_RESOLUTION, SPLAT_VARIANCE, atoms_to_density

VOXEL = (2.0, 3.0, 4.0)
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def moments(density, voxel_size):
    """Total, mean and variance per axis of a density, Å relative to the centre voxel."""
    total = density.sum()
    grids = torch.meshgrid(
        *[(torch.arange(n) - n // 2) * v for n, v in zip(density.shape, voxel_size, strict=True)], indexing="ij"
    )
    mean = torch.stack([(density * g).sum() / total for g in grids])
    variance = torch.stack([(density * (g - m) ** 2).sum() / total for g, m in zip(grids, mean, strict=True)])
    return total, mean, variance


def cloud(n=500, extent=(8.0, 12.0, 20.0), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    positions = (torch.rand(n, 3, generator=generator, dtype=torch.float64) - 0.5) * torch.tensor(extent)
    return positions.to(dtype), torch.rand(n, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("shape", [(7, 8, 9), (8, 7, 6), (1, 1, 1)])
def test_an_atom_at_the_origin_fills_the_centre_voxel(shape):
    density = atoms_to_density(torch.zeros(1, 3), torch.tensor([3.0]), shape, VOXEL)
    expected = torch.zeros(shape)
    expected[shape[0] // 2, shape[1] // 2, shape[2] // 2] = 3.0
    torch.testing.assert_close(density, expected)


def test_an_atom_between_voxels_is_shared_linearly_along_z_y_x():
    density = atoms_to_density(torch.tensor([[0.25, 0.5, 1.0]]), torch.ones(1), (6, 6, 6), 2.0)
    z, y, x = torch.tensor([0.875, 0.125]), torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
    expected = torch.zeros(6, 6, 6)
    expected[3:5, 3:5, 3:5] = torch.einsum("i,j,k->ijk", z, y, x)
    torch.testing.assert_close(density, expected)


@pytest.mark.parametrize("corner", [(0, 0, 0), (6, 7, 8), (6, 0, 8)])
def test_the_corners_of_the_box_are_inside(corner):
    shape = (7, 8, 9)
    position = torch.tensor([[(c - n // 2) * v for c, n, v in zip(corner, shape, VOXEL, strict=True)]])
    density = atoms_to_density(position, torch.ones(1), shape, VOXEL)
    assert density[corner] == pytest.approx(1, abs=1e-5)
    assert density.sum() == pytest.approx(1, abs=1e-5)


def test_splat_keeps_mass_and_centre_and_adds_its_variance():
    positions, weights = cloud(200_000)
    total, mean, variance = moments(atoms_to_density(positions, weights, (12, 12, 12), VOXEL), VOXEL)
    share = (weights / weights.sum())[:, None]
    truth = (share * positions).sum(0)
    spread = (share * (positions - truth) ** 2).sum(0)
    torch.testing.assert_close(total, weights.sum())
    torch.testing.assert_close(mean, truth, atol=1e-9, rtol=0)
    added = (variance - spread) / torch.tensor(VOXEL, dtype=torch.float64) ** 2
    torch.testing.assert_close(added, torch.full((3,), SPLAT_VARIANCE, dtype=torch.float64), atol=2e-3, rtol=0)


@pytest.mark.parametrize("convention", ["pdb2vol", "molmap"])
@pytest.mark.parametrize("resolution", [2.0, 6.0, 15.0])
def test_gaussian_keeps_mass_and_centre_and_adds_exactly_its_variance(convention, resolution):
    positions, weights = cloud()
    shape = (48, 40, 40)
    sharp = moments(atoms_to_density(positions, weights, shape, VOXEL), VOXEL)
    blurred = atoms_to_density(positions, weights, shape, VOXEL, resolution_a=resolution, convention=convention)
    assert blurred.min() >= 0
    total, mean, variance = moments(blurred, VOXEL)
    sigma = {"pdb2vol": 0.289, "molmap": 0.225}[convention] * resolution
    torch.testing.assert_close(total, sharp[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(mean, sharp[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(variance - sharp[2], torch.full_like(variance, sigma**2), rtol=3e-3, atol=0)


@pytest.mark.parametrize("sigma_vox", [1.0, 1.7, 2.5])
def test_gaussian_of_one_atom_is_the_closed_form(sigma_vox):
    v, shape = 3.0, (21, 24, 25)
    resolution = sigma_vox * v / SIGMA_PER_RESOLUTION["molmap"]
    atom = torch.tensor([[3.0, -6.0, 0.0]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    density = atoms_to_density(atom, one, shape, v, resolution_a=resolution, convention="molmap")
    z, y, x = torch.meshgrid(*[(torch.arange(n).double() - n // 2) * v for n in shape], indexing="ij")
    r2 = (z - 3.0) ** 2 + (y + 6.0) ** 2 + x**2
    sigma = sigma_vox * v
    expected = torch.exp(-r2 / (2 * sigma**2)) * v**3 / (2 * math.pi * sigma**2) ** 1.5
    torch.testing.assert_close(density, expected, atol=1e-6 * expected.max().item(), rtol=0)


def test_gaussian_does_not_wrap_round():
    atom = torch.tensor([[-16.0, 0.0, 0.0]])
    density = atoms_to_density(atom, torch.ones(1), (16, 16, 16), 2.0, resolution_a=14.0)
    assert density[0, 8, 8] == density.max()
    assert density[-1].max() < 1e-6 * density.max()


def test_lattice_correction_gives_the_variance_asked_for():
    positions, weights = cloud(200_000)
    for resolution in (12.0, 20.0):
        options = {"resolution_a": resolution, "lattice_correction": True}
        _, _, variance = moments(atoms_to_density(positions, weights, (50, 40, 40), VOXEL, **options), VOXEL)
        share = (weights / weights.sum())[:, None]
        spread = (share * (positions - (share * positions).sum(0)) ** 2).sum(0)
        sigma2 = torch.full_like(variance, (0.5 * resolution) ** 2 / 3)
        torch.testing.assert_close(variance - spread, sigma2, rtol=5e-3, atol=0)


def test_pdb2vol_applies_no_gaussian_at_resolution_equal_to_the_voxel():
    positions, weights = cloud()
    splat = atoms_to_density(positions, weights, (20, 20, 20), 3.0)
    for resolution, same in ((3.0, True), (3.0 * 1.414, True), (3.0 * 1.42, False)):
        options = {"resolution_a": resolution, "lattice_correction": True}
        corrected = atoms_to_density(positions, weights, (20, 20, 20), 3.0, **options)
        assert torch.equal(corrected, splat) is same
    assert not torch.equal(atoms_to_density(positions, weights, (20, 20, 20), 3.0, resolution_a=3.0), splat)


@pytest.mark.parametrize("resolution", [None, 9.0])
def test_a_batch_equals_its_items_and_pads_count_for_nothing(resolution):
    first, second = cloud(60, seed=1), cloud(35, seed=2)
    positions = torch.full((2, 60, 3), 1e6, dtype=torch.float64)
    positions[1, 40:] = torch.nan
    weights = torch.zeros(2, 60, dtype=torch.float64)
    for i, (p, w) in enumerate((first, second)):
        positions[i, : len(p)], weights[i, : len(w)] = p, w
    batch = atoms_to_density(positions, weights, (16, 14, 12), VOXEL, resolution_a=resolution)
    assert batch.shape == (2, 16, 14, 12)
    for i, (p, w) in enumerate((first, second)):
        torch.testing.assert_close(batch[i], atoms_to_density(p, w, (16, 14, 12), VOXEL, resolution_a=resolution))


def test_leading_dimensions_broadcast():
    positions, weights = cloud(40)
    poses = torch.stack([positions, -positions, positions.flip(0)]).reshape(3, 1, 40, 3)
    density = atoms_to_density(poses, weights, (12, 12, 12), VOXEL)
    assert density.shape == (3, 1, 12, 12, 12)
    torch.testing.assert_close(density[1, 0], atoms_to_density(-positions, weights, (12, 12, 12), VOXEL))


def test_gradients_match_finite_differences():
    positions, weights = cloud(6, extent=(4.0, 4.0, 4.0))

    def f(p, w):
        return atoms_to_density(p, w, (6, 6, 6), 2.0, resolution_a=5.0).square().sum()

    assert torch.autograd.gradcheck(f, (positions.requires_grad_(), weights.requires_grad_()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_dtype_and_device_follow_the_positions(dtype, device):
    positions, weights = cloud(dtype=dtype)
    density = atoms_to_density(positions.to(device), weights.to(device), (20, 20, 20), 3.0, resolution_a=9.0)
    assert (density.dtype, density.device.type) == (dtype, device)
    exact = atoms_to_density(*cloud(), (20, 20, 20), 3.0, resolution_a=9.0)
    torch.testing.assert_close(density.cpu().double(), exact, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions_a": torch.tensor([[0.0, 0, 0], [10.0, 0, 0]])}, r"1 of 2 atoms .*\(8, 8, 8\).*\(11, 1, 1\)"),
        ({"positions_a": torch.tensor([[0.0, 8, 0], [0.0, -2, 7.9]])}, r"2 of 2 atoms .*\(1, 9, 9\)"),
        ({"positions_a": torch.tensor([[0.0, torch.nan, 0]] * 2)}, "positions_a must be finite"),
        ({"positions_a": torch.zeros(2, 2)}, r"positions_a must be floating point .*\(2, 2\)"),
        ({"positions_a": torch.zeros(2, 3, dtype=torch.long)}, "positions_a must be floating point .*int64"),
        ({"shape": (8, 8)}, "shape must be three"),
        ({"shape": (8, 8, 0)}, "shape must be three"),
        ({"voxel_size": 0.0}, "voxel_size must be > 0"),
        ({"voxel_size": (1.0, 2.0)}, "voxel_size must be > 0"),
        ({"resolution_a": 0.0}, "resolution_a must be > 0"),
        ({"resolution_a": math.nan}, "resolution_a must be > 0"),
        ({"convention": "eman"}, "convention must be one of pdb2vol, molmap, got 'eman'"),
    ],
)
def test_refusals_name_the_argument(change, message):
    arguments = {"positions_a": torch.zeros(2, 3), "weights": torch.ones(2), "shape": (8, 8, 8), "voxel_size": 2.0}
    with pytest.raises(ValueError, match=message) as error:
        atoms_to_density(**(arguments | change))
    assert "\n" not in str(error.value)


def test_the_box_it_asks_for_is_enough_and_the_smallest():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        atoms = (torch.rand(4, 3, generator=generator) - 0.5) * 30
        with pytest.raises(ValueError, match="expected at least") as error:
            atoms_to_density(atoms, torch.ones(4), (1, 1, 1), VOXEL)
        needed = [int(n) for n in str(error.value).split("(")[-1].strip(")").split(",")]
        assert atoms_to_density(atoms, torch.ones(4), needed, VOXEL).sum() == pytest.approx(4.0)
        for axis in range(3):
            smaller = [n - (i == axis) for i, n in enumerate(needed)]
            with pytest.raises(ValueError, match=r"outside the box|shape must be"):
                atoms_to_density(atoms, torch.ones(4), smaller, VOXEL)


@pytest.mark.parametrize(("voxel_size", "sigma"), [(3.0, 4.0), (5.0, 5.0), (13.68, 8.0)])
def test_agrees_with_gemmi(shared_data, voxel_size, sigma):
    """gemmi spreads each atom by its electron form factor and a B factor, here matched in total variance."""
    model = gemmi.read_structure(str(shared_data / "structures" / "1oel.pdb.gz"))[0]
    atoms = [cra.atom for cra in model.all() if cra.atom.element.name != "H"]
    centre = np.mean([a.pos.tolist() for a in atoms], axis=0)
    n = 2 * math.ceil(110 / voxel_size)

    calculator = gemmi.DensityCalculatorE()
    calculator.grid.set_unit_cell(gemmi.UnitCell(n * voxel_size, n * voxel_size, n * voxel_size, 90, 90, 90))
    calculator.grid.set_size(n, n, n)
    calculator.grid.spacegroup = gemmi.SpaceGroup("P1")
    for atom in atoms:
        atom.pos = gemmi.Position(*(np.array(atom.pos.tolist()) - centre + voxel_size * (n // 2)))
        atom.b_iso, atom.occ = 8 * math.pi**2 * sigma**2, 1.0
    calculator.add_model_density_to_grid(model)
    reference = torch.from_numpy(calculator.grid.array.copy()).permute(2, 1, 0)

    positions = torch.tensor(np.array([a.pos.tolist() for a in atoms])[:, ::-1].copy() - voxel_size * (n // 2))
    weights = torch.tensor([a.element.c4322.calculate_sf(0.0) for a in atoms])
    resolution = sigma / SIGMA_PER_RESOLUTION["molmap"]
    options = {"resolution_a": resolution, "convention": "molmap", "lattice_correction": True}
    density = atoms_to_density(positions.float(), weights, (n,) * 3, voxel_size, **options)
    correlation = torch.corrcoef(torch.stack([density.flatten(), reference.flatten()]))[0, 1]
    assert correlation > 0.99


@pytest.mark.parametrize("voxel_size", [np.float32(4), np.full(3, 4.0), np.array(4), torch.tensor(4.0), (4, 4, 4)])
def test_voxel_size_may_be_numpy_or_torch(voxel_size):
    atoms = torch.tensor([[1.0, 2.0, -3.0], [0.0, -5.0, 4.0]])
    density = atoms_to_density(atoms, torch.ones(2), (9, 9, 9), voxel_size, resolution_a=8.0)
    torch.testing.assert_close(density, atoms_to_density(atoms, torch.ones(2), (9, 9, 9), 4.0, resolution_a=8.0))
