"""Random surroundings, added to the clean density before imaging (neighbours, gold) or after it (ice gradient)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from torch import Tensor

from monai_cryo.physics.fourier import voxel_size_zyx
from monai_cryo.physics.pose import bounding_radius, rotation_from_uniform
from monai_cryo.physics.scene import background, choose_positions, place_, positions_from_uniform, sphere
from monai_cryo.transforms.base import (
    RandDictTransform,
    RandPhysics,
    Range,
    image_voxel_size,
    like,
    parse_range,
    to_volume,
)

#: positions drawn for each neighbour, of which the first free one is taken
_TRIES = 16


class RandNeighbours(RandPhysics):
    """Add other particles around the central one, in any pose, partly cut by the box; its mask stays as it is.

    Each lies uniformly where its bounding sphere comes into the box, keeps ``gap_vox`` from every voxel of the central
    particle and does not meet a neighbour placed before it. One that finds no room in 16 tries is left out. Without a
    central particle (an empty mask) they come anywhere.

    Parameters
    ----------
    templates
        Densities (d, h, w), each centred on voxel N // 2; drawn with equal probability.
    count
        Neighbours of a channel, a whole number or a uniform (min, max), both included.
    gap_vox
        Smallest distance between the bounding sphere and the nearest voxel of the central particle, or the next sphere.
    amplitude
        Factor on the density of each neighbour, a number or a uniform (min, max), > 0.
    prob, channel_wise
        As for :class:`~.base.RandPhysics`.

    Raises
    ------
    ValueError
        On an empty or misshapen template, or an impossible range.
    """

    def __init__(
        self,
        templates: Sequence[NdarrayOrTensor],
        count: int | Sequence[int] = (1, 3),
        gap_vox: float = 1.0,
        amplitude: Range = 1.0,
        prob: float = 1.0,
        channel_wise: bool = False,
    ) -> None:
        super().__init__(prob, channel_wise)
        low, high = parse_range("count", count, low=0)
        if not (low.is_integer() and high.is_integer()):
            raise ValueError(f"count must be whole numbers, got {count!r}")
        self.count = int(low), int(high)
        if not gap_vox >= 0:
            raise ValueError(f"gap_vox must be >= 0, got {gap_vox!r}")
        self.gap_vox = float(gap_vox)
        self.amplitude = _positive("amplitude", amplitude)
        self.templates = [torch.as_tensor(t).to(torch.float32) for t in templates]
        if not self.templates:
            raise ValueError("templates must hold at least one density, got none")
        for i, t in enumerate(self.templates):
            if t.ndim != 3 or not bool(t.any()) or not bool(t.isfinite().all()):
                raise ValueError(f"templates[{i}] must be a finite (d, h, w) that is not zero, got {tuple(t.shape)}")
        self.radius_vox = np.array([bounding_radius(t) for t in self.templates])

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw for the largest number of neighbours, of whom the first ``count`` are used."""
        most = self.count[1]
        count = self.R.randint(self.count[0], most + 1, size=(n,))
        turn = torch.as_tensor(self.R.uniform(size=(n, most, 3)))
        return {
            "count": count,
            "template": self.R.randint(0, len(self.radius_vox), size=(n, most)),
            "rotation": rotation_from_uniform(turn).numpy(),
            "amplitude": self.uniform(self.amplitude, n, most),
            "place": self.R.uniform(size=(n, most, _TRIES, 3)),
        }

    def randomize(self, data: Any = None, occupied: Tensor | None = None) -> None:
        """Draw, and find the places: ``position_vox`` (z, y, x) is NaN for a neighbour that is not there.

        Parameters
        ----------
        data
            Channel-first volume.
        occupied
            Same shape, bool: the central particle. None: wherever ``data`` is not zero.
        """
        super().randomize(data)
        central = data.ne(0) if occupied is None else occupied
        central = central if self.channel_wise else central.any(dim=0, keepdim=True)
        u = torch.as_tensor(self.params.pop("place"), dtype=torch.float32, device=data.device)
        radius = torch.as_tensor(self.radius_vox[self.params["template"]], device=data.device)
        farthest = radius[..., None] + max(data.shape[1:]) // 2
        position = torch.full_like(u[:, :, 0], torch.nan)
        on = torch.as_tensor(self.active, device=data.device)
        candidates = positions_from_uniform(u, 0.0, farthest)
        position[on] = choose_positions(candidates[on], radius[on], central[on], self.gap_vox)
        self.params["position_vox"] = position.cpu().numpy()
        self.params["position_vox"][np.arange(self.count[1]) >= self.params["count"][:, None]] = np.nan

    def __call__(
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None, randomize: bool = True
    ) -> NdarrayOrTensor:
        """Add neighbours to clean densities (C, D, H, W).

        Parameters
        ----------
        img
            (C, D, H, W).
        mask
            Same shape: the central particle, from which they keep away. None: wherever the density is not zero.
        randomize
            False: apply what was drawn last.
        """
        volume = to_volume(img, "RandNeighbours")
        if randomize:
            occupied = None if mask is None else to_volume(mask, "RandNeighbours' mask").to(volume.device).ne(0)
            if occupied is not None and occupied.shape != volume.shape:
                raise ValueError(f"mask shape {tuple(occupied.shape)} must equal image shape {tuple(volume.shape)}")
            self.randomize(volume, occupied)
        if not self.active.any():
            return img
        drawn = {k: np.broadcast_to(v, (len(volume), *v.shape[1:])) for k, v in self.params.items()}
        there = ~np.isnan(drawn["position_vox"][..., 0])
        result = volume.clone()
        for index in np.unique(drawn["template"][there]):
            chosen = np.nonzero(there & (drawn["template"] == index))
            factor, rotation, position = (
                torch.as_tensor(drawn[k][chosen]).to(volume) for k in ("amplitude", "rotation", "position_vox")
            )
            particles = self.templates[index].to(volume) * factor[:, None, None, None]
            place_(result, particles, rotation, position, chosen[0].tolist(), int(self.radius_vox[index]))
        return like(result, img)


class RandGoldBead(RandPhysics):
    """Put a dense sphere, such as a gold fiducial, at a random place, before imaging: fringes and streaks follow.

    It displaces what is there. Its centre lies anywhere in the box, so that it may be partly outside, and may lie on
    the particle. It enters the variance that an SNR over the whole box refers to.

    Parameters
    ----------
    radius_a
        Å, a number or a uniform (min, max); beads have diameters of 5 to 15 nm.
    amplitude
        Density as a multiple of the volume's maximum (of 1, where the volume is empty), a number or a uniform
        (min, max), > 0.
    voxel_size
        Å, one number or (z, y, x). None: from the MetaTensor.
    prob, channel_wise
        As for :class:`~.base.RandPhysics`.

    Raises
    ------
    ValueError
        On an impossible range, or where no voxel size is known.
    """

    def __init__(
        self,
        radius_a: Range = (25.0, 75.0),
        amplitude: Range = (3.0, 10.0),
        voxel_size: float | Sequence[float] | None = None,
        prob: float = 1.0,
        channel_wise: bool = False,
    ) -> None:
        super().__init__(prob, channel_wise)
        self.radius_a, self.amplitude = _positive("radius_a", radius_a), _positive("amplitude", amplitude)
        self.voxel_size = None if voxel_size is None else voxel_size_zyx(voxel_size)

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw radius, amplitude, and the centre as a fraction of the box, (z, y, x) in -0.5..0.5."""
        return {
            "radius_a": self.uniform(self.radius_a, n),
            "amplitude": self.uniform(self.amplitude, n),
            "position": self.R.uniform(-0.5, 0.5, size=(n, 3)),
        }

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Put a bead into (C, D, H, W); the type, device and floating dtype are kept."""
        volume = to_volume(img, "RandGoldBead")
        voxel_size = self.voxel_size or image_voxel_size(img)
        if voxel_size is None:
            raise ValueError(
                "RandGoldBead needs the voxel size: pass voxel_size in Å, or a MetaTensor whose affine carries it"
            )
        if randomize:
            self.randomize(volume)
        if not self.active.any():
            return img
        radius, amplitude, position = (torch.as_tensor(v).to(volume) for v in self.params.values())
        filled = sphere(volume.shape, voxel_size, radius, position * torch.tensor(volume.shape[1:]).to(volume))
        filled = filled * torch.as_tensor(self.active).to(volume)[:, None, None, None]
        brightest = volume.amax(dim=(1, 2, 3))
        brightest = torch.where(brightest > 0, brightest, torch.ones_like(brightest))
        return like(torch.lerp(volume, (amplitude * brightest)[:, None, None, None], filled), img)


class RandIceGradient(RandPhysics):
    """Add a smooth background to an image: a random plane and a random quadratic form.

    Parameters
    ----------
    amplitude
        Standard deviation of the background as a multiple of the image's, a number or a uniform (min, max), >= 0.
    quadratic
        Weight of the quadratic form beside the plane, a number or a uniform (min, max), >= 0; 0: a plane alone.
    prob, channel_wise
        As for :class:`~.base.RandPhysics`.

    Raises
    ------
    ValueError
        On an impossible range.
    """

    def __init__(
        self,
        amplitude: Range = (0.0, 0.5),
        quadratic: Range = (0.0, 1.0),
        prob: float = 1.0,
        channel_wise: bool = False,
    ) -> None:
        super().__init__(prob, channel_wise)
        self.amplitude, self.quadratic = parse_range("amplitude", amplitude, 0), parse_range("quadratic", quadratic, 0)

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw the amplitude, the slope (z, y, x) and the matrix of the quadratic form."""
        amplitude, weight = self.uniform(self.amplitude, n), self.uniform(self.quadratic, n)
        matrix = self.R.normal(size=(n, 3, 3)) * weight[:, None, None]
        return {"amplitude": amplitude, "linear": self.R.normal(size=(n, 3)), "quadratic": matrix}

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Add to (C, D, H, W); the type, device and floating dtype are kept."""
        volume = to_volume(img, "RandIceGradient")
        if randomize:
            self.randomize(volume)
        if not self.active.any():
            return img
        amplitude, linear, quadratic = (torch.as_tensor(v).to(volume) for v in self.params.values())
        amplitude = (amplitude * torch.as_tensor(self.active).to(volume))[:, None, None, None]
        std = volume.std(dim=(1, 2, 3), keepdim=True, correction=0)
        return like(torch.addcmul(volume, background(volume.shape, linear, quadratic), amplitude * std), img)


def _positive(name: str, value: Range) -> tuple[float, float]:
    low, high = parse_range(name, value)
    if low <= 0:
        raise ValueError(f"{name} must be > 0, got {value!r}")
    return low, high


class RandNeighboursd(RandDictTransform):
    """Dictionary version of :class:`RandNeighbours`: ``keys``, ``mask_key`` (the central particle), its arguments."""

    def __init__(
        self, keys: KeysCollection, mask_key: str | None = None, allow_missing_keys: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(keys, RandNeighbours(**kwargs), allow_missing_keys, mask_key)


class RandGoldBeadd(RandDictTransform):
    """Dictionary version of :class:`RandGoldBead`: ``keys`` and its arguments."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, RandGoldBead(**kwargs), allow_missing_keys)


class RandIceGradientd(RandDictTransform):
    """Dictionary version of :class:`RandIceGradient`: ``keys`` and its arguments."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        super().__init__(keys, RandIceGradient(**kwargs), allow_missing_keys)


RandNeighboursD = RandNeighboursDict = RandNeighboursd
RandGoldBeadD = RandGoldBeadDict = RandGoldBeadd
RandIceGradientD = RandIceGradientDict = RandIceGradientd
