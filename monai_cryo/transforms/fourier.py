"""Filters in Fourier space, and the container that applies any number of them with one transform pair."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import Transform
from torch import Tensor

from monai_cryo.physics.fourier import voxel_size_zyx
from monai_cryo.transforms.arrays import to_mask
from monai_cryo.transforms.base import Draw, Drawable, Parameters, RandDrawable
from monai_cryo.transforms.dictionary import RandDictTransform
from monai_cryo.transforms.geometry import needed_voxel_size, one_voxel_size
from monai_cryo.transforms.plan import FourierPlan, Grid, grid_of


class FourierStep(Drawable):
    """Base of what a :class:`FourierCompose` can hold: it changes the plan of a batch.

    Parameters
    ----------
    voxel_size
        Å, one number or one for each of the array's axes; None: from the MetaTensor.
    """

    #: whether it needs the true voxel size, not only fractions of Nyquist
    needs_voxel_size = False

    def __init__(self, voxel_size: float | Sequence[float] | None = None) -> None:
        self.voxel_size = None if voxel_size is None else voxel_size_zyx(voxel_size)

    @abstractmethod
    def plan(self, plan: FourierPlan, parameters: Sequence[Draw]) -> None:
        """Enter what was drawn, one draw an item, into the plan."""

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Image a batch with this step alone; ``mask``, ``voxel_size`` and ``axes`` as for :class:`FourierCompose`."""
        return image(batch, [(self, parameters)], **{"voxel_size": self.voxel_size, **context})


class FourierFilter(FourierStep):
    """Base of filters: one transfer function an item. A filter of one's own implements :meth:`transfer`."""

    #: whether the detector's noise (stage "after") passes through this filter too
    filters_detector_noise = False

    @abstractmethod
    def transfer(self, grid: Grid, parameters: Sequence[Parameters]) -> Tensor:
        """Transfer function.

        Parameters
        ----------
        grid
            The half grid.
        parameters
            What :meth:`draw` gave for each of the B items.

        Returns
        -------
        Tensor
            Radial, (B or 1, R) at ``grid.frequency``, or on the half grid, broadcastable to (B, D, H, W // 2 + 1).
        """

    def plan(self, plan: FourierPlan, parameters: Sequence[Draw]) -> None:
        """Multiply; items without a draw pass unchanged."""
        on = [i for i, drawn in enumerate(parameters) if drawn is not None]
        if not on:
            return
        transfer = self.transfer(plan.grid, [p for p in parameters if p is not None])
        plan.multiply(rows(transfer, on, len(parameters)), detector_too=self.filters_detector_noise)


def rows(transfer: Tensor, on: Sequence[int], count: int) -> Tensor:
    """Spread the transfer functions of some items over all of a batch, 1 for the others."""
    if len(on) == count:
        return transfer
    whole = transfer.new_ones(count, *transfer.shape[1:])
    whole[list(on)] = transfer
    return whole


def image(
    batch: Tensor,
    steps: Iterable[tuple[FourierStep, Sequence[Draw]]],
    *,
    voxel_size: tuple[float, float, float] | None = None,
    axes: Any = ("z", "y", "x"),
    mask: Tensor | None = None,
) -> Tensor:
    """Take a batch (B, C, D, H, W) through any number of steps with one rfftn/irfftn pair.

    Parameters
    ----------
    batch
        (B, C, D, H, W).
    steps
        Each with one draw an item.
    voxel_size
        Å along the array's axes; None: unknown.
    axes
        Names of the array's axes.
    mask
        As the batch; for noise with ``region="mask"``.

    Raises
    ------
    ValueError
        If a step needs the voxel size and it is unknown.
    """
    chosen = list(steps)
    for step, _ in chosen:
        if step.needs_voxel_size:
            needed_voxel_size(step, voxel_size)
    plan = FourierPlan(batch, grid_of(batch, voxel_size or (1.0, 1.0, 1.0), axes), mask)
    for filters in (True, False):  # noise is scaled to a signal that has passed the filters
        for step, parameters in chosen:
            if isinstance(step, FourierFilter) == filters:
                step.plan(plan, parameters)
    return plan.image()


class FourierCompose(RandDrawable):
    """``Compose`` for everything that happens in Fourier space: noise and filters in one rfftn/irfftn pair.

    Same numbers as the transforms one after another, at a fraction of the time; but where the CTF is processed
    (``flip``, ``squared``, ``wiener``), so is the detector's noise, which single transforms cannot do. Noise (at most
    one :class:`~.noise.RandSNR`) enters where its ``stage`` says, wherever it stands in the list: before all filters,
    after the optical ones (CTF, MTF) but still under the missing wedge, or split between the two.

    Parameters
    ----------
    transforms
        :class:`FourierFilter` objects and :class:`~.noise.RandSNR`.
    voxel_size
        Å, one number or one for each of the array's axes; None: what a member was given, else the MetaTensor's.

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
        super().__init__()
        if not isinstance(transforms, Sequence):
            raise ValueError(f"FourierCompose takes a list of transforms, got {type(transforms).__name__}")
        self.transforms: list[FourierStep] = []
        for member in transforms:
            if not isinstance(member, FourierStep):
                raise ValueError(f"FourierCompose takes Fourier filters and RandSNR, got {type(member).__name__}")
            self.transforms.append(member)
        noises = [t for t in self.transforms if not isinstance(t, FourierFilter)]
        if len(noises) > 1:
            raise ValueError(f"FourierCompose takes at most one noise, got {len(noises)}")
        self.voxel_size = one_voxel_size(self, voxel_size, *(t.voxel_size for t in self.transforms))
        self.names = unique_names(self.transforms)

    def draw(self, state: np.random.RandomState) -> Draw:
        """Draw for every member, in order: name -> its draw; None where no member is to do anything."""
        drawn = {name: t.draw(state) for name, t in zip(self.names, self.transforms, strict=True)}
        return drawn if any(d is not None for d in drawn.values()) else None

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Image a batch (B, C, D, H, W); ``mask`` as the batch, for noise with ``region="mask"`` alone."""
        steps = [
            (t, [check_names(p, self.names)[name] for p in parameters])
            for name, t in zip(self.names, self.transforms, strict=True)
        ]
        return image(batch, steps, **{"voxel_size": self.voxel_size, **context})

    def __call__(  # type: ignore[override]
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None, randomize: bool = True
    ) -> NdarrayOrTensor:
        """Image one channel-first array.

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
        return self._on_array(img, randomize, mask=to_mask(mask, img, "FourierCompose"))


def unique_names(transforms: Sequence[Any]) -> list[str]:
    """Class names, the second of one class as ``Name_1`` and so on."""
    names: list[str] = []
    for t in transforms:
        name = type(t).__name__
        count = sum(other == name or other.rpartition("_")[0] == name for other in names)
        names.append(f"{name}_{count}" if count else name)
    return names


def check_names(drawn: Parameters, names: Sequence[str]) -> Parameters:
    """Return a composed draw whose names are those of the members; refuse another."""
    if not isinstance(drawn, Mapping) or set(drawn) != set(names):
        found = ", ".join(map(str, drawn)) if isinstance(drawn, Mapping) else repr(drawn)
        raise ValueError(f"a draw for {', '.join(names)} was expected, got one for {found}")
    return drawn


class FourierComposed(RandDictTransform, of=FourierCompose):
    """Dictionary version of :class:`FourierCompose`; its members are array transforms."""


FourierComposeD = FourierComposeDict = FourierComposed
