"""Curves from files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_cryo.io import measure_noise_spectrum, read_mtf, write_mrc
from monai_cryo.physics import curve_mtf, radial_power_spectrum
from monai_cryo.transforms import MTF, AddNoise

ROWS = [[0.0, 1.0], [0.5, 0.8], [1.0, 0.4]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mtf.txt", "# fraction value\n0 1\n0.5 0.8\n1.0 0.4\n"),
        ("mtf.csv", "0,1\n0.5,0.8\n1.0,0.4\n"),
        (
            "mtf.star",
            "data_mtf\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n0.0 1.0\n0.25 0.8\n0.5 0.4\n",
        ),
    ],
)
def test_mtf_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    rows = read_mtf(tmp_path / name)
    np.testing.assert_allclose(rows, ROWS)
    assert float(curve_mtf(torch.tensor([0.25]), 0.5, rows)) == pytest.approx(0.8)
    assert MTF(curve=rows).curve == rows


@pytest.mark.parametrize("text", ["", "0 1\n", "a b\nc d\n", "1 1\n0 1\n", "0 1 2\n1 1 1\n"])
def test_no_curve(tmp_path, text):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(ValueError, match=r"x\.txt must hold two columns"):
        read_mtf(tmp_path / "x.txt")
    (tmp_path / "x.star").write_text("data_\n_rlnOther 1\n")
    with pytest.raises(ValueError, match=r"x\.star must hold"):
        read_mtf(tmp_path / "x.star")
    with pytest.raises(FileNotFoundError, match="no MTF file"):
        read_mtf(tmp_path / "none.txt")


@pytest.mark.parametrize("text", ["-inf 1\n-inf 1\n0.5 1\n", "0 1\ninf 1\ninf 1\n", "0 1\nnan 1\n", "0 1\n1 nan\n"])
def test_a_curve_of_no_numbers_is_refused_without_a_warning(tmp_path, text):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(ValueError, match=r"x\.txt must hold (two columns|finite numbers)"):
        read_mtf(tmp_path / "x.txt")


def test_a_measured_spectrum_makes_noise_like_the_measured(tmp_path):
    state = np.random.RandomState(0)
    paths = []
    for n in range(6):
        z = np.fft.rfftn(state.randn(32, 32, 32))
        f = np.sqrt(
            sum(np.square(g) for g in np.meshgrid(*[np.fft.fftfreq(32)] * 2, np.fft.rfftfreq(32), indexing="ij"))
        )
        volume = np.fft.irfftn(z * np.exp(-f * 4), s=(32, 32, 32), axes=(0, 1, 2)).astype(np.float32)
        paths.append(tmp_path / f"{n}.mrc")
        write_mrc(paths[-1], volume * 7 + 3, 10.0)
    rows = measure_noise_spectrum(paths)
    signal = torch.randn(8, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = AddNoise(1.0, spectrum=rows).set_random_state(0)(signal) - signal
    power = radial_power_spectrum(noise / noise.std(), 10.0)[1].mean(dim=0)
    np.testing.assert_allclose(power[3:], np.array(rows)[3:, 1], rtol=0.15)
    ratio = radial_power_spectrum(noise, 10.0)[1].mean(dim=0).numpy() / np.array(rows)[:, 1]
    np.testing.assert_allclose(ratio[2:] / ratio[2:].mean(), 1.0, atol=0.15)
    np.testing.assert_allclose(ratio[:2] / ratio[2:].mean(), 1.0, atol=0.45)  # of few frequencies


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="at least one empty patch"):
        measure_noise_spectrum([])
    write_mrc(tmp_path / "c.mrc", np.ones((8, 8, 8), np.float32), 10.0)
    with pytest.raises(ValueError, match="one value everywhere"):
        measure_noise_spectrum([tmp_path / "c.mrc"])
