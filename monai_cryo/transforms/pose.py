"""Random pose of a particle: rotation uniform on SO(3) and a shift, image and mask in one resampling."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple_rep
from torch import Tensor

from monai_cryo.physics.pose import bounding_radius, central, move_within, rotation_from_uniform
from monai_cryo.transforms.base import RandDictTransform, RandPhysics, Range, like, parse_range, to_volume


class RandPose(RandPhysics):
    """Rotate uniformly over all orientations about the centre voxel N // 2, then shift; trilinear, zero outside.

    Pose the clean density and its mask, and image them afterwards: a rotated missing wedge is none.

    Parameters
    ----------
    shift_vox
        Shift along each axis in voxels: a number or a uniform (min, max), drawn for each axis on its own.
    prob, channel_wise
        As for :class:`~.base.RandPhysics`.

    Raises
    ------
    ValueError
        If min > max or shapes differ.
    """

    def __init__(self, shift_vox: Range = (-2.0, 2.0), prob: float = 1.0, channel_wise: bool = False) -> None:
        super().__init__(prob, channel_wise)
        self.shift_vox = parse_range("shift_vox", shift_vox)

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw a rotation matrix (x, y, z) and a shift (z, y, x)."""
        rotation = rotation_from_uniform(torch.as_tensor(self.R.uniform(size=(n, 3)))).numpy()
        return {"rotation": rotation, "shift_vox": self.uniform(self.shift_vox, n, 3)}

    def __call__(
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None, randomize: bool = True
    ) -> NdarrayOrTensor | tuple[NdarrayOrTensor, NdarrayOrTensor]:
        """Pose (C, D, H, W).

        Parameters
        ----------
        img
            (C, D, H, W).
        mask
            Same shape, moved in the same resampling and cut at 0.5: it stays binary.
        randomize
            False: apply what was drawn last.

        Returns
        -------
        NdarrayOrTensor or a pair of them
            The image, or image and mask; type, device and floating dtype kept, the mask's dtype too.
        """
        return_mask = mask is not None
        images = [img] if mask is None else [img, mask]
        posed = self.pose(images, [False, True][: len(images)], randomize=randomize)
        return (posed[0], posed[1]) if return_mask else posed[0]

    def pose(
        self,
        images: Sequence[NdarrayOrTensor],
        binary: Sequence[bool],
        *,
        radius_vox: Sequence[int] | None = None,
        randomize: bool = True,
    ) -> list[NdarrayOrTensor]:
        """Pose several arrays (C, D, H, W) together.

        Parameters
        ----------
        images
            Arrays of one shape.
        binary
            Which of them are masks, to be cut at 0.5 after interpolation.
        radius_vox
            For each channel, the distance from the centre within which all that is not zero lies; 0: leave the
            channel as it is. None: measured.
        randomize
            False: apply what was drawn last.
        """
        volumes = [to_volume(image, "RandPose") for image in images]
        if any(v.shape != volumes[0].shape for v in volumes):
            raise ValueError(f"RandPose expects arrays of one shape, got {[tuple(v.shape) for v in volumes]}")
        if randomize:
            self.randomize(volumes[0])
        if not self.active.any():
            return list(images)
        first, channels = volumes[0], len(volumes[0])
        if radius_vox is None:
            radius_vox = [bounding_radius(torch.stack([v[c].to(first) for v in volumes])) for c in range(channels)]
        active = np.broadcast_to(self.active, channels)
        rotation, shift = (
            torch.as_tensor(np.broadcast_to(self.params[k], (channels, *self.params[k].shape[1:])).copy()).to(first)
            for k in ("rotation", "shift_vox")
        )
        groups: dict[int, list[int]] = {}  # one resampling for all particles of a size
        for channel, radius in enumerate(radius_vox):
            groups.setdefault(int(radius) if active[channel] else 0, []).append(channel)
        volumes = [volume.to(first) for volume in volumes]
        out = [torch.zeros_like(first, memory_format=torch.contiguous_format) for _ in volumes]
        for radius, members in groups.items():
            which = torch.tensor(members, device=first.device)
            if radius == 0:
                for result, volume in zip(out, volumes, strict=True):
                    result.index_copy_(0, which, volume.index_select(0, which))
                continue
            particles = torch.stack([central(volume, radius).index_select(0, which) for volume in volumes], dim=1)
            values, index = move_within(particles, rotation[which], shift[which], first.shape, radius)
            index = (index + which[:, None] * first[0].numel()).flatten()
            for result, value, cut in zip(out, values.unbind(1), binary, strict=True):
                value = value.flatten()
                result.view(-1).scatter_(0, index, value.ge_(0.5) if cut else value)
        return [
            like(volume, image) if not is_mask else _like_mask(volume, image)
            for volume, image, is_mask in zip(out, images, binary, strict=True)
        ]


def _like_mask(volume: Tensor, image: NdarrayOrTensor) -> NdarrayOrTensor:
    """Return a binary volume in exactly the mask's type and dtype."""
    dtype = image.dtype
    if isinstance(dtype, torch.dtype):
        return like(volume, image) if dtype.is_floating_point else like(volume, image).to(dtype)
    return like(volume, image).astype(dtype)


class RandPosed(RandDictTransform):
    """Dictionary version of :class:`RandPose`: all keys move together, in one resampling.

    Parameters
    ----------
    keys
        Entries of one shape, such as image and mask.
    mode
        ``"bilinear"`` or ``"nearest"`` for each key, as in MONAI; a nearest one is a mask and stays binary.
    shift_vox, prob, channel_wise
        As for :class:`RandPose`.
    radius_key
        Entry with one integer a channel, the radius in voxels within which its particle lies (0: leave it alone).
        Saves measuring it, and spares volumes that are in their pose already.
    allow_missing_keys
        Do not raise where a key is missing.

    Raises
    ------
    ValueError
        On an unknown mode, min > max, or shapes that differ.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mode: str | Sequence[str] = "bilinear",
        shift_vox: Range = (-2.0, 2.0),
        prob: float = 1.0,
        channel_wise: bool = False,
        radius_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandPose(shift_vox, prob, channel_wise), allow_missing_keys)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        if not set(self.mode) <= {"bilinear", "nearest"}:
            raise ValueError(f"mode must be 'bilinear' or 'nearest' for each key, got {mode!r}")
        self.radius_key = radius_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the entries transformed."""
        d = dict(data)
        found = list(MapTransform.key_iterator(self, d, self.mode))
        if not found:
            return d
        radius = None if self.radius_key is None else torch.as_tensor(d[self.radius_key]).flatten().tolist()
        posed = self.transform.pose(  # type: ignore[attr-defined]
            [d[key] for key, _ in found], [mode == "nearest" for _, mode in found], radius_vox=radius
        )
        d.update(zip([key for key, _ in found], posed, strict=True))
        return d


RandPoseD = RandPoseDict = RandPosed
