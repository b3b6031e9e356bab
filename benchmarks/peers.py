"""Other ways to simulate a subtomogram, each as its users would write it, for `simulation.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, GibbsNoise, RandAffine, RandGaussianNoise
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Call = tuple[int, Callable[[], Any]]
TILTS_DEG = np.linspace(-60, 60, 41)


def peers(density: NDArray[np.float32], voxel_size: float) -> tuple[dict[str, Call], list[str]]:
    """Return name -> (subtomograms a call, call) for one centred density, and the packages that are not installed."""
    found: dict[str, Call] = {
        "scipy/numpy, order 1: rotate, noise, wedge, CTF": (1, lambda: published_recipe(density, voxel_size, order=1)),
        "scipy/numpy, order 3: rotate, noise, wedge, CTF": (1, lambda: published_recipe(density, voxel_size, order=3)),
        "MONAI: RandAffine, RandGaussianNoise, GibbsNoise": (1, monai_chain(density)),
    }
    missing = []
    for package, make in (("acryo", acryo_calls), ("torch_fourier_slice", fourier_slice_calls)):
        if find_spec(package) is None:
            missing.append(package)
        else:
            found |= make(density, voxel_size)
    return found, missing


def published_recipe(
    density: NDArray[np.float32], voxel_size: float, order: int, rng: np.random.Generator | None = None
) -> NDArray[np.float64]:
    """Rotate, add noise, take the wedge away, image with the CTF: sample by sample, each step by itself.

    Written from the formulas as published simulators of single subtomograms do it: ``scipy.ndimage`` for the rotation
    (its default is order 3), the filters built anew on the full complex grid for every sample.
    """
    rng = rng or np.random.default_rng()
    shape = density.shape
    centre = np.array([n // 2 for n in shape])
    matrix = Rotation.random(random_state=rng).as_matrix()
    offset = centre - matrix @ (centre + rng.uniform(-2, 2, 3))
    volume = ndimage.affine_transform(density, matrix, offset, order=order)
    snr = math.exp(rng.uniform(math.log(0.03), math.log(10)))
    volume = volume + rng.normal(0, math.sqrt(volume.var() / snr), shape)

    kz, ky, kx = np.meshgrid(*(np.fft.fftshift(np.fft.fftfreq(n, voxel_size)) for n in shape), indexing="ij")
    missing = math.radians(rng.uniform(0, 50))
    wedge = np.abs(kx) >= math.tan(missing) * np.abs(kz)
    volume = np.real(np.fft.ifftn(np.fft.ifftshift(np.fft.fftshift(np.fft.fftn(volume)) * wedge)))

    energy = 300e3
    wavelength = 12.2643 / math.sqrt(energy * (1 + 0.978466e-6 * energy))  # Å, relativistic
    squared = kz**2 + ky**2 + kx**2
    defocus, cs, amplitude = rng.uniform(0, 12) * 1e4, rng.uniform(1.5, 3) * 1e7, 0.07
    phase = math.pi * wavelength * squared * (defocus - 0.5 * cs * wavelength**2 * squared)
    ctf = math.sqrt(1 - amplitude**2) * np.sin(phase) + amplitude * np.cos(phase)
    mtf = np.sinc(np.sqrt(squared) * voxel_size)  # sin(x)/x at x = pi w / 2 with w = 2 f voxel_size
    filtered = np.fft.fftshift(np.fft.fftn(volume)) * -ctf * mtf
    return np.real(np.fft.ifftn(np.fft.ifftshift(filtered)))


def monai_chain(density: NDArray[np.float32]) -> Callable[[], Any]:
    """Return what a user of MONAI alone would write: no wedge, no CTF, Euler angles, and Gibbs noise as a low-pass."""
    chain = Compose(
        [
            RandAffine(1.0, rotate_range=(math.pi,) * 3, translate_range=(2,) * 3, padding_mode="zeros"),
            RandGaussianNoise(1.0, std=0.5),
            GibbsNoise(alpha=0.5),
        ]
    )
    image = torch.as_tensor(density)[None]
    return lambda: chain(image)


def acryo_calls(density: NDArray[np.float32], voxel_size: float) -> dict[str, Call]:
    """Return acryo: rotate + noise + wedge as its parts allow, and its loader of simulated tilt series."""
    import dask
    from acryo import Molecules
    from acryo.loader import MockLoader
    from acryo.tilt import single_axis

    rng = np.random.default_rng()
    centre = np.array(density.shape) / 2 - 0.5

    def molecule() -> Molecules:
        return Molecules(np.zeros((1, 3)), Rotation.random(1, random_state=rng))

    def volume(order: int) -> NDArray[np.float32]:
        (matrix,) = molecule().affine_matrix(centre, centre)
        rotated = ndimage.affine_transform(density, matrix, order=order)
        noisy = rotated + rng.standard_normal(density.shape, np.float32) * math.sqrt(rotated.var() / 0.1)
        end = rng.uniform(40, 90)
        mask = single_axis((-end, end), axis="y").create_mask(Rotation.identity(), density.shape)
        return np.real(np.fft.ifftn(np.fft.fftn(noisy) * mask))

    def loader() -> None:
        with dask.config.set(scheduler="synchronous"):
            MockLoader(density, molecule(), noise=1.0, degrees=TILTS_DEG, order=1).construct_loading_tasks().compute()

    return {
        "acryo, order 1: rotate, noise, wedge": (1, lambda: volume(1)),
        "acryo, order 3: rotate, noise, wedge": (1, lambda: volume(3)),
        "acryo: tilt series of 41, no CTF": (1, loader),
    }


def fourier_slice_calls(density: NDArray[np.float32], voxel_size: float) -> dict[str, Call]:
    """Return torch-fourier-slice: tilt series as central slices, a CTF and noise each, put back."""
    from torch_fourier_slice import backproject_2d_to_3d, project_3d_to_2d

    from monai_cryo.physics import ctf

    n = density.shape[-1]
    volume = torch.as_tensor(density)
    tilts = torch.as_tensor(Rotation.from_euler("y", TILTS_DEG[:, None], degrees=True).as_matrix(), dtype=torch.float32)
    f = torch.fft.fftfreq(n, voxel_size)[:, None].square() + torch.fft.rfftfreq(n, voxel_size).square()

    def call() -> None:
        pose = torch.as_tensor(Rotation.random().as_matrix(), dtype=torch.float32)
        projections = project_3d_to_2d(volume, pose @ tilts)
        transfer = ctf(f.sqrt(), torch.empty(len(tilts)).uniform_(1, 4))
        imaged = torch.fft.irfft2(torch.fft.rfft2(projections) * -transfer, s=(n, n))
        imaged = imaged + torch.randn_like(imaged) * imaged.std() * 3
        backproject_2d_to_3d(imaged, tilts)

    return {"torch-fourier-slice: tilt series of 41 with CTF": (1, call)}
