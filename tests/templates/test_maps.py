from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from monai_cryo.io.mrc import write_mrc
from monai_cryo.templates import density_from_map, threshold_level


def gaussians(shape, voxel_size, centres_a, sigmas_a, heights):
    """Sum of Gaussians at positions in Å from voxel N // 2: band-limited enough to know it on any grid."""
    spacing = np.broadcast_to(voxel_size, 3)
    axes = [(np.arange(n) - n // 2) * v for n, v in zip(shape, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    out = np.zeros(shape)
    for (cz, cy, cx), sigma, height in zip(centres_a, sigmas_a, heights, strict=True):
        out += height * np.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / 2 / sigma**2)
    return out.astype(np.float32)


BLOBS = {"centres_a": [(0, 0, 0), (30, -40, 20), (-20, 30, 45)], "sigmas_a": [28, 26, 25], "heights": [1.0, 0.8, 0.9]}


def moved(blobs, by):
    return blobs | {"centres_a": [tuple(np.add(c, by)) for c in blobs["centres_a"]]}


def centre_of_mass_a(density, mask, voxel_size):
    inside = np.where(mask, density, 0).astype(float)
    where = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in density.shape], indexing="ij"), -1)
    return (where * inside[..., None]).sum((0, 1, 2)) / inside.sum() * voxel_size


def save(tmp_path, array, voxel_size, name="map.mrc"):
    write_mrc(tmp_path / name, np.asarray(array, np.float32), voxel_size, overwrite=True)
    return tmp_path / name


@pytest.mark.parametrize("source", [5.0, 8.66, 13.0, (8.0, 10.0, 12.0)])
@pytest.mark.parametrize("contrast", ["bright", "dark"])
def test_resampling_gives_the_function_at_the_new_positions(tmp_path, source, contrast):
    shape = tuple(int(420 / v) for v in np.broadcast_to(source, 3))
    array = 7.0 + (1 if contrast == "bright" else -1) * gaussians(shape, source, **moved(BLOBS, (22, -17, 5)))
    density, mask = density_from_map(
        save(tmp_path, array, source), (31,) * 3, 13.68, contrast=contrast, threshold="fraction:0.1"
    )
    assert density.shape == mask.shape == (31, 31, 31)
    assert density.dtype == torch.float32
    assert mask.dtype == torch.bool
    np.testing.assert_allclose(centre_of_mass_a(density.numpy(), mask.numpy(), 13.68), 0, atol=0.7)
    # the same blobs, directly on the target grid around their own centre
    fine = gaussians((105,) * 3, 4.0, **BLOBS)
    centre = centre_of_mass_a(fine, fine > 0.1 * fine.max(), 4.0)
    expected = gaussians((31,) * 3, 13.68, **moved(BLOBS, -centre))
    np.testing.assert_allclose(density.numpy()[mask], expected[mask], atol=0.04)
    assert np.corrcoef(density.numpy().ravel(), expected.ravel())[0, 1] > 0.998


def test_a_map_of_the_right_voxel_size_is_only_moved_by_whole_voxels(tmp_path):
    rng = np.random.default_rng(0)
    array = np.zeros((24, 22, 20), np.float32)
    array[3:9, 10:15, 4:11] = rng.uniform(0.5, 1, (6, 5, 7))
    density, mask = density_from_map(save(tmp_path, array, 13.68), (16,) * 3, 13.68)
    found = np.argwhere(mask.numpy())
    low, high = found.min(0), found.max(0) + 1
    np.testing.assert_array_equal(
        density.numpy()[low[0] : high[0], low[1] : high[1], low[2] : high[2]], array[3:9, 10:15, 4:11]
    )
    assert density.sum() == pytest.approx(array.sum(), rel=1e-6)
    assert np.abs(centre_of_mass_a(density.numpy(), mask.numpy(), 1.0)).max() <= 0.501


def test_tight_box_keeps_the_centre_and_a_margin(tmp_path):
    path = save(tmp_path, gaussians((41,) * 3, 10.0, **BLOBS), 10.0)
    tight, mask = density_from_map(path, None, 13.68)
    full, full_mask = density_from_map(path, (40,) * 3, 13.68)
    assert all(n % 2 for n in tight.shape)
    assert max(tight.shape) < 40
    slices = tuple(slice(20 - n // 2, 20 + n // 2 + 1) for n in tight.shape)
    assert torch.equal(full[slices], tight)
    assert torch.equal(full_mask[slices], mask)
    assert full.count_nonzero() == tight.count_nonzero()
    assert all(tight.select(axis, i).max() == 0 for axis in range(3) for i in (0, -1))


def test_what_is_finer_than_the_new_grid_does_not_alias(tmp_path):
    blob = gaussians((80,) * 3, 5.0, [(0, 0, 0)], [50], [1.0])
    stripes = 1 + 0.5 * np.cos(2 * np.pi * 5.0 * np.arange(80) / 15.0)  # 15 Å period, Nyquist of 13.68 Å is 27 Å
    smooth, _ = density_from_map(save(tmp_path, blob, 5.0), (31,) * 3, 13.68)
    striped, _ = density_from_map(save(tmp_path, blob * stripes, 5.0), (31,) * 3, 13.68)
    assert (smooth - striped).abs().max() < 0.02


def test_resolution_lowers_the_cutoff(tmp_path):
    path = save(tmp_path, gaussians((41,) * 3, 10.0, [(0, 0, 0)], [12], [1.0]), 10.0)
    sharp, _ = density_from_map(path, (31,) * 3, 10.0)
    blurred, _ = density_from_map(path, (31,) * 3, 10.0, resolution_a=60.0)
    assert sharp.max() == pytest.approx(1.0, abs=1e-4)
    assert blurred.max() < 0.7


def test_thresholds():
    density = np.zeros((20, 20, 20), np.float32)
    density[5:15, 5:15, 5:15] = 1 + np.random.default_rng(1).uniform(0, 0.1, (10, 10, 10))
    density[5:10, 5:15, 5:15] *= 3
    assert threshold_level(density, "fraction:0.25", 10.0) == pytest.approx(0.25 * density.max())
    assert threshold_level(density, "level:0.7", 10.0) == 0.7
    otsu = threshold_level(density, "otsu", 10.0)
    assert (density >= otsu).sum() == 500
    # 500 voxels of 1000 Å^3 at 1.21 Å^3/Da
    mass = threshold_level(density, f"mass:{500 * 1000 / 1210}", 10.0)
    assert (density >= mass).sum() == 500


def test_otsu_of_a_map_that_is_a_mask_is_its_value():
    ball = np.zeros((12, 12, 12), np.float32)
    ball[4:8, 4:8, 4:8] = 0.1
    assert (ball >= threshold_level(ball, "otsu", 10.0)).sum() == 64


def test_otsu_maximises_the_variance_between_classes():
    values = np.random.default_rng(2).gamma(3.0, 1.0, (12, 12, 12)).astype(np.float32)
    used = values[values > 0.01 * values.max()]

    def between(level):
        low, high = used[used < level], used[used >= level]
        return len(low) * len(high) * (high.mean() - low.mean()) ** 2

    levels = np.quantile(used, np.linspace(0.02, 0.98, 300))
    assert between(threshold_level(values, "otsu", 10.0)) > 0.999 * max(map(between, levels))


@pytest.mark.parametrize(
    "rule", ["fraction", "fraction:2", "fraction:x", "mass:-3", "otsu:1", "half", "level:nan", "mass:1e9", ""]
)
def test_bad_rule(rule):
    with pytest.raises(ValueError, match=r"threshold") as error:
        threshold_level(np.ones((4, 4, 4), np.float32), rule, 10.0)
    assert repr(rule) in str(error.value)


def test_level_is_in_the_units_of_the_file(tmp_path):
    array = 5.0 - gaussians((31,) * 3, 13.68, [(0, 0, 0)], [50], [2.0])
    _, mask = density_from_map(save(tmp_path, array, 13.68), (31,) * 3, 13.68, threshold="level:4.0", contrast="dark")
    clear = np.abs(array - 4.0) > 1e-5
    np.testing.assert_array_equal(mask.numpy()[clear], (array <= 4.0)[clear])


def test_two_bodies_are_reported_and_dust_is_dropped(tmp_path):
    array = gaussians((41,) * 3, 13.68, [(0, 0, -130), (0, 0, 130)], [30, 30], [1.0, 0.9])
    with pytest.warns(UserWarning, match="2 separate bodies"):
        density_from_map(save(tmp_path, array, 13.68), (40,) * 3, 13.68)
    dusty = gaussians((41,) * 3, 13.68, [(0, 0, 0)], [40], [1.0])
    dusty[2, 2, 2] = 0.8
    density, mask = density_from_map(save(tmp_path, dusty, 13.68), (41,) * 3, 13.68)
    assert density[2, 2, 2] == 0
    assert not mask[2, 2, 2]


def test_too_large_for_the_box(tmp_path):
    long = np.zeros((40, 20, 20), np.float32)
    long[4:36, 6:14, 6:14] = 1
    path = save(tmp_path, long, 13.68)
    with pytest.raises(ValueError, match=r"map\.mrc: the particle needs a box of 33 voxels .*, got \[30, 30, 30\]"):
        density_from_map(path, (30,) * 3, 13.68)
    with pytest.warns(UserWarning, match="rotated, the box of 33 cuts it"):
        density_from_map(path, (33,) * 3, 13.68)


def test_voxel_size_from_the_header_the_argument_or_assumed(tmp_path):
    array = gaussians((31,) * 3, 13.68, [(0, 0, 0)], [50], [2.0])
    right, _ = density_from_map(save(tmp_path, array, 13.68), (31,) * 3, 13.68)
    wrong = save(tmp_path, array, 1.0)
    with pytest.warns(UserWarning, match="voxel size 1.0"), pytest.raises(ValueError, match="threshold"):
        density_from_map(wrong, (31,) * 3, 13.68, threshold="mass:1000")
    overridden, _ = density_from_map(wrong, (31,) * 3, 13.68, source_voxel_size=13.68)
    assert torch.equal(overridden, right)
    data = bytearray(wrong.read_bytes())
    data[40:52] = bytes(12)  # cell dimensions: 0 = unknown
    wrong.write_bytes(data)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assumed, _ = density_from_map(wrong, (31,) * 3, 13.68)
    assert any("taken as 13.68 Å" in str(w.message) for w in seen)
    assert torch.equal(assumed, right)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((8, 8, 8)), r"map\.mrc: constant map, every voxel is 0"),
        (np.full((8, 8, 8), 3.0), r"map\.mrc: constant map, every voxel is 3"),
    ],
)
def test_not_a_density(tmp_path, array, message):
    with pytest.raises(ValueError, match=message):
        density_from_map(save(tmp_path, array, 13.68), None, 13.68)


def test_nan_missing_and_other_bad_arguments(tmp_path):
    path = save(tmp_path, gaussians((21,) * 3, 13.68, [(0, 0, 0)], [40], [1.0]), 13.68)
    with pytest.raises(ValueError, match=r"map\.mrc: contrast must be dark or bright .*, got 'inverted'"):
        density_from_map(path, None, 13.68, contrast="inverted")
    with pytest.raises(
        ValueError,
        match=r"threshold, [0-9.]+ above the background, puts 0 of 9261 voxels inside; the maximum is 0.9999",
    ):
        density_from_map(path, None, 13.68, threshold="level:50")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        density_from_map(tmp_path / "nowhere.mrc", None, 13.68)
    data = bytearray(path.read_bytes())
    data[1024 : 1024 + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"map\.mrc.*1 of 9261"):
        density_from_map(path, None, 13.68)


@pytest.mark.parametrize(
    ("name", "options", "length_nm", "foreground"),
    [
        ("emd_3883_human80S_8.66A", {}, (25, 32), (0.03, 0.06)),
        ("emd_5225_ribosome_13.68A", {"threshold": "otsu"}, (25, 34), (0.03, 0.06)),
        ("sta_ribosome_8.704A_cryocat_darkcontrast", {"contrast": "dark", "threshold": "otsu"}, (25, 36), (0.03, 0.06)),
        ("pytom_human_ribo_21A", {"contrast": "dark"}, (25, 33), (0.02, 0.05)),
        ("groel_11.5Ares_2.7A_imp", {}, (13, 18), (0.005, 0.015)),
        ("sta_Mpneumoniae70S_12A_tomodrgn", {}, (20, 30), (0.02, 0.04)),
    ],
)
def test_real_maps_become_particles_of_the_right_size(shared_data, name, options, length_nm, foreground):
    density, mask = density_from_map(shared_data / "maps" / f"{name}.mrc.gz", (40,) * 3, 13.68, **options)
    where = mask.nonzero()
    extent = (where.amax(0) - where.amin(0) + 1).float() * 1.368
    assert length_nm[0] < extent.max() < length_nm[1]
    assert foreground[0] < mask.float().mean() < foreground[1]
    assert density[mask].mean() > 5 * density[~mask].mean()


def test_the_two_trics_of_4v94_are_noticed(shared_data):
    with pytest.warns(UserWarning, match="2 separate bodies"):
        density_from_map(shared_data / "maps" / "polnet10A_4v94.mrc.gz", (40,) * 3, 13.68)


@pytest.mark.parametrize("value", [1e31, -3e38])
def test_values_whose_sums_are_no_numbers_are_refused(tmp_path, value):
    array = gaussians((21,) * 3, 13.68, **BLOBS)
    array[0, 0, 0] = value
    with pytest.raises(ValueError, match=r"map\.mrc: holds values of .*, expected at most 1e\+30"):
        density_from_map(save(tmp_path, array, 13.68), None, 13.68)
    density, _ = density_from_map(save(tmp_path, gaussians((21,) * 3, 10.0, **BLOBS) * 1e29, 10.0), None, 13.68)
    assert bool(density.isfinite().all())
