"""The classifier at every place of a block: what the network says of each window, without cutting windows."""

from __future__ import annotations

from functools import reduce
from itertools import product

import torch
from monai.networks.blocks import Convolution
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from monai_cryo.networks import TwoBranchNet

__all__ = ["CELL", "WINDOW", "window_logits"]

WINDOW = 40  # voxels, the box the network is trained on
CELL = 8  # voxels a cell of the third pooled map is apart
_CORNERS = tuple(product((0, 1), repeat=3))


def window_logits(network: TwoBranchNet, cells: Tensor) -> Tensor:
    """Return the class logits of every window of 5^3 cells (40^3 voxels), at a stride of one cell (8 voxels).

    From this map on the answer is exactly the window's own, the zeros around it included. In a window the fourth
    convolution sees 5 cells an axis; the fifth max-pool takes 0 with 1 and 2 with 3, and drops the last. So only the
    first cell misses a neighbour: the convolution is made with and without the taps below, along each axis. The deepest
    convolution sees the 2^3 pooled cells amid zeros and the classifier the maximum of its 2^3 answers: one matrix from
    2^3 cells to 2^3 answers, made of the kernel's taps.

    Parameters
    ----------
    network
        The network.
    cells
        What its fourth encoder stack is given, (B, C, d, h, w), of at least 5 cells an axis.

    Returns
    -------
    Tensor
        (B, K, d - 4, h - 4, w - 4); entry (k, j, i) is the window of cells k..k + 4, j..j + 4, i..i + 4.

    Raises
    ------
    ValueError
        If the map is smaller than a window.
    """
    span = WINDOW // CELL
    if min(cells.shape[2:]) < span:
        raise ValueError(f"a window spans {span} cells of {CELL} voxels an axis, got a map of {list(cells.shape[2:])}")
    fourth, deepest = network.encoder[3].layer, network.deepest
    features = {corner: _without_taps_below(fourth, cells, corner) for corner in product((False, True), repeat=3)}
    size = [n - span + 1 for n in cells.shape[2:]]

    def part(corner: tuple[bool, ...], first: tuple[int, ...]) -> Tensor:
        z, y, x = (slice(f, f + n) for f, n in zip(first, size, strict=True))
        return features[corner][..., z, y, x]

    pooled = []
    for cell in _CORNERS:
        firsts = [tuple(2 * c + s for c, s in zip(cell, step, strict=True)) for step in _CORNERS]
        parts = (part(tuple(f == 0 for f in first), first) for first in firsts)
        pooled.append(reduce(torch.maximum, parts))

    kernel = deepest.conv.weight
    matrix = []
    for az, ay, ax in _CORNERS:
        cell_taps = [kernel[:, :, 1 + z - az, 1 + y - ay, 1 + x - ax] for z, y, x in _CORNERS]
        matrix.append(torch.cat(cell_taps, 1))
    weight = torch.cat(matrix)[..., None, None, None]
    answers = F.conv3d(torch.cat(pooled, 1), weight, deepest.conv.bias.repeat(len(_CORNERS)))
    answers = deepest.adn(answers.unflatten(1, (len(_CORNERS), -1)).flatten(0, 1))
    top = answers.unflatten(0, (-1, len(_CORNERS))).amax(1)
    logits: Tensor = network.classifier(top.movedim(1, -1).flatten(0, -2))
    return logits.view(top.shape[0], *size, -1).movedim(-1, 1)


def _without_taps_below(stack: Convolution, x: Tensor, axes: tuple[bool, ...]) -> Tensor:
    """Apply a stack of convolution as if there were zeros below each voxel along the axes named."""
    z, y, x_axis = (slice(int(axis), None) for axis in axes)
    weight = stack.conv.weight[:, :, z, y, x_axis]
    pad = [p for axis in reversed(axes) for p in (int(not axis), 1)]
    features: Tensor = stack.adn(F.conv3d(F.pad(x, pad), weight, stack.conv.bias))
    return features
