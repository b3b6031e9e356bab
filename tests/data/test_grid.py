"""Real volumes on the model's grid and back: no aliasing, a centre that stays, padding that is no object."""

from __future__ import annotations

import logging
import math
import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd

from monai_cryo.data import FitToGrid, FitToGridd, pad_with_noise


def volume(array, voxel_size, origin=(0.0, 0.0, 0.0)):
    spacing = np.broadcast_to(voxel_size, 3)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)[::-1]
    affine[:3, 3] = origin[::-1]
    return MetaTensor(torch.as_tensor(array)[None], affine=torch.as_tensor(affine))


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def centre_a(grid):
    """Physical position (x, y, z) of the centre voxel."""
    index = torch.tensor([n // 2 for n in grid.shape[1:]] + [1], dtype=torch.float64)
    return (grid.affine @ index)[:3].numpy()


def test_white_noise_is_low_passed():
    fitted = FitToGrid(13.68, 20)(volume(noise((80, 80, 80)), 3.42))
    ideal = math.pi / 6 / 4**3
    assert fitted.shape == (1, 20, 20, 20)
    assert 0.5 * ideal < fitted.var() < 1.1 * ideal


@pytest.mark.parametrize(("n", "voxel_size"), [(95, 6.84), (64, 8.0), (24, 13.68), (24, 20.0)])
def test_the_centre_voxel_stays_the_centre(n, voxel_size):
    axis = (np.arange(n) - n // 2) * voxel_size
    blob = np.exp(-(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / (2 * 45.0**2))
    given = volume(blob.astype(np.float32), voxel_size, (100.0, -50.0, 7.0))
    fitted = FitToGrid(13.68, 24)(given)
    assert np.unravel_index(int(fitted[0].argmax()), (24, 24, 24)) == (12, 12, 12)
    np.testing.assert_allclose(fitted.pixdim, 13.68, rtol=1e-9)
    np.testing.assert_allclose(centre_a(fitted), centre_a(given), atol=1e-6)


def test_a_tenfold_slip_of_the_voxel_size_is_refused():
    with pytest.raises(ValueError, match=r"are 4 x 4 x 4 of 13.68 Å, less than a quarter of the box of 40"):
        FitToGrid(13.68, 40)(volume(noise((40, 40, 40)), 1.368))
    assert FitToGrid(13.68, 40)(volume(noise((10, 10, 10)), 13.68)).shape == (1, 40, 40, 40)


def test_what_is_on_the_grid_already_is_not_touched():
    array = noise((24, 20, 26))
    fitted = FitToGrid(13.68, 20)(volume(array, 13.68))
    assert torch.equal(fitted[0].as_tensor(), array[2:22, :, 3:23])


def test_masks_stay_masks_and_are_padded_with_nothing():
    mask = torch.zeros(16, 16, 16, dtype=torch.uint8)
    mask[:4, :4, 5:11] = 1
    fitted = FitToGrid(10.0, 24, "nearest")(volume(mask, 10.0))
    assert fitted.dtype == torch.uint8
    assert int(fitted.sum()) == 96
    coarse = FitToGrid(20.0, 24, "nearest")(volume(mask, 10.0))
    assert set(coarse.unique().tolist()) == {0, 1}


def test_padding_is_noise_of_the_same_mean_and_variance_and_the_same_every_time():
    array = 5 + 2 * noise((28, 28, 28))
    fitted = FitToGrid(10.0, 40)(volume(array, 10.0))
    inside = torch.zeros(40, 40, 40, dtype=torch.bool)
    inside[6:34, 6:34, 6:34] = True
    assert torch.equal(fitted[0][inside].as_tensor(), array.flatten())
    padding = fitted[0][~inside]
    assert float(padding.mean()) == pytest.approx(float(array.mean()), abs=0.05)
    assert float(padding.std()) == pytest.approx(float(array.std()), rel=0.05)
    torch.rand(7)  # the global generator has no say
    assert torch.equal(FitToGrid(10.0, 40)(volume(array, 10.0)), fitted)
    array[0, 0, 0] += 1
    assert not torch.equal(FitToGrid(10.0, 40)(volume(array, 10.0))[0][~inside], padding)


def test_a_volume_without_variance_is_padded_with_its_value():
    assert torch.equal(pad_with_noise(torch.full((1, 4, 4, 4), 3.0), (6, 6, 6), 0), torch.full((1, 6, 6, 6), 3.0))


def test_the_share_of_padding_is_logged_once(caplog):
    fit = FitToGrid(10.0, 40)
    with caplog.at_level(logging.INFO):
        for seed in range(3):
            fit(volume(noise((28, 28, 28), seed), 10.0))
    assert len(caplog.records) == 1
    assert "28 x 28 x 28 voxels of 10 Å in a box of 40: 66 % of what the network sees is padding" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        fit(volume(noise((44, 40, 40)), 10.0))
    assert not caplog.records


@pytest.mark.parametrize(("shape", "voxel_size"), [((40, 40, 40), 13.68), ((48, 51, 46), 12.0), ((70, 81, 64), 6.84)])
def test_a_mask_goes_back_to_the_grid_of_its_image(shape, voxel_size):
    given = volume(noise(shape), voxel_size, (30.0, 20.0, 10.0))
    chain = Compose([FitToGridd("image", voxel_size=13.68, box=40)])
    d = chain({"image": given})
    axes = np.meshgrid(*[np.arange(40) - 20] * 3, indexing="ij")
    d["mask"] = MetaTensor(torch.as_tensor(sum(a**2 for a in axes) <= 12**2)[None].float())
    back = Invertd("mask", transform=chain, orig_keys="image", nearest_interp=True)(d)["mask"]
    assert back.shape == given.shape
    np.testing.assert_allclose(back.affine, given.affine, atol=1e-9)
    axes = np.meshgrid(*[(np.arange(n) - n // 2) * voxel_size / 13.68 for n in shape], indexing="ij")
    distance = np.sqrt(sum(a**2 for a in axes))
    clear = np.abs(distance - 12) > 1
    np.testing.assert_array_equal(back[0].numpy()[clear], (distance <= 12)[clear])
    assert set(back.unique().tolist()) == {0.0, 1.0}


def test_an_image_goes_there_and_back():
    n = 60
    axis = (np.arange(n) - n // 2) * 6.84
    blob = np.exp(-(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / (2 * 40.0**2)).astype(np.float32)
    chain = Compose([FitToGridd("image", voxel_size=13.68, box=40)])
    given = volume(blob, 6.84)
    back = chain.inverse(chain({"image": given}))["image"]
    np.testing.assert_allclose(back[0, 10:50, 10:50, 10:50], blob[10:50, 10:50, 10:50], atol=0.02)


def test_refusals():
    with pytest.raises(ValueError, match="mode must be one of fourier, nearest, got 'linear'"):
        FitToGrid(10.0, 40, "linear")
    with pytest.raises(ValueError, match="box must be a whole number >= 1, got 0"):
        FitToGrid(10.0, 0)
    with pytest.raises(ValueError, match=r"a MetaTensor \(C, D, H, W\) with its voxel size, got Tensor of shape"):
        FitToGrid(10.0, 8)(torch.zeros(4, 4, 4))
    with pytest.raises(KeyError):
        FitToGridd("mask", voxel_size=10.0, box=8)({})
    assert FitToGridd("mask", voxel_size=10.0, box=8, allow_missing_keys=True)({}) == {}


def test_it_can_be_sent_to_workers_and_says_what_it_is():
    fit = pickle.loads(pickle.dumps(FitToGridd(["a", "b"], voxel_size=10, box=8, mode=["fourier", "nearest"])))
    assert repr(fit.fits[1]) == "FitToGrid(voxel_size=10, box=8, mode='nearest')"
    assert "mode=['fourier', 'nearest']" in repr(fit)


def test_an_image_that_becomes_one_value_is_refused():
    array = np.random.RandomState(0).randn(24, 24, 24)
    with pytest.raises(ValueError, match=r"24 x 24 x 24 voxels of .* become one value everywhere in 1 x 1 x 1 voxels"):
        FitToGrid(13.68, 40)(volume(array, 0.5))
    for size in (1e-30, 1e-3, 0.1, 500.0, 1e30):
        with pytest.raises(ValueError, match=r"the voxel size .* expected 0\.2 to 100 Å"):
            FitToGrid(13.68, 40)(volume(array, size))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_images_are_padded_with_noise_of_their_own_size(scale):
    array = np.random.RandomState(0).randn(24, 24, 24)
    fitted = FitToGrid(12.0, 40)(volume(array * scale, 10.0))
    expected = FitToGrid(12.0, 40)(volume(array, 10.0))
    assert bool(fitted.isfinite().all())
    values = fitted.as_tensor().double() / scale
    inside = slice(10, 30)
    np.testing.assert_allclose(values[:, inside, inside, inside], expected[:, inside, inside, inside], atol=1e-5)
    assert values.std() == pytest.approx(float(expected.std()), rel=0.05)
