"""Filters in Fourier space, and the container that applies any number of them with one transform pair."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import Randomizable, Transform
from torch import Tensor

from monai_cryo.physics.fourier import frequency_shells, irfft, nyquist, rfft, spread, voxel_size_zyx
from monai_cryo.transforms.base import RandDictTransform, RandPhysics, image_voxel_size, like, to_volume


class FourierNoise(Transform):
    """Base of the noise a :class:`FourierCompose` can add: unit white noise, and the amplitude it is to have."""

    active: np.ndarray

    @abstractmethod
    def white_noise(self, volume: Tensor) -> Tensor:
        """Transform of white noise of variance 1 (C, D, H, W // 2 + 1), for every channel of ``volume``."""

    @abstractmethod
    def amplitude(
        self,
        volume: Tensor,
        spectrum: Tensor,
        optics: Tensor,
        radii: Tensor,
        index: Tensor,
        voxel_size: tuple[float, float, float],
        mask: NdarrayOrTensor | None,
    ) -> tuple[Tensor, bool]:
        """Radial amplitude (C, R or 1), and whether ``optics`` are still to be applied to the noise."""


class FourierFilter(Transform):
    """Base of transforms that are one multiplication in Fourier space.

    Parameters
    ----------
    voxel_size
        Å, one number or (z, y, x); None: from the MetaTensor.
    """

    #: whether noise of stage "after" (the detector's) passes through this filter too
    filters_detector_noise = False

    def __init__(self, voxel_size: float | Sequence[float] | None = None) -> None:
        self.voxel_size = None if voxel_size is None else voxel_size_zyx(voxel_size)

    @abstractmethod
    def transfer(self, shape: Sequence[int], voxel_size: tuple[float, float, float], like: Tensor) -> Tensor:
        """Transfer function, broadcastable to (C, D, H, W // 2 + 1), on the device and in the dtype of ``like``."""

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Filter (C, D, H, W); the type, device and floating dtype are kept."""
        return FourierCompose([self])(img, randomize=randomize)


class RadialFilter(FourierFilter):
    """Base of filters that depend on the spatial frequency's magnitude alone."""

    #: whether :meth:`profile` needs the true voxel size, not only fractions of Nyquist
    needs_voxel_size = False

    @abstractmethod
    def profile(self, frequency: Tensor, nyquist: float) -> Tensor:
        """Values (C or 1, R) at frequencies (R,) in 1/Å."""

    def transfer(self, shape: Sequence[int], voxel_size: tuple[float, float, float], like: Tensor) -> Tensor:
        """Spread :meth:`profile` over the half grid."""
        radii, index = frequency_shells(shape, voxel_size, device=like.device, dtype=like.dtype)
        return spread(self.profile(radii, nyquist(voxel_size)), index)


class RandFilter(RandPhysics):
    """Mixin for the random version of a filter: inactive channels pass unchanged."""

    def only_active(self, transfer: Tensor) -> Tensor:
        """Put 1 where a channel was drawn not to be transformed."""
        if self.active.all():
            return transfer
        active = torch.as_tensor(self.active, device=transfer.device)
        return torch.where(active.view(-1, *[1] * (transfer.ndim - 1)), transfer, torch.ones_like(transfer))


class FourierCompose(Randomizable, Transform):
    """``Compose`` for everything that happens in Fourier space: noise and filters in one rfftn/irfftn pair.

    Same numbers as the transforms one after another, at a fraction of the time. Noise (at most one
    :class:`~.noise.RandSNR`) enters where its ``stage`` says, wherever it stands in the list: before all filters,
    after the optical ones (CTF, MTF) but still under the missing wedge, or half and half.

    Parameters
    ----------
    transforms
        :class:`FourierFilter` objects and :class:`~.noise.RandSNR`.
    voxel_size
        Å, one number or (z, y, x); None: what a member was given, else the MetaTensor's.

    Raises
    ------
    ValueError
        On other members, more than one noise, or members with different voxel sizes.

    Examples
    --------
    >>> image_it = FourierCompose([RandSNR(), RandMissingWedge(), RandCTF(), MTF()], voxel_size=13.68)
    >>> subtomogram = image_it(density)  # (C, D, H, W)
    """

    def __init__(self, transforms: Sequence[Transform], voxel_size: float | Sequence[float] | None = None) -> None:
        self.transforms = list(transforms)
        for member in self.transforms:
            if not isinstance(member, FourierFilter | FourierNoise):
                raise ValueError(f"FourierCompose takes Fourier filters and RandSNR, got {type(member).__name__}")
        self.filters = [t for t in self.transforms if isinstance(t, FourierFilter)]
        noises = [t for t in self.transforms if isinstance(t, FourierNoise)]
        if len(noises) > 1:
            raise ValueError(f"FourierCompose takes at most one noise, got {len(noises)}")
        self.noise = noises[0] if noises else None
        given = {voxel_size_zyx(voxel_size)} if voxel_size is not None else set()
        given |= {t.voxel_size for t in self.filters if t.voxel_size is not None}
        if len(given) > 1:
            raise ValueError(f"FourierCompose found different voxel sizes in Å: {sorted(given)}")
        self.voxel_size = next(iter(given), None)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> FourierCompose:
        """Let all random members draw from one state, in order."""
        super().set_random_state(seed, state)
        for member in self.transforms:
            if isinstance(member, Randomizable):
                member.set_random_state(state=self.R)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw the parameters of every random member, in order."""
        for member in self.transforms:
            if isinstance(member, Randomizable):
                member.randomize(data)

    def _voxel_size(self, img: NdarrayOrTensor) -> tuple[float, float, float]:
        size = self.voxel_size or image_voxel_size(img)
        if size is None:
            for member in self.filters:
                if getattr(member, "needs_voxel_size", False):
                    raise ValueError(
                        f"{type(member).__name__} needs the voxel size: pass voxel_size in Å, or a MetaTensor whose "
                        "affine carries it"
                    )
        return size or (1.0, 1.0, 1.0)

    def __call__(
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None, randomize: bool = True
    ) -> NdarrayOrTensor:
        """Image channel-first volumes.

        Parameters
        ----------
        img
            (C, D, H, W).
        mask
            Same shape; needed by noise with ``region="mask"`` alone.
        randomize
            False: apply what was drawn last.

        Returns
        -------
        NdarrayOrTensor
            Same shape, type, device and (floating) dtype.
        """
        volume = to_volume(img, type(self).__name__)
        if randomize:
            self.randomize(volume)
        shape, voxel_size = volume.shape, self._voxel_size(img)
        radii, index = frequency_shells(shape, voxel_size, device=volume.device, dtype=volume.dtype)
        edge = nyquist(voxel_size)
        optics = volume.new_ones(1, 1)  # radial, in the path of the signal alone
        whole = volume.new_ones(1, 1)  # radial, in the path of everything
        rest: list[Tensor] = []
        for member in self.filters:
            if not isinstance(member, RadialFilter):
                rest.append(member.transfer(shape, voxel_size, volume))
            elif member.filters_detector_noise:
                whole = whole * member.profile(radii, edge)
            else:
                optics = optics * member.profile(radii, edge)

        spectrum = rfft(volume)
        grain = None
        if self.noise is not None and self.noise.active.any():
            amplitude, like_signal = self.noise.amplitude(volume, spectrum, optics, radii, index, voxel_size, mask)
            grain = self.noise.white_noise(volume)
            if like_signal:  # white and ahead of the optics: it passes through the same filters as the signal
                torch.view_as_real(spectrum).addcmul_(torch.view_as_real(grain), amplitude[..., None, None, None])
                grain = None
            else:
                grain.mul_(_filter(amplitude * whole, rest, index))
        spectrum.mul_(_filter(optics * whole, rest, index))
        return like(irfft(spectrum if grain is None else spectrum.add_(grain), shape), img)


def _filter(profile: Tensor, factors: Sequence[Tensor], index: Tensor) -> Tensor:
    """Radial values (C or 1, R or 1) on the half grid, times other factors: real products cost less than complex."""
    result = profile[..., None, None] if profile.shape[-1] == 1 else spread(profile, index)
    for factor in factors:
        result = result * factor
    return result


class FourierComposed(RandDictTransform):
    """Dictionary version of :class:`FourierCompose`; its members are array transforms.

    Parameters
    ----------
    keys
        Entries to image.
    transforms, voxel_size
        As for :class:`FourierCompose`.
    mask_key
        Entry with the mask for noise with ``region="mask"``.
    allow_missing_keys
        Do not raise where a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        transforms: Sequence[Transform],
        voxel_size: float | Sequence[float] | None = None,
        mask_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, FourierCompose(transforms, voxel_size), allow_missing_keys, mask_key)


FourierComposeD = FourierComposeDict = FourierComposed
