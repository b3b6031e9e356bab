"""Whole tomograms read densely: encoder and decoder once a voxel, the classifier once every 8 voxels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from monai_cryo.inferers.flips import WEDGE_FLIPS
from monai_cryo.inferers.windows import CELL, WINDOW, window_logits
from monai_cryo.networks import TwoBranchNet

__all__ = ["DenseInferer", "DenseReading", "standardize_whole"]

_GRID = 16  # voxels between the places of the deepest map: all blocks begin on one grid, so that they agree
_HALO = 48  # voxels read around a core: the network sees 47

Allocate = Callable[[str, tuple[int, ...], type[np.generic]], NDArray[Any]]
Block = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class DenseReading:
    """What the network says of a tomogram of (D, H, W) voxels.

    Attributes
    ----------
    scores
        Probability of each class, float32 (K, ceil(D / stride), ...): of the window centred on voxel
        ``stride * index + stride / 2``.
    maps
        For each class, the probability of the class there times that of the voxel to belong to it, float16 (D, H, W).
    labels
        int8 (D, H, W): 1 + the class of the largest map where that class's mask says particle, 0 elsewhere.
    stride
        Voxels between scores.
    """

    scores: NDArray[np.float32]
    maps: list[NDArray[np.float16]]
    labels: NDArray[np.int8]
    stride: int


class DenseInferer:
    """Read whole tomograms with a `TwoBranchNet` trained on boxes of 40 voxels.

    The volume is read in blocks: cores that tile it, with all around them that the network sees. The convolutions run
    over a block as they are; the classifier answers for every window of 40 voxels at `stride` (see `window_logits`).
    Cores begin on one grid of 16 voxels, so that the answer does not depend on their size. Against windows cut out one
    by one there is one difference: the first three encoder stacks and the decoder see what lies around a window instead
    of zeros. What is outside the tomogram is 0 after normalisation.

    Parameters
    ----------
    network
        In evaluation mode, without normalisation or with batch normalisation: others measure over the box, and a block
        is no box.
    core
        Largest size of a core, a multiple of 16. Time falls and memory grows with it, the latter with (core + 96)^3.
    stride
        Voxels between the windows classified: 8; 4 or 2, which run the encoder 8 or 64 times.
    threshold
        A voxel belongs to a particle if its probability is at least this.
    background
        Index of a class that stands for no particle: it gets scores, but its map and its label stay 0.
    flips
        Average over the four mirror images that keep a missing wedge; four times the work.

    Raises
    ------
    ValueError
        If an argument is none of the above.
    """

    def __init__(
        self,
        network: TwoBranchNet,
        *,
        core: int = 96,
        stride: int = CELL,
        threshold: float = 0.5,
        background: int | None = None,
        flips: bool = False,
    ) -> None:
        if core % _GRID or core < _GRID:
            raise ValueError(f"core must be a multiple of {_GRID}, got {core}")
        if stride not in (2, 4, CELL):
            raise ValueError(f"stride must be 2, 4 or {CELL}, got {stride}")
        for layer in network.modules():
            if isinstance(layer, _InstanceNorm | torch.nn.GroupNorm) or (
                isinstance(layer, _BatchNorm) and not layer.track_running_stats
            ):
                raise ValueError(f"dense reading needs batch normalisation or none, found {type(layer).__name__}")
        self.network = network
        self.core = core
        self.stride = stride
        self.threshold = threshold
        self.background = background
        self.flips = flips

    def __call__(
        self,
        volume: NDArray[Any],
        normalize: Callable[[NDArray[Any]], Block] | None = None,
        *,
        allocate: Allocate | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> DenseReading:
        """Read a volume at the network's voxel size.

        Parameters
        ----------
        volume
            [z, y, x], an array or a memory map: only a block is in memory at a time.
        normalize
            Measures the whole volume and returns what brings a block (D, H, W) to what the network was trained on;
            None: `standardize_whole`.
        allocate
            Makes the arrays for ``"labels"`` and for ``"map_<k>"`` of a shape and type, as memory maps; None: numpy.
        progress
            Called with (blocks done, blocks) after each.

        Raises
        ------
        ValueError
            If the volume is no volume or the network is in training mode.
        """
        if volume.ndim != 3 or min(volume.shape) < 1:
            raise ValueError(f"expected a volume (z, y, x), got shape {volume.shape}")
        if self.network.training:
            raise ValueError("the network is in training mode, call eval() first")
        prepare = (normalize or standardize_whole)(volume)
        new = allocate or (lambda _, shape, dtype: np.zeros(shape, dtype))
        shape, classes = volume.shape, self.network.num_classes
        reading = DenseReading(
            np.zeros((classes, *(math.ceil(n / self.stride) for n in shape)), np.float32),
            [new(f"map_{k}", shape, np.float16) for k in range(classes)],
            new("labels", shape, np.int8),
            self.stride,
        )
        cores = list(self._cores(shape))
        for done, core in enumerate(cores, 1):
            self._read(volume, core, prepare, reading)
            if progress is not None:
                progress(done, len(cores))
        return reading

    def _cores(self, shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """Tile the volume with cores of like size; the last may reach beyond it."""
        axes = []
        for n in shape:
            cells = math.ceil(n / _GRID)
            count = math.ceil(cells * _GRID / self.core)
            step = math.ceil(cells / count) * _GRID
            axes.append([slice(a, min(a + step, cells * _GRID)) for a in range(0, cells * _GRID, step)])
        return product(*axes)

    @torch.inference_mode()
    def _read(self, volume: NDArray[Any], core: tuple[slice, ...], prepare: Block, reading: DenseReading) -> None:
        device = next(self.network.parameters()).device
        x = self._cut(volume, core, prepare).to(device)[None, None]
        size = [s.stop - s.start for s in core]
        flips = WEDGE_FLIPS if self.flips else WEDGE_FLIPS[:1]
        scores, masks = torch.zeros(()), torch.zeros(())
        for axes in flips:  # a block turned round lies on the same grid
            parts = self._answer(x.flip(axes), size)
            scores, masks = (
                total.to(device) + part.flip(axes) / len(flips)
                for total, part in zip((scores, masks), parts, strict=True)
            )
        smooth = F.interpolate(scores[None], scale_factor=self.stride, mode="trilinear")[0]
        smooth = smooth[(slice(None), *(slice(CELL, CELL + n) for n in size))]
        maps = smooth * masks
        if self.background is not None:
            maps[self.background] = 0
        best, label = maps.max(0)
        label = torch.where((masks.gather(0, label[None])[0] >= self.threshold) & (best > 0), label + 1, 0)

        stop = [min(s.stop, n) for s, n in zip(core, volume.shape, strict=True)]
        target = tuple(slice(s.start, e) for s, e in zip(core, stop, strict=True))
        here = tuple(slice(0, e - s.start) for s, e in zip(core, stop, strict=True))
        for k, array in enumerate(reading.maps):
            array[target] = maps[k][here].half().cpu().numpy()
        reading.labels[target] = label[here].to(torch.int8).cpu().numpy()
        margin = CELL // self.stride
        kept = tuple(slice(margin, margin + math.ceil((e.stop - e.start) / self.stride)) for e in target)
        coarse = tuple(slice(e.start // self.stride, math.ceil(e.stop / self.stride)) for e in target)
        reading.scores[(slice(None), *coarse)] = scores[(slice(None), *kept)].cpu().numpy()

    def _answer(self, x: Tensor, core: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return class probabilities of the windows on a core and a cell around it, and mask probabilities on it."""
        skips = _encode(self.network, x)
        margin = CELL // self.stride  # windows beyond the core, so that interpolation goes on over its faces
        size = [n // self.stride + 2 * margin for n in core]
        scores = torch.empty(self.network.num_classes, *size, device=x.device)
        steps = range(CELL // self.stride)
        for step in product(steps, repeat=3):
            shift = [(s + 0.5) * self.stride - CELL / 2 for s in step]
            cells = (_encode(self.network, _shifted(x, shift)) if any(shift) else skips)[-1]
            first = (_HALO - WINDOW // 2 + CELL // 2) // CELL - 1
            logits = window_logits(self.network, cells.float())[0]
            part = tuple(slice(first, first + n * self.stride // CELL) for n in size)
            scores[(slice(None), *(slice(s, None, len(steps)) for s in step))] = logits[(slice(None), *part)].softmax(0)
        return scores, _decode(self.network, skips)[0].sigmoid()

    def _cut(self, volume: NDArray[Any], core: tuple[slice, ...], prepare: Block) -> Tensor:
        """Return the normalised block around a core, 0 outside the volume."""
        wanted = [(s.start - _HALO, s.stop + _HALO) for s in core]
        bounds = [(max(a, 0), min(b, n)) for (a, b), n in zip(wanted, volume.shape, strict=True)]
        part = torch.from_numpy(np.array(volume[tuple(slice(*b) for b in bounds)], np.float32))
        pad = [p for (a, b), (low, high) in zip(wanted, bounds, strict=True) for p in (b - high, low - a)]
        return F.pad(prepare(part), pad[::-1])


def standardize_whole(volume: NDArray[Any]) -> Block:
    """Measure mean and standard deviation of a whole volume, section by section; return what applies them to a block.

    Raises
    ------
    ValueError
        If the volume holds values that are not finite, or one value everywhere.
    """
    sums = np.array([[s.sum(dtype=np.float64), np.square(s, dtype=np.float64).sum()] for s in volume]).sum(0)
    mean = sums[0] / volume.size
    variance = sums[1] / volume.size - mean**2
    if not math.isfinite(variance):
        raise ValueError("the volume holds NaN or infinite values, expected finite ones")
    if variance <= 1e-12 * mean**2:
        raise ValueError(f"the volume holds one value everywhere ({mean:g}), expected a tomogram")
    return lambda block: (block - mean) / math.sqrt(variance)


def _shifted(x: Tensor, shift: Sequence[float]) -> Tensor:
    """Return the block moved so that its voxel 0 lies `shift` voxels farther on, padded with 0."""
    pad = [p for s in reversed(shift) for p in (-int(s), int(s))]
    return F.pad(x, pad)


def _encode(network: TwoBranchNet, x: Tensor) -> list[Tensor]:
    """Feature maps of the first three encoder stacks around the core, and what the fourth is given, all of it."""
    maps: list[Tensor] = []
    for level, stack in enumerate(network.encoder[:3]):
        x = stack(x)
        maps.append(_around(x, level))
        x = F.max_pool3d(x, 2)
    return [*maps, x]


def _decode(network: TwoBranchNet, maps: list[Tensor]) -> Tensor:
    """Logits of the masks of the core, from what `_encode` returned.

    A convolution needs one cell around what it is to give: every stage gets two cells around the core, of its own size,
    and gives one, which are two of the next stage.
    """
    fourth = network.encoder[3](maps[3])
    x = _cropped(network.deepest(_around(F.max_pool3d(fourth, 2), 4).float()), 1)
    for stack, skip in zip(network.decoder, [_around(fourth, 3), *reversed(maps[:3])], strict=True):
        x = _cropped(stack(x, skip), 1)
    masks: Tensor = network.segmenter(_cropped(x, 1))
    return masks.float()


def _around(features: Tensor, level: int) -> Tensor:
    """Return the core and two cells of 2^level voxels around it; a copy, so that the rest can be freed."""
    return _cropped(features, _HALO // 2**level - 2).clone()


def _cropped(x: Tensor, cells: int) -> Tensor:
    return F.pad(x, [-cells] * 6)
