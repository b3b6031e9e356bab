"""One gain and one scale for a whole tomogram: what boxes get, wherever pieces begin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_cryo.inferers import SpectrumFilter, normalize_tomogram
from monai_cryo.transforms import NormalizeSpectrum, RandCTF, Standardize


def coloured(*shape: int, sigma: float = 1.0, scale: float = 7.0) -> np.ndarray:
    volume = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), sigma)
    return (3 + scale * volume / volume.std()).astype(np.float32)


def read(volume: np.ndarray, tmp_path: Path, **options: object) -> np.ndarray:
    normal = normalize_tomogram(volume, NormalizeSpectrum(), 40, tmp_path / "f", **options)  # type: ignore[arg-type]
    return normal.block(torch.from_numpy(np.array(normal.volume))).numpy()


def test_a_box_gets_what_the_transform_gives_it(tmp_path: Path) -> None:
    volume = coloured(120, 120, 120)
    found = read(volume, tmp_path)[40:80, 40:80, 40:80]
    box = torch.from_numpy(volume[40:80, 40:80, 40:80].copy())
    expected = NormalizeSpectrum().apply(box[None, None], [{}])[0, 0].numpy()
    inner = (slice(6, -6),) * 3  # a box's own transform wraps round its faces
    assert np.corrcoef(found[inner].ravel(), expected[inner].ravel())[0, 1] > 0.9
    assert found.std() == pytest.approx(1, abs=0.15)


def test_processing_is_undone(tmp_path: Path) -> None:
    volume = coloured(90, 100, 110)
    processed = 40 * ndimage.gaussian_filter(volume, 1.2) - 5
    a, b = read(volume, tmp_path).copy(), read(processed, tmp_path)
    assert np.corrcoef(volume.ravel(), processed.ravel())[0, 1] < 0.93
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.97


def test_pieces_do_not_show(tmp_path: Path) -> None:
    volume = coloured(60, 60, 130)
    whole = read(volume, tmp_path)
    spectrum = SpectrumFilter(volume, NormalizeSpectrum(), 40)
    across = spectrum.filtered(volume, (10, 10, 100), (40, 40, 24)).numpy()  # a piece ends at 112
    difference = across - whole[10:50, 10:50, 100:124]
    assert difference.std() < 0.05 * across.std()


def test_gold_and_empty_corners_do_not_count(tmp_path: Path) -> None:
    volume = coloured(120, 120, 120)
    plain = SpectrumFilter(volume, NormalizeSpectrum(), 40)
    volume[10:20, 10:20, 10:20] = -3000
    volume[80:, 80:, 80:] = 0
    spoilt = SpectrumFilter(volume, NormalizeSpectrum(), 40)
    ratio = np.array(spoilt.spectrum)[:, 1] / np.array(plain.spectrum)[:, 1]
    assert ratio.max() < 1.2
    assert ratio.min() > 0.8


def test_contrast_is_turned_and_refusals_come_first(tmp_path: Path) -> None:
    volume = coloured(50, 50, 50)
    np.testing.assert_allclose(read(volume, tmp_path, negate=True), -read(volume, tmp_path), atol=1e-6)
    normal = normalize_tomogram(volume, Standardize(), 40, tmp_path / "none", negate=True)
    assert normal.volume is volume
    block = normal.block(torch.from_numpy(volume))
    assert float(torch.from_numpy(volume).flatten() @ block.flatten()) < 0
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="one value everywhere"):
        read(np.ones((50, 50, 50), np.float32), tmp_path)
    hollow = np.ones((79, 79, 79), np.float32)
    hollow[0, 0, 0] = 2  # outside of all boxes that are looked at
    with pytest.raises(ValueError, match="found one value in each box of 40 voxels"):
        read(hollow, tmp_path)
    with pytest.raises(ValueError, match="Standardize or NormalizeSpectrum, the model has RandCTF"):
        normalize_tomogram(volume, RandCTF(), 40, tmp_path / "none")


def test_windows_are_standardised_as_the_network_was_trained(tmp_path: Path) -> None:
    volume = coloured(60, 60, 60)
    volume[:, :, 30:] *= 3
    windows = torch.from_numpy(np.stack([volume[10:50, 10:50, :40], volume[10:50, 10:50, 20:]]))[:, None]
    for transform in (NormalizeSpectrum(), Standardize("item")):
        normal = normalize_tomogram(volume, transform, 40, tmp_path / "f", negate=True)
        read = normal.window(windows)
        torch.testing.assert_close(read, -Standardize("item").apply(windows, [{}, {}]))
        torch.testing.assert_close(read.std((1, 2, 3, 4), correction=0), torch.ones(2))
    normal = normalize_tomogram(volume, Standardize("batch"), 40, tmp_path / "f")
    torch.testing.assert_close(normal.window(windows), (windows - volume.mean()) / volume.std(), rtol=1e-4, atol=1e-4)
