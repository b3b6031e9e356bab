"""How near do simulated subtomograms come to real ones? Slices side by side, radial power spectra in one plot.

Takes a labelled folder (dataset.json) with some patches of a class and some of background, simulates that class at the
tomogram's tilt range, defocus and voxel size in four ways, and prints how far each spectrum is from the real one:

    python examples/compare_with_real.py DATASET_DIR --output compare.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.data.utils import list_data_collate

from monai_cryo.data import item_state, load_labelled
from monai_cryo.io import measure_noise_spectrum, read_mrc
from monai_cryo.physics import radial_power_spectrum
from monai_cryo.templates import load_templates
from monai_cryo.transforms import (
    CTF,
    MTF,
    AddNoise,
    BatchCompose,
    FourierCompose,
    MissingWedge,
    RandNeighboursd,
    RandPosed,
    RandTiltSeries,
    Standardize,
)

SNRS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def main() -> None:
    """Read, simulate, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--class", dest="name", default="ribosome")
    parser.add_argument("--background", default="background", help="class of the empty patches")
    parser.add_argument("--image_key", default="image")
    parser.add_argument("--tilt_range_deg", type=float, nargs=2, default=(-60.0, 60.0))
    parser.add_argument("--defocus_um", type=float, default=1.9)
    parser.add_argument("--count", type=int, default=40, help="patches of each kind")
    parser.add_argument("--output", type=Path, default=Path("compare.png"))
    options = parser.parse_args()

    classes = sorted({options.name, options.background})
    data = load_labelled(str(options.dataset_dir), classes, image_key=options.image_key, skip_unknown=True)
    files = {c: [i["image"] for i in data.items if classes[i["class"]] == c][: options.count] for c in classes}
    sizes = read_mrc(files[options.name][0], voxel_size=data.voxel_size)[1]
    if sizes is None:
        parser.error(f"neither {options.dataset_dir}/dataset.json nor its files tell the voxel size in Å")
    voxel_size = sizes[0]
    boxes = [np.asarray(read_mrc(f, voxel_size=voxel_size)[0], dtype=np.float32) for f in files[options.name]]
    real = standardized(torch.as_tensor(np.stack(boxes))[:, None])
    table = measure_noise_spectrum(files[options.background], voxel_size)

    library = load_templates(voxel_size=voxel_size, box=real.shape[-1])
    scene_library = load_templates(voxel_size=voxel_size, box=real.shape[-1] + 24)
    tilts, defocus = tuple(options.tilt_range_deg), options.defocus_um
    ctf = CTF(defocus, voxel_size=voxel_size)
    optics = [MissingWedge(tilts), ctf, MTF()]
    series = {"ctf": ctf, "voxel_size": voxel_size, "output_size": real.shape[-1]}
    ways = {
        "paper: noise before the CTF": lambda snr: FourierCompose([AddNoise(snr), *optics]),
        "white detector noise": lambda snr: FourierCompose([AddNoise(snr, stage="after"), *optics]),
        "measured noise spectrum": lambda snr: FourierCompose([AddNoise(snr, stage="after", spectrum=table), *optics]),
        "tilt series": lambda snr: RandTiltSeries(snr, min_tilt_deg=tilts[0], max_tilt_deg=tilts[1], **series),
    }
    frequency, target = spectrum(real, voxel_size)
    best = {}
    for way, make in ways.items():
        particles = posed(scene_library if way == "tilt series" else library, options.name, len(real))
        tries = []
        for snr in SNRS:
            image_it = make(snr)
            draws = [image_it.draw(item_state(0, "test", i, stream=1)) for i in range(len(particles))]
            simulated = standardized(image_it.apply(particles, draws))
            power = spectrum(simulated, voxel_size)[1]
            # the first shells hold the tomogram's ice gradient, the last the reconstruction's corner
            error = 10 * torch.log10(power / target)[2:-1]
            tries.append((float(error.square().mean().sqrt()), snr, simulated, power))
        best[way] = min(tries, key=lambda t: t[0])
        distance, snr = best[way][:2]
        print(f"{way:30s} best SNR {snr:<6g} spectrum differs by {distance:.1f} dB (root mean square over shells)")
    draw(real, best, frequency, target, options)
    print(options.output)


def standardized(volumes: torch.Tensor) -> torch.Tensor:
    """Give each item of a batch (B, 1, D, H, W) mean 0 and variance 1; returns (B, D, H, W)."""
    return Standardize().apply(volumes, [{}] * len(volumes))[:, 0]


def spectrum(volumes: torch.Tensor, voxel_size: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean radial power spectrum of a stack."""
    frequency, power = radial_power_spectrum(volumes, voxel_size)
    return frequency, power.mean(dim=0)


def posed(library, name: str, count: int) -> torch.Tensor:
    """Particles of a class (B, 1, D, H, W) in random poses, with neighbours as in a cell."""
    index = library.classes.index(name)
    scene = BatchCompose(
        [
            RandPosed(["image", "mask"], mode=["bilinear", "nearest"], posed_key="posed", radius_key="radius_vox"),
            RandNeighboursd(
                "image", templates=library.crowd(), count=(0, 8), distance_vox=(12.0, 32.0), mask_key="mask"
            ),
        ]
    )
    states = [item_state(0, "test", i) for i in range(count)]
    clean = list_data_collate([library.draw(index, state) for state in states])
    crowded: torch.Tensor = scene.apply(clean, [scene.draw(state) for state in states])["image"]
    return crowded


def draw(real, best, frequency, target, options) -> None:
    """Draw slices of two examples of each kind, x-y above x-z, and the spectra."""
    figure = Figure(figsize=(15, 3.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.4, 1))
    kinds = {"real": (real, None), **{way: (b[2], b[1]) for way, b in best.items()}}
    axes = left.subplots(2, 2 * len(kinds))
    for k, (title, (volumes, snr)) in enumerate(kinds.items()):
        for j in range(2):
            volume = volumes[j].numpy()
            middle = volume.shape[0] // 2
            for row, image in enumerate((volume[middle], volume[:, middle])):
                ax = axes[row, 2 * k + j]
                low, high = np.percentile(image, (1, 99))
                ax.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")
                ax.set_xticks([])
                ax.set_yticks([])
                if k == j == 0:
                    ax.set_ylabel(("x-y", "x-z")[row])
        axes[0, 2 * k].set_title(title.replace(": ", ":\n") + (f"\nSNR {snr:g}" if snr else ""), fontsize=8, loc="left")
    ax = right.subplots()
    ax.semilogy(10 * frequency[1:], target[1:], "k", lw=2.5, label="real")
    for way, (distance, snr, _, power) in best.items():
        ax.semilogy(10 * frequency[1:], power[1:], label=f"{way}, SNR {snr:g}: {distance:.1f} dB")
    ax.set_xlabel("spatial frequency (1/nm)")
    ax.set_ylabel("power a voxel (white noise of variance 1 = 1)")
    ax.set_title(f"{options.name}, {options.image_key}", fontsize=9)
    ax.legend(fontsize=7)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)


if __name__ == "__main__":
    main()
