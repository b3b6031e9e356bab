"""A box as crowded as a cell: other particles in any pose, and membranes, around the central one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import max_pool3d

from monai_cryo.physics.fourier import voxel_size_zyx
from monai_cryo.physics.membrane import bilayer
from monai_cryo.physics.pose import bounding_radius, move, rotation_from_uniform
from monai_cryo.physics.resampling import same_voxel_size
from monai_cryo.physics.scene import pack_, positions_from_uniform
from monai_cryo.transforms.arrays import to_mask
from monai_cryo.transforms.base import Parameters, RandDrawable
from monai_cryo.transforms.dictionary import RandDictTransform
from monai_cryo.transforms.ranges import (
    Range,
    draw_seed,
    parse_number,
    parse_positive,
    parse_range,
    parse_whole,
    uniform,
)

#: places drawn for each neighbour, of which the first free one is taken
TRIES = 16
#: share of its maximum above which a bare density counts as occupied, as for the embedded templates
OCCUPIED = 0.15


@runtime_checkable
class HasMask(Protocol):
    """A density with its own mask, such as :class:`monai_cryo.templates.Template`."""

    density: Tensor
    mask: Tensor


class RandNeighbours(RandDrawable):
    """Add other particles around the central one, in any pose, partly cut by the box; its mask stays as it is.

    They are packed as in a cell: each lies uniformly in a shell around the box's centre, wherever its voxels hardly
    overlap with what is there already. One that finds no room in 16 tries is left out. Real ribosomes stand 13 voxels
    of 13.68 Å apart, much less than their bounding spheres would.

    Parameters
    ----------
    templates
        Densities (d, h, w), each centred on voxel N // 2, or templates, which bring their masks. Pairs give each
        group of them a weight, ``[(templates, weight), ...]``; else all are equally likely.
    count
        Neighbours of an item, a whole number or a uniform (min, max), both included.
    distance_vox
        Centre-to-centre distance from the box's centre in voxels, (min, max); None: wherever they come into the box.
        Where there is no central particle, ``clearance_vox`` is the least.
    clearance_vox
        Where there is no central particle: how far from the box's centre the centres of particles and the middle of a
        membrane stay, so that none of them is what the box itself holds.
    concentration
        How mixed a crowd is: the weights of each item's neighbours are drawn from a Dirichlet distribution about those
        of the templates, whose parameters add up to this, >= 0.05. At 3.6 one or two kinds make most of a crowd, as
        ribosomes do in a cell; the larger, the more every crowd is like the others. None: the same weights for all.
    overlap
        Largest share of a neighbour's own voxels that may meet what is there already, 0..1.
    amplitude
        Factor on the density of each neighbour, a number or a uniform (min, max), > 0.
    membrane_prob
        Probability of a membrane beside the central particle, before the neighbours are packed.
    membrane_amplitude
        Its density, where a template's mean is 1; a number or a uniform (min, max), > 0.
    one_sided_prob
        Where the central mask divides the box, as a membrane does, or a membrane beside it: probability that one side
        is empty. Beside a particle it is the membrane's far side.
    side_density
        Density by which the other side is raised then, a number or a uniform (min, max), >= 0.
    empty_prob
        Where there is no central particle: probability that nothing is put around it either.
    voxel_size
        Å, for membranes alone; None: from the MetaTensor.
    prob
        Probability that an item gets neighbours.

    Raises
    ------
    ValueError
        On an empty or misshapen template, an impossible range, or a membrane without a voxel size.
    """

    def __init__(
        self,
        templates: Sequence[Any],
        count: int | Sequence[int] = (1, 3),
        *,
        distance_vox: Sequence[float] | None = None,
        clearance_vox: float = 0.0,
        concentration: float | None = None,
        overlap: float = 0.03,
        amplitude: Range = 1.0,
        membrane_prob: float = 0.0,
        membrane_amplitude: Range = (0.3, 1.0),
        one_sided_prob: float = 0.0,
        side_density: Range = (0.0, 0.8),
        empty_prob: float = 0.0,
        voxel_size: float | Sequence[float] | None = None,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        low, high = parse_range("count", count, low=0)
        self.count = parse_whole("count", low, 0), parse_whole("count", high, 0)
        self.distance_vox = None if distance_vox is None else parse_range("distance_vox", distance_vox, low=0)
        self.clearance_vox = parse_number("clearance_vox", clearance_vox, 0.0)
        if self.distance_vox is not None and self.clearance_vox > self.distance_vox[1]:
            raise ValueError(
                f"clearance_vox must be no more than the largest distance_vox, got {clearance_vox} and {distance_vox}"
            )
        # below, a crowd is of one kind anyway, and the draw of it may vanish
        self.concentration = None if concentration is None else parse_number("concentration", concentration, 0.05)
        self.overlap = parse_number("overlap", overlap, 0.0, 1.0)
        self.amplitude = parse_positive("amplitude", amplitude)
        self.membrane_prob = parse_number("membrane_prob", membrane_prob, 0.0, 1.0)
        self.membrane_amplitude = parse_positive("membrane_amplitude", membrane_amplitude)
        self.one_sided_prob = parse_number("one_sided_prob", one_sided_prob, 0.0, 1.0)
        self.side_density = parse_range("side_density", side_density, low=0)
        self.empty_prob = parse_number("empty_prob", empty_prob, 0.0, 1.0)
        self.voxel_size = None if voxel_size is None else voxel_size_zyx(voxel_size)
        self.templates, self.weights = _read_templates(templates, self.voxel_size)
        self.radius_vox = [bounding_radius(density) for density, _ in self.templates]

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw neighbours, the seed of their places, the membrane and the empty side, None where there is none."""
        count = int(state.randint(self.count[0], self.count[1] + 1))
        turns = state.uniform(size=(count, 3))
        drawn: Parameters = {
            "template": state.choice(len(self.templates), size=count, p=self._mixture(state)).tolist(),
            "rotation": rotation_from_uniform(turns).tolist(),
            "amplitude": uniform(state, self.amplitude, count),
            "place_seed": draw_seed(state),
            "membrane": None,
            "side": None,
        }
        if state.rand() < self.membrane_prob:
            drawn["membrane"] = {
                "normal": state.normal(size=3).tolist(),
                "distance": float(state.rand()),
                "thickness_a": float(state.uniform(30.0, 45.0)),
                "curvature_per_a": float(state.uniform(-1 / 250, 1 / 250)),
                "amplitude": uniform(state, self.membrane_amplitude),
            }
        if state.rand() < self.one_sided_prob:
            drawn["side"] = {"which": int(state.randint(2)), "density": uniform(state, self.side_density)}
        if self.empty_prob:  # not drawn otherwise: what comes after draws the same numbers as ever
            drawn["empty"] = bool(state.rand() < self.empty_prob)
        return drawn

    def _mixture(self, state: np.random.RandomState) -> Sequence[float] | NDArray[np.float64]:
        """Probability of each template in one crowd."""
        if self.concentration is None:
            return self.weights
        shares: NDArray[np.float64] = state.gamma(self.concentration * np.array(self.weights))
        return shares / shares.sum()

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Crowd a batch of clean densities (B, C, D, H, W).

        ``mask`` (as the batch) marks the central particle; without it, whatever is not zero. What a box without a mask
        holds all the same is none of its own: it takes its room. All channels get the same neighbours.
        """
        mask = context.get("mask")
        central = (batch if mask is None else mask).any(dim=1)
        poses = self._poses(parameters, batch)
        crowd = torch.zeros_like(batch[:, 0])
        for i, drawn in enumerate(parameters):
            if drawn.get("empty") and not bool(central[i].any()):
                continue
            standing, beside = central[i], None
            if not bool(standing.any()):
                stranger = batch[i].amax(0)
                standing = stranger > OCCUPIED * stranger.max().clamp(min=0)
            occupied = standing.clone()
            if drawn["membrane"] is not None:
                density, beside = self._membrane(drawn["membrane"], standing, batch, context)
                crowd[i] += density
                occupied |= beside
            generator = torch.Generator().manual_seed(drawn["place_seed"])
            places = self._places(drawn["template"], batch.shape[2:], bool(central[i].any()), generator)
            for (particle, inside), candidates in zip(poses[i], places, strict=True):
                pack_(crowd[i], occupied, particle, inside, candidates, self.overlap)
            if drawn["side"] is not None:
                _empty_side(crowd[i], standing, beside, drawn["side"])
        return batch + crowd[:, None]

    def _poses(self, parameters: Sequence[Parameters], batch: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
        """For each item its neighbours in their poses, density and mask; one resampling for each template."""
        owners: dict[int, list[tuple[int, int]]] = {}
        for i, drawn in enumerate(parameters):
            if not len(drawn["template"]) == len(drawn["rotation"]) == len(drawn["amplitude"]):
                raise ValueError("RandNeighbours: template, rotation and amplitude of a draw must be equally many")
            for j, template in enumerate(drawn["template"]):
                if template not in range(len(self.templates)):
                    raise ValueError(f"RandNeighbours has templates 0..{len(self.templates) - 1}, got {template!r}")
                owners.setdefault(template, []).append((i, j))
        found: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        for template, members in owners.items():
            density, mask = self.templates[template]
            radius = self.radius_vox[template]
            edge = 2 * radius + 3  # one voxel more on each side for the interpolation's reach
            pair = torch.stack([density, mask.to(density)]).to(batch).expand(len(members), -1, -1, -1, -1)
            rotation = torch.tensor([parameters[i]["rotation"][j] for i, j in members]).to(batch)
            turned = move(pair, rotation, batch.new_zeros(len(members), 3), shape=(edge,) * 3, radius_vox=radius)
            for (i, j), (values, inside) in zip(members, turned, strict=True):
                found[i, j] = values * parameters[i]["amplitude"][j], inside >= 0.5
        return [[found[i, j] for j in range(len(p["template"]))] for i, p in enumerate(parameters)]

    def _places(self, templates: Sequence[int], box: Sequence[int], around: bool, generator: torch.Generator) -> Tensor:
        """Candidate places (M, K, 3) of an item's neighbours, whole voxels from the centre."""
        reach = [self.radius_vox[t] + math.hypot(*box) / 2 for t in templates]  # as far as the corners
        low, high = (0.0, torch.tensor(reach)[:, None]) if self.distance_vox is None else self.distance_vox
        u = torch.rand(len(templates), TRIES, 3, generator=generator)
        return positions_from_uniform(u, low if around else self.clearance_vox, high).round().long()

    def _membrane(
        self, drawn: Mapping[str, Any], central: Tensor, batch: Tensor, context: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Density and mask of a membrane that clears the central particle, nothing where there is no room for it."""
        size = self.voxel_size or context.get("voxel_size")
        if size is None:
            raise ValueError("RandNeighbours needs the voxel size for membranes: pass voxel_size in Å")
        normal = torch.tensor(drawn["normal"]).to(batch)
        normal = normal / normal.norm()
        spacing = torch.tensor(size).to(batch)
        middle = torch.tensor([n // 2 for n in central.shape], device=batch.device)
        voxels = (central.nonzero() - middle) * spacing
        # the farthest point of the particle along the normal, and of the box
        if len(voxels):
            near = float((voxels @ normal).max()) + drawn["thickness_a"] / 2 + 7
        else:
            near = self.clearance_vox * float((normal * spacing).norm())
        far = float((normal.abs() * spacing * torch.tensor(central.shape).to(batch) / 2).sum())
        offset = near + drawn["distance"] * max(0.0, 0.7 * far - near)
        for curvature in (drawn["curvature_per_a"], 0.0):
            density, mask = bilayer(
                central.shape,
                size,
                normal=normal,
                offset_a=offset,
                thickness_a=drawn["thickness_a"],
                radius_a=1 / curvature if curvature else math.inf,
            )
            if int((mask & central).sum()) <= self.overlap * int(mask.sum()):
                break
        else:  # the particle leaves it no room
            mask = torch.zeros_like(mask)
        if not bool(mask.any()):
            return torch.zeros_like(density), mask
        return density * (drawn["amplitude"] / density[mask].mean()), mask

    def __call__(  # type: ignore[override]
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None, randomize: bool = True
    ) -> NdarrayOrTensor:
        """Add neighbours to a clean density (C, D, H, W).

        Parameters
        ----------
        img
            (C, D, H, W).
        mask
            Same shape: the central particle. None: wherever the density is not zero.
        randomize
            False: apply what was drawn last.
        """
        return self._on_array(img, randomize, mask=to_mask(mask, img, "RandNeighbours"))


def _read_templates(
    templates: Sequence[Any], voxel_size: tuple[float, float, float] | None
) -> tuple[list[tuple[Tensor, Tensor]], list[float]]:
    """Densities with masks, and the probability of each."""
    array = isinstance(templates, Tensor | np.ndarray) and templates.ndim > 0
    if not (array or isinstance(templates, Sequence)) or isinstance(templates, str):
        raise ValueError(f"templates must be a list of densities or templates, got {type(templates).__name__}")
    groups: list[tuple[Sequence[Any], float]] = [(templates, 1.0)]
    if len(templates) and all(
        isinstance(g, tuple | list) and len(g) == 2 and isinstance(g[1], Real) for g in templates
    ):
        groups = [(members, float(weight)) for members, weight in templates if members]
    read: list[tuple[Tensor, Tensor]] = []
    weights: list[float] = []
    for members, weight in groups:
        if not 0 <= weight < math.inf:
            raise ValueError(f"weights of templates must be >= 0, got {weight}")
        for i, t in enumerate(members):
            density = torch.as_tensor(t.density if isinstance(t, HasMask) else t).to(torch.float32)
            if density.ndim != 3 or not bool(density.any()) or not bool(density.isfinite().all()):
                raise ValueError(
                    f"templates[{i}] must be a finite (d, h, w) that is not zero, got {tuple(density.shape)}"
                )
            own = getattr(t, "voxel_size", None)
            if own is not None and voxel_size is not None and not same_voxel_size(own, voxel_size):
                raise ValueError(f"templates[{i}] has voxels of {own:g} Å, expected {voxel_size} Å as given")
            mask = t.mask if isinstance(t, HasMask) else density > OCCUPIED * density.max()
            read.append((density, mask))
            weights.append(weight / len(members))
    if not read or not sum(weights) > 0:
        raise ValueError("templates must hold at least one density, got none")
    return read, [w / sum(weights) for w in weights]


def _empty_side(crowd: Tensor, central: Tensor, beside: Tensor | None, side: Mapping[str, Any]) -> None:
    """Empty the crowd on one side of the central mask or else of the membrane beside it, raise the other, in place."""
    sides = _sides(central)
    if sides is None and beside is not None:
        sides = _sides(beside)
    if sides is None:
        return
    empty, full = sides if side["which"] else sides[::-1]
    if bool((central & empty).any()):
        empty, full = full, empty  # the particle stands in the crowd
    crowd.masked_fill_(empty, 0.0)
    crowd += full * side["density"]


def _sides(mask: Tensor) -> tuple[Tensor, Tensor] | None:
    """The two parts into which a mask divides the box, the larger one first; None where it does not."""
    # half the resolution tells, at an eighth of the time, that a compact particle divides nothing
    if ndimage.label(max_pool3d(mask[None].float(), 2, ceil_mode=True)[0].cpu().numpy() == 0)[1] < 2:
        return None
    labels, count = ndimage.label(~mask.cpu().numpy())
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    first, second = np.argsort(sizes)[::-1][:2]
    if count < 2 or sizes[second] < 0.02 * labels.size:
        return None
    return torch.from_numpy(labels == first).to(mask.device), torch.from_numpy(labels == second).to(mask.device)


class RandNeighboursd(RandDictTransform, of=RandNeighbours):
    """Dictionary version of :class:`RandNeighbours`; ``mask_key`` names the central particle's mask."""


RandNeighboursD = RandNeighboursDict = RandNeighboursd
