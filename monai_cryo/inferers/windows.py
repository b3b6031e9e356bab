"""The classifier at every place of a block: what the network says of each window, without cutting windows."""

from __future__ import annotations

from itertools import product

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

__all__ = ["CELL", "WINDOW", "window_logits"]

WINDOW = 40  # voxels, the box the network is trained on
CELL = 8  # voxels a cell of the fourth encoder stack's map is apart


def window_logits(deepest: Convolution, classifier: nn.Module, cells: Tensor) -> Tensor:
    """Return the class logits of every window of 5^3 cells (40^3 voxels), at a stride of one cell (8 voxels).

    In a window the fifth max-pool turns 5 cells into 2 (0 with 1 and 2 with 3; the fifth is dropped), the deepest
    convolution sees these 2^3 amid zeros, and the classifier the maximum over its 2^3 answers. Each of these 8 answers
    therefore uses 2^3 of the kernel's 27 taps, two cells apart: 8 dilated convolutions give it for all windows at once,
    exactly, with the zeros at the window's edge; the fully connected layers are 1^3 convolutions over the maximum.

    Parameters
    ----------
    deepest
        The deepest encoder stack, with a 3^3 convolution.
    classifier
        The fully connected layers, (N, channels) to (N, K).
    cells
        What the fourth encoder stack gives, (B, C, d, h, w), of at least 5 cells an axis.

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
    pooled = F.max_pool3d(cells, 2, stride=1)
    best: Tensor | None = None
    for z, y, x in product((0, 1), repeat=3):
        taps = deepest.conv.weight[:, :, 1 - z : 3 - z, 1 - y : 3 - y, 1 - x : 3 - x]
        answer = deepest.adn(F.conv3d(pooled, taps, deepest.conv.bias, dilation=2))
        best = answer if best is None else torch.maximum(best, answer)
    assert best is not None
    depth, height, width = (n - span + 1 for n in cells.shape[2:])
    best = best[..., :depth, :height, :width]
    logits = classifier(best.movedim(1, -1).flatten(0, -2))
    return logits.view(best.shape[0], depth, height, width, -1).movedim(-1, 1)
