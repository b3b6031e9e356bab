"""Draw the pictures of docs/physics.md, each from the code that computes it: ``python tools/draw_physics.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import monai_cryo.transforms as T  # noqa: N812
from monai_cryo import physics
from monai_cryo.physics.fourier import radial_power_spectrum
from monai_cryo.physics.membrane import bilayer
from monai_cryo.physics.tilt_series import project, tilt_angles, weighted_back_projection
from monai_cryo.templates import BOX, TemplateLibrary, load_templates, random_complexes
from monai_cryo.templates import VOXEL_SIZE as VOXEL

EDGE = 10 * physics.nyquist(VOXEL)  # Nyquist in 1/nm


def draw_all(library: TemplateLibrary, folder: Path) -> list[Path]:
    """Draw every picture into ``folder``; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in PICTURES.items():
        paths.append(folder / f"physics_{name}.png")
        draw(library).savefig(paths[-1], dpi=100)
    return paths


def _figure(columns: int, width: float = 3.0, height: float = 2.6) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _show(ax: Any, image: Tensor | np.ndarray, title: str, half: float, axes: tuple[str, str], **options: Any) -> None:
    ax.imshow(np.asarray(image), cmap="gray", origin="lower", extent=(-half, half, -half, half), **options)
    ax.set_title(title, fontsize=9)
    ax.set_xlabel(axes[0], fontsize=8)
    ax.set_ylabel(axes[1], fontsize=8)
    ax.tick_params(labelsize=7)


def _curve(ax: Any, x: Tensor, curves: dict[str, Tensor], x_label: str, y_label: str, log: bool = False) -> None:
    for label, y in curves.items():
        (ax.semilogy if log else ax.plot)(x, y, label=label)
    ax.legend(fontsize=7)
    ax.set_xlabel(x_label, fontsize=8)
    ax.set_ylabel(y_label, fontsize=8)
    ax.tick_params(labelsize=7)


def _particle(library: TemplateLibrary, name: str = "ribosome") -> Tensor:
    """Return a particle of the class, or of the first one where the library has no such class."""
    index = library.classes.index(name) if name in library.classes else 0
    image: Tensor = library.draw(index, np.random.RandomState(0))["image"]
    return image


def _ctf(library: TemplateLibrary) -> Figure:
    figure, (a, b) = _figure(2, 4.0)
    f = torch.linspace(0, EDGE / 10, 400)
    curves = {f"{d:g} µm": physics.ctf(f, d) for d in (2.0, 6.0, 12.0)}
    _curve(a, 10 * f, curves, "spatial frequency (1/nm)", "CTF, raw")
    curves = {
        "6 µm": physics.ctf(f, 6.0),
        "6 µm, B = 2000 Å²": physics.ctf(f, 6.0, b_factor_a2=2000.0),
        "2 µm, phase plate of 90°": physics.ctf(f, 2.0, phase_shift_deg=90.0),
    }
    _curve(b, 10 * f, curves, "spatial frequency (1/nm)", "CTF, raw")
    return figure


def _modes(library: TemplateLibrary) -> Figure:
    figure, axes = _figure(6, 2.6)
    particle, half = _particle(library), BOX * VOXEL / 20
    grid = T.Grid((BOX,) * 3, (VOXEL,) * 3)
    signal, noise = {}, {}
    for ax, mode in zip(axes[2:], ("raw", "flip", "squared", "wiener"), strict=True):
        ctf = T.CTF(10.0, mode=mode, contrast="bright")
        drawn = [ctf.draw(np.random.RandomState(0))]
        recorded = ctf.recorded(grid.frequency, drawn)
        gain = ctf.processing(grid, recorded, drawn)
        signal[mode] = ctf.transfer(grid, drawn)[0]
        noise[mode] = torch.ones_like(recorded[0]) if gain is None else gain[0].square()
        image_it = T.FourierCompose(
            [T.AddNoise(0.3, stage="after"), T.CTF(10.0, mode=mode), T.MTF(), T.MissingWedge()], voxel_size=VOXEL
        )
        image = torch.as_tensor(image_it.set_random_state(0)(particle))
        _show(ax, image[0, BOX // 2], mode, half, ("x (nm)", "y (nm)"))
    inside = grid.fraction <= 1
    f = 10 * grid.frequency[inside]
    for ax, curves, label in ((axes[0], signal, "signal (10 µm)"), (axes[1], noise, "power of detector noise")):
        # a deconvolution's gain of 10 and more would flatten the others
        shown = {mode: (v / v.abs().max())[inside] for mode, v in curves.items()}
        _curve(ax, f, shown, "spatial frequency (1/nm)", f"{label}, relative")
    return figure


def _mtf(library: TemplateLibrary) -> Figure:
    figure, (a,) = _figure(1, 4.0)
    w = torch.linspace(0, 1, 100)
    curves = {f"scale {s:g}": physics.sinc_mtf(w, 1.0, s) for s in (0.0, 0.5, 1.0, 2.0)}
    _curve(a, w, curves, "fraction of Nyquist", "MTF")
    return figure


def _full_plane(half_grid: Tensor) -> np.ndarray:
    """Central kx-kz plane of a half-grid mask, with the mirrored half added and zero frequency in the middle."""
    plane = half_grid.expand(BOX, BOX, BOX // 2 + 1)[:, 0]
    mirrored = plane.flip(0).roll(1, 0)[:, 1:-1].flip(1)
    image: np.ndarray = np.fft.fftshift(torch.cat([plane, mirrored], dim=1).numpy())
    return image


def _wedge(library: TemplateLibrary) -> Figure:
    figure, axes = _figure(6, 2.6)
    shape = (BOX,) * 3
    masks = {
        "±60°": physics.missing_wedge(shape, -60, 60),
        "-50..70°": physics.missing_wedge(shape, -50, 70),
        "±60°, soft edge of 10°": physics.missing_wedge(shape, -60, 60, soft_edge_deg=10),
        "±60°, cosine squared": physics.missing_wedge(shape, -60, 60, cosine_power=2),
        "±60°, a tilt every 6°": physics.tilt_fan(shape, tilt_angles(-60, 60, 6), thickness_a=547, voxel_size=VOXEL),
    }
    for ax, (title, mask) in zip(axes, masks.items(), strict=False):
        _show(ax, _full_plane(mask), title, EDGE, ("kx (1/nm)", "kz (1/nm)"))
    point = torch.zeros(1, BOX, BOX, BOX)
    point[0, BOX // 2, BOX // 2, BOX // 2] = 1
    image = torch.as_tensor(T.MissingWedge()(point))[0, :, BOX // 2]
    half = BOX * VOXEL / 20
    _show(axes[5], image, "a point under ±60°", half, ("x (nm)", "z (nm)"), vmax=0.4 * float(image.max()))
    return figure


def _noise(library: TemplateLibrary) -> Figure:
    figure, (a, b) = _figure(2, 4.4, 3.0)
    empty = torch.zeros(16, BOX, BOX, BOX)
    optics = [T.CTF(6.0, voxel_size=VOXEL), T.MTF()]
    spectra: dict[str, Tensor] = {}
    for stage in ("before", "after", "split"):
        noisy = T.FourierCompose([T.AddNoise(1.0, stage=stage), *optics])
        image = torch.as_tensor(noisy.set_random_state(0)(empty))
        frequency, power = physics.radial_power_spectrum(image, VOXEL)
        spectra[stage] = power.mean(dim=0)[1:]
    _curve(a, 10 * frequency[1:], spectra, "spatial frequency (1/nm)", "noise power (CTF 6 µm, MTF)", log=True)
    f = torch.linspace(0.02, 1, 100)
    colours = {
        "white": physics.noise_amplitude(f, 1.0),
        "power law 1": physics.noise_amplitude(f, 1.0, power_law=1.0),
        "low-pass 0.5": physics.noise_amplitude(f, 1.0, lowpass=0.5),
        "both": physics.noise_amplitude(f, 1.0, power_law=1.0, lowpass=0.5),
    }
    _curve(b, f, {k: v.square() for k, v in colours.items()}, "fraction of Nyquist", "relative noise power", log=True)
    return figure


def _pose(library: TemplateLibrary) -> Figure:
    figure, axes = _figure(5, 2.5)
    half = BOX * VOXEL / 20
    particles = _particle(library, "proteasome").expand(4, 1, -1, -1, -1)
    pose, state = T.RandPose(), np.random.RandomState(1)
    poses = pose.apply(particles, [pose.draw(state) for _ in particles])
    for n, ax in enumerate(axes[:4]):
        _show(ax, poses[n, 0].sum(dim=0), f"pose {n + 1}, projected", half, ("x (nm)", "y (nm)"))
    u = torch.rand(20000, 3, generator=torch.Generator().manual_seed(0))
    z_axis = physics.rotation_from_uniform(u)[:, 2, 2]
    axes[4].hist(z_axis.numpy(), 40, density=True, label="ours")
    axes[4].hist(np.cos(np.pi * u[:, 0].numpy()), 40, density=True, histtype="step", label="uniform Euler angles")
    axes[4].set_xlabel("cos of the tilt of the z axis", fontsize=8)
    axes[4].legend(fontsize=7)
    return figure


def _membrane(library: TemplateLibrary) -> Figure:
    figure, axes = _figure(3, 2.6)
    half = BOX * VOXEL / 20
    normal = torch.tensor([0.3, 0.0, 1.0])
    cases = {
        "flat, 37 Å": {},
        "radius 30 nm": {"radius_a": 300.0},
        "radius 15 nm, offset 4 nm, 45 Å": {"radius_a": 150.0, "offset_a": 40.0, "thickness_a": 45.0},
    }
    for ax, (title, options) in zip(axes, cases.items(), strict=True):
        density, mask = bilayer((BOX,) * 3, VOXEL, normal=normal, **options)
        _show(ax, density[:, BOX // 2], title, half, ("x (nm)", "z (nm)"))
        ax.contour(
            np.linspace(-half, half, BOX), np.linspace(-half, half, BOX), mask[:, BOX // 2], [0.5], colors="orange"
        )
    return figure


def _scene(library: TemplateLibrary) -> Figure:
    figure, axes = _figure(4, 2.6)
    half = BOX * VOXEL / 20
    image_it = T.FourierCompose([T.AddNoise(0.5), T.MissingWedge(), T.CTF(4.0), T.MTF()], voxel_size=VOXEL)
    particle = _particle(library)
    neighbours = T.RandNeighbours(library.crowd() or [particle[0]], (4, 6)).set_random_state(3)
    crowd = torch.as_tensor(neighbours(particle, mask=(particle > 0.5).float()))
    bead = torch.as_tensor(T.RandGoldBead((40, 60), voxel_size=VOXEL).set_random_state(4)(crowd))
    ice = torch.as_tensor(T.RandIceGradient(2.0).set_random_state(2)(image_it.set_random_state(0)(crowd)))
    pictures = {
        "neighbours, projected": crowd[0].sum(dim=0),
        "imaged": torch.as_tensor(image_it.set_random_state(0)(crowd))[0, BOX // 2],
        "with a gold bead": torch.as_tensor(image_it.set_random_state(0)(bead))[0].mean(dim=0),
        "with an ice gradient": ice[0, BOX // 2],
    }
    for ax, (title, image) in zip(axes, pictures.items(), strict=True):
        _show(ax, image, title, half, ("x (nm)", "y (nm)"))
    return figure


def _crowded(library: TemplateLibrary) -> Figure:
    figure = Figure(figsize=(2.6 * 5, 2.5 * 2), layout="constrained")
    axes = figure.subplots(2, 5)
    half, extent, slab = BOX * VOXEL / 20, ("x (nm)", "z (nm)"), slice(BOX // 2 - 4, BOX // 2 + 5)
    particle = _particle(library)
    templates = library.crowd() or [particle[0]]
    options: dict[str, Any] = {"distance_vox": (12.0, 24.0), "amplitude": (0.7, 1.3), "membrane_prob": 1.0}
    crowd = T.RandNeighbours(templates, 12, voxel_size=VOXEL, **options)
    # a membrane along the beam: the wedge leaves it, and an x-z slice shows both its sides
    sheet, sheet_mask = (v[None] for v in bilayer((BOX,) * 3, VOXEL, normal=torch.tensor([0.3, 0.0, 1.0])))
    sheet = sheet / sheet[sheet_mask].mean()
    drawn = crowd.draw(np.random.RandomState(5)) or {}
    beside = {**drawn["membrane"], "normal": [1.0, 0.2, 0.4], "distance": 0.0}
    alone = {**drawn, "membrane": None, "side": None}
    field = {"amplitude": 0.4, "seed": 3}
    scenes = {
        "crowded": (particle, particle > 0.5, alone, None),
        "a membrane beside": (particle, particle > 0.5, {**alone, "membrane": beside}, None),
        "membrane, both sides full": (sheet, sheet_mask, alone, None),
        "one side empty, one dense": (sheet, sheet_mask, {**alone, "side": {"which": 0, "density": 0.4}}, None),
        "with a density field": (sheet, sheet_mask, {**alone, "side": {"which": 0, "density": 0.4}}, field),
    }
    optics = T.FourierCompose(
        [T.AddNoise(2.0, band=(0.0, 0.4), stage="after"), T.CTF(3.0), T.MTF(), T.MissingWedge()], voxel_size=VOXEL
    )
    for column, (title, (central, mask, around, smooth)) in enumerate(scenes.items()):
        scene = crowd.apply(central[None], [around], mask=mask[None])
        scene = T.RandDensityField().apply(scene, [smooth])
        line = np.linspace(-half, half, BOX)
        _show(axes[0, column], scene[0, 0, :, slab].mean(dim=1), title, half, extent, vmin=0, vmax=2)
        axes[0, column].contour(line, line, mask[0, :, BOX // 2], [0.5], colors="orange", linewidths=0.8)
        image = torch.as_tensor(optics.set_random_state(1)(scene[0]))
        _show(axes[1, column], image[0, :, slab].mean(dim=1), "imaged", half, extent)
    return figure


def _strangers(library: TemplateLibrary) -> Figure:
    figure, axes = _figure(6, 2.4)
    half = BOX * VOXEL / 20
    made_up = random_complexes(4, (300.0, 2000.0), VOXEL, BOX, class_name="distractors", seed=2)
    for ax, member in zip(axes, made_up, strict=False):
        _show(ax, member.padded(BOX)[0].sum(dim=1), "made up, projected", half, ("x (nm)", "z (nm)"))
    drawn = {"sigma_a": 25.0, "amplitude": 60.0, "distance_vox": 40.0, "direction_deg": 30.0}
    drawn |= {"height": 0.0, "step_deg": 3.0, "phase": 0.0}
    particle = _particle(library)
    crossed = T.RandStreaks(voxel_size=VOXEL).apply(particle[None], [drawn])[0]
    optics = T.FourierCompose([T.AddNoise(4.0, band=(0.0, 0.4), stage="after"), T.CTF(3.0), T.MissingWedge()], VOXEL)
    image = torch.as_tensor(optics.set_random_state(1)(crossed))
    _show(
        axes[4],
        crossed[0, :, BOX // 2],
        "streaks of a bead outside",
        half,
        ("x (nm)", "z (nm)"),
        vmin=-1,
        vmax=2,
    )
    _show(axes[5], image[0, :, BOX // 2], "imaged", half, ("x (nm)", "z (nm)"))
    return figure


def _tilt_series(library: TemplateLibrary) -> Figure:
    figure, axes = _figure(6, 2.4)
    half = BOX * VOXEL / 20
    particle = _particle(library)
    tilts = tilt_angles(-60, 60, 3)
    projections = project(particle, tilts)[0]
    for ax, tilt in zip(axes, (-60, 0, 60), strict=False):
        _show(
            ax, projections[int((tilts - tilt).abs().argmin())].T, f"projection at {tilt}°", half, ("y (nm)", "x (nm)")
        )
    back = weighted_back_projection(projections[None], tilts, (BOX,) * 3)[0]
    _show(axes[3], back[:, BOX // 2], "back-projected, clean", half, ("x (nm)", "z (nm)"))
    simulated = T.RandTiltSeries(0.3, ctf=T.CTF(2.0), voxel_size=VOXEL).set_random_state(0)(particle)
    _show(axes[4], torch.as_tensor(simulated)[0, :, BOX // 2], "SNR 0.3, 2 µm", half, ("x (nm)", "z (nm)"))
    power = np.abs(np.fft.fftshift(np.fft.fftn(torch.as_tensor(simulated)[0].numpy()))) ** 2
    _show(axes[5], np.log10(power[:, BOX // 2] + 1e-6 * power.max()), "its log power", EDGE, ("kx (1/nm)", "kz (1/nm)"))
    return figure


def _spectrum(library: TemplateLibrary) -> Figure:
    figure, axes = _figure(7, 2.6)
    particle, half = _particle(library), BOX * VOXEL / 20
    normalize, power = T.NormalizeSpectrum(), {}
    for n, mode in enumerate(("raw", "squared", "wiener")):
        image_it = T.FourierCompose([T.AddNoise(1.0, stage="after"), T.CTF(3.0, mode=mode)], voxel_size=VOXEL)
        image = torch.as_tensor(image_it.set_random_state(0)(particle))
        after = torch.as_tensor(normalize(image))
        for ax, volume, title in ((axes[1 + n], image, mode), (axes[4 + n], after, f"{mode}, normalised")):
            _show(ax, volume[0, BOX // 2], title, half, ("x (nm)", "y (nm)"))
        for volume, title in ((image, mode), (after, f"{mode}, normalised")):
            frequency, found = radial_power_spectrum(volume[0] / volume.std(), VOXEL)
            power[title] = torch.where(found > 1e-6, found, torch.nan).sqrt()  # nothing is left above `highest`
    _curve(
        axes[0],
        10 * frequency[1:],
        {k: v[1:] for k, v in power.items()},
        "spatial frequency (1/nm)",
        "amplitude",
        log=True,
    )
    return figure


PICTURES: dict[str, Callable[[TemplateLibrary], Figure]] = {
    "ctf": _ctf,
    "ctf_modes": _modes,
    "mtf": _mtf,
    "wedge": _wedge,
    "noise": _noise,
    "pose": _pose,
    "membrane": _membrane,
    "scene": _scene,
    "strangers": _strangers,
    "crowded": _crowded,
    "tilt_series": _tilt_series,
    "spectrum": _spectrum,
}


def main(argv: list[str] | None = None) -> int:
    """Draw from the command line."""
    parser = argparse.ArgumentParser(prog="python tools/draw_physics.py", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"), metavar="DIR", help="%(default)s")
    parser.add_argument("--templates", type=Path, metavar="FILE", help="YAML of classes; default: the embedded ones")
    options = parser.parse_args(argv)
    print(*draw_all(load_templates(options.templates), options.output), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
