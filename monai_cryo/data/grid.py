"""Real volumes on the model's grid: its voxel size and box, noise where the file holds nothing, and back again."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys, ensure_tuple_rep
from torch import Tensor

from monai_cryo._described import Described
from monai_cryo._typing import check_word
from monai_cryo.io.header import VOXEL_SIZES_A
from monai_cryo.physics.fourier import VoxelSize, voxel_size_zyx
from monai_cryo.physics.resampling import crop_or_pad, resample, resample_nearest
from monai_cryo.transforms.ranges import parse_whole

__all__ = ["FitToGrid", "FitToGridd", "pad_with_noise"]

logger = logging.getLogger(__name__)

_LEAST = 4  # a volume that covers less than this part of the box has a wrong voxel size: a particle fills half of it

Mode = Literal["fourier", "nearest"]


def pad_with_noise(volume: Tensor, shape: Sequence[int], seed: int) -> Tensor:
    """Cut or pad to ``shape``, centre on centre; what is added is white noise of the volume's mean and variance.

    Edge values make streaks, mirror images make particles, and noise of the volume's own spectrum has lumps of a
    particle's size. Of 40 real ribosomes 28 voxels wide in a box of 40, one model named 6 with edge values, 6 with
    mirror images, 3 with noise of their spectrum, 16 with their mean and 20 with white noise.

    Parameters
    ----------
    volume
        (C, D, H, W), floating point.
    shape
        Spatial shape of the result.
    seed
        Of the noise: 0 to 2^32 - 1.

    Returns
    -------
    Tensor
        (C, *shape).
    """
    fitted = crop_or_pad(volume, shape)
    added = ~crop_or_pad(torch.ones(volume.shape[-3:], dtype=torch.bool, device=volume.device), shape)
    count = int(added.sum())
    if count:
        kept = fitted[:, ~added].double()  # squares of huge and tiny values are out of float32's range
        noise = np.random.RandomState(seed).standard_normal((len(volume), count))
        mean, deviation = kept.mean(dim=1, keepdim=True), kept.std(dim=1, keepdim=True, correction=0)
        fitted[:, added] = (mean + deviation * torch.as_tensor(noise).to(kept)).to(fitted.dtype)
    return fitted


class FitToGrid(Described, InvertibleTransform):
    """Bring a volume to a voxel size and a cubic box, centre voxel N // 2 on centre voxel N // 2.

    Images are low-passed and interpolated in Fourier space (:func:`monai_cryo.physics.resampling.resample`) and padded
    with white noise, seeded from their own values; a line in the log says how much of the box that is. Masks take the
    nearest voxel's value and are padded with 0. The inverse puts a volume back on the grid that it, or the image it
    was predicted from, came from; what the box did not hold is 0 there.

    Parameters
    ----------
    voxel_size
        Å; a scalar or (z, y, x).
    box
        Edge of the box in voxels.
    mode
        ``"fourier"`` for images, ``"nearest"`` for masks.
    """

    def __init__(self, voxel_size: VoxelSize, box: int, mode: Mode = "fourier") -> None:
        check_word("mode", mode, Mode)
        self.voxel_size, self.box, self.mode = voxel_size_zyx(voxel_size), parse_whole("box", box), mode
        self._said: set[tuple[int, ...]] = set()

    def __call__(self, volume: MetaTensor) -> MetaTensor:
        """Return the volume (C, D, H, W) as (C, box, box, box); images as float32, masks in their own dtype."""
        if not isinstance(volume, MetaTensor) or volume.ndim != 4:
            raise ValueError(f"expected a MetaTensor (C, D, H, W) with its voxel size, got {_describe(volume)}")
        old, shape = voxel_size_zyx(volume.pixdim[:3]), volume.shape[1:]
        fitted = self._fit(volume.as_tensor(), old, str(volume.meta.get("filename_or_obj", "volume")))
        steps = [new / v for new, v in zip(self.voxel_size, old, strict=True)]
        affine = np.diag([*steps, 1.0])
        affine[:3, 3] = [n // 2 - step * (self.box // 2) for n, step in zip(shape, steps, strict=True)]
        out = MetaTensor(fitted, meta=dict(volume.meta), applied_operations=list(volume.applied_operations))
        # MONAI's word for an image's interpolation: Invertd(nearest_interp=True) turns it into "nearest"
        info = {"voxel_size": list(old), "mode": "trilinear" if self.mode == "fourier" else "nearest"}
        return self.push_transform(out, orig_size=tuple(shape), extra_info=info, affine=torch.as_tensor(affine))

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Return a volume (C, box, box, box) on the grid it came from."""
        done = self.pop_transform(data)
        old, shape = done[TraceKeys.EXTRA_INFO]["voxel_size"], done[TraceKeys.ORIG_SIZE]
        convert = resample_nearest if done[TraceKeys.EXTRA_INFO]["mode"] == "nearest" else resample
        steps = [v / new for new, v in zip(self.voxel_size, old, strict=True)]
        back = np.diag([*steps, 1.0])
        back[:3, 3] = [self.box // 2 - step * (n // 2) for n, step in zip(shape, steps, strict=True)]
        out = MetaTensor(
            convert(data.as_tensor(), self.voxel_size, old, shape),
            meta=dict(data.meta),
            applied_operations=list(data.applied_operations),
        )
        out.affine = data.affine @ torch.as_tensor(back).to(data.affine)
        return out

    def _fit(self, volume: Tensor, old: tuple[float, float, float], name: str) -> Tensor:
        box = (self.box,) * 3
        if self.mode == "nearest":
            return resample_nearest(volume, old, self.voxel_size, box)
        low, high = VOXEL_SIZES_A
        if not all(low <= v <= high for v in old):  # finer ones take memory without end before nothing is left of them
            sizes = ", ".join(f"{v:g}" for v in old)
            raise ValueError(f"{name}: the voxel size (z, y, x) is {sizes} Å, expected {low:g} to {high:g} Å")
        seed = zlib.crc32(volume.detach().cpu().contiguous().numpy().tobytes())
        covered = resample(volume.to(torch.float32), old, self.voxel_size)
        shapes = [" x ".join(map(str, v.shape[1:])) for v in (volume, covered)]
        if bool((covered == covered.flatten()[0]).all()) and not bool((volume == volume.flatten()[0]).all()):
            raise ValueError(
                f"{name}: {shapes[0]} voxels of {max(old):g} Å become one value everywhere in {shapes[1]} voxels of "
                f"{max(self.voxel_size):g} Å: is its voxel size right?"
            )
        if _LEAST * max(covered.shape[1:]) < self.box:
            raise ValueError(
                f"{name}: {shapes[0]} voxels of {max(old):g} Å are {shapes[1]} of {max(self.voxel_size):g} Å, "
                f"less than a quarter of the box of {self.box}: is its voxel size right?"
            )
        self._say(name, covered.shape[1:])
        return pad_with_noise(covered, box, seed)

    def _say(self, name: str, covered: Sequence[int]) -> None:
        """Log how much of the box is padding, once for all files of one size."""
        share = 1 - math.prod(min(n, self.box) for n in covered) / self.box**3
        if share and tuple(covered) not in self._said:
            self._said.add(tuple(covered))
            logger.warning(
                "%s: %s voxels of %g Å in a box of %d: %.0f %% of what the network sees is padding with noise",
                name,
                " x ".join(map(str, covered)),
                max(self.voxel_size),
                self.box,
                100 * share,
            )


class FitToGridd(Described, MapTransform, InvertibleTransform):
    """Dictionary version of :class:`FitToGrid`.

    Parameters
    ----------
    keys
        Volumes.
    voxel_size, box
        As for :class:`FitToGrid`.
    mode
        One for all keys or one each.
    allow_missing_keys
        Leave out keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        voxel_size: VoxelSize,
        box: int,
        mode: Mode | Sequence[Mode] = "fourier",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.fits = [FitToGrid(voxel_size, box, m) for m in ensure_tuple_rep(mode, len(self.keys))]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with its volumes on the grid."""
        d = dict(data)
        for key, fit in self.key_iterator(d, self.fits):
            d[key] = fit(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with its volumes on the grids they came from."""
        d = dict(data)
        for key, fit in self.key_iterator(d, self.fits):
            d[key] = fit.inverse(d[key])
        return d


FitToGridD = FitToGridDict = FitToGridd


def _describe(value: Any) -> str:
    return f"{type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))}"
