"""Whole tomograms classified densely: the encoder once a voxel, the classifier once every 8 voxels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from monai_cryo.inferers.classifier_map import CELL, WINDOW, window_logits
from monai_cryo.inferers.flips import WEDGE_FLIPS
from monai_cryo.io.tomogram import cut_region, sections
from monai_cryo.networks import TwoBranchNet

__all__ = ["DenseInferer", "standardize_whole"]

_HALO = 32  # voxels read around a core: a window reaches 16 beyond it, the encoder 8 more, and a shift 3 more

Prepare = Callable[[Tensor], Tensor]


class DenseInferer:
    """Classify every window of a tomogram with a `TwoBranchNet` trained on boxes of 40 voxels.

    The volume is read in blocks: cores that tile it, with all around them that the encoder sees. It runs over a block
    as it is; the classifier answers for every window of 40 voxels at `stride` (see `window_logits`). Cores begin
    on one grid of 8 voxels, so that the answer does not depend on their size. Against windows cut out one by one there
    is one difference: the first three encoder stacks see what lies around a window instead of zeros. What is outside
    the tomogram is 0 after normalisation.

    The decoder is no part of it: it outlines the particle in the middle of a box, and finds the middle by the zeros
    around the box, which a block does not have. `WindowInferer` outlines.

    Parameters
    ----------
    network
        In evaluation mode, without normalisation or with batch normalisation: others measure over the box, and a block
        is no box.
    core
        Largest size of a core, a multiple of 8. Time falls and memory grows with it, the latter with (core + 64)^3.
    stride
        Voxels between the windows classified: 8; 4 or 2, which run the encoder 8 or 64 times.
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
        flips: bool = False,
    ) -> None:
        if core % CELL or core < CELL:
            raise ValueError(f"core must be a multiple of {CELL}, got {core}")
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
        self.flips = flips

    def __call__(
        self,
        volume: NDArray[Any],
        prepare: Prepare | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Read a volume at the network's voxel size.

        Parameters
        ----------
        volume
            [z, y, x], an array or a memory map: only a block is in memory at a time.
        prepare
            Brings a block (D, H, W) to what the network was trained on; None: `standardize_whole` of the volume.
        progress
            Called with (blocks done, blocks) after each.

        Returns
        -------
        numpy.ndarray
            Probability of each class, (K, ceil(D / stride), ...): of the window centred on voxel
            ``stride * index + stride / 2``.

        Raises
        ------
        ValueError
            If the volume is no volume or the network is in training mode.
        """
        if volume.ndim != 3 or min(volume.shape) < 1:
            raise ValueError(f"expected a volume (z, y, x), got shape {volume.shape}")
        if self.network.training:
            raise ValueError("the network is in training mode, call eval() first")
        prepare = prepare or standardize_whole(volume)
        scores = np.zeros((self.network.num_classes, *(math.ceil(n / self.stride) for n in volume.shape)), np.float32)
        cores = list(self._cores(volume.shape))
        for done, core in enumerate(cores, 1):
            self._read(volume, core, prepare, scores)
            if progress is not None:
                progress(done, len(cores))
        return scores

    def blocks(self, shape: Sequence[int]) -> int:
        """Return how many blocks a volume (D, H, W) is read in."""
        return sum(1 for _ in self._cores(shape))

    def _cores(self, shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """Tile the volume with cores of like size; the last may reach beyond it."""
        axes = []
        for n in shape:
            cells = math.ceil(n / CELL)
            count = math.ceil(cells * CELL / self.core)
            step = math.ceil(cells / count) * CELL
            axes.append([slice(a, min(a + step, cells * CELL)) for a in range(0, cells * CELL, step)])
        return product(*axes)

    @torch.inference_mode()
    def _read(
        self, volume: NDArray[Any], core: tuple[slice, ...], prepare: Prepare, scores: NDArray[np.float32]
    ) -> None:
        x = self._cut(volume, core, prepare).to(next(self.network.parameters()).device)[None, None]
        size = [s.stop - s.start for s in core]
        flips = WEDGE_FLIPS if self.flips else WEDGE_FLIPS[:1]
        # a block turned round lies on the same grid
        found = torch.stack([self._answer(x.flip(axes), size).flip(axes) for axes in flips]).mean(0)
        stop = [min(s.stop, n) for s, n in zip(core, volume.shape, strict=True)]
        coarse = tuple(
            slice(s.start // self.stride, math.ceil(e / self.stride)) for s, e in zip(core, stop, strict=True)
        )
        kept = tuple(slice(0, s.stop - s.start) for s in coarse)
        scores[(slice(None), *coarse)] = found[(slice(None), *kept)].cpu().numpy()

    def _answer(self, x: Tensor, core: Sequence[int]) -> Tensor:
        """Return the class probabilities of the windows on a core."""
        scores = torch.empty(self.network.num_classes, *(n // self.stride for n in core), device=x.device)
        steps = range(CELL // self.stride)
        for step in product(steps, repeat=3):
            shift = [(s + 0.5) * self.stride - CELL / 2 for s in step]
            cells = _encode(self.network, _shifted(x, shift) if any(shift) else x)
            first = (_HALO - WINDOW // 2 + CELL // 2) // CELL
            logits = window_logits(self.network, cells.float())[0]
            part = tuple(slice(first, first + n // CELL) for n in core)
            scores[(slice(None), *(slice(s, None, len(steps)) for s in step))] = logits[(slice(None), *part)].softmax(0)
        return scores

    def _cut(self, volume: NDArray[Any], core: tuple[slice, ...], prepare: Prepare) -> Tensor:
        """Return the normalised block around a core, 0 outside the volume."""
        length = [s.stop - s.start + 2 * _HALO for s in core]
        part, beyond = cut_region(volume, [s.start - _HALO for s in core], length)
        return F.pad(prepare(torch.from_numpy(part)), [n for pair in reversed(beyond) for n in pair])


def standardize_whole(volume: NDArray[Any]) -> Prepare:
    """Measure mean and standard deviation of a whole volume, section by section; return what applies them to a block.

    Raises
    ------
    ValueError
        If the volume holds values that are not finite, or one value everywhere.
    """
    sums = np.array([[s.sum(dtype=np.float64), np.square(s, dtype=np.float64).sum()] for s in sections(volume)]).sum(0)
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


def _encode(network: TwoBranchNet, x: Tensor) -> Tensor:
    """What the fourth encoder stack is given."""
    for stack, pool in zip(network.encoder[:3], network.pools, strict=False):
        x = F.max_pool3d(stack(x), pool)
    return x
