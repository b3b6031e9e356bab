"""Answers averaged over the four mirror images of a volume that keep a missing wedge where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor

from monai_cryo.networks import TwoBranchNet, TwoBranchTensorNet
from monai_cryo.networks.output import check_output, one_tensor

__all__ = ["WEDGE_FLIPS", "BoxInferer", "FlipInferer", "mean_answer"]

#: axes of (D, H, W) turned round together. With the tilt axis along y and the beam along z a wedge is where kz / kx is
#: steep, whatever its two ends are: y is free, and z and x can only be turned together.
WEDGE_FLIPS: tuple[tuple[int, ...], ...] = ((), (-2,), (-3, -1), (-3, -2, -1))


class BoxInferer(SimpleInferer):
    """Read boxes into one tensor, as `TwoBranchTensorNet` gives it, averaged over `WEDGE_FLIPS` where asked.

    Parameters
    ----------
    flips
        Average the probabilities of classes and masks over the four; four times the work.
    """

    def __init__(self, flips: bool = False) -> None:
        super().__init__()
        self.flips = flips

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the answer (B, K, D, H, W) of a network that gives it, or logits and masks as `TwoBranchNet` does.

        Raises
        ------
        ValueError
            If the network gives neither, or flips are asked of one that gives one tensor alone.
        """
        image = _plain(inputs)
        if not self.flips:
            answer = super().__call__(image, network, *args, **kwargs)
            return answer if isinstance(answer, Tensor) else one_tensor(*_mean([answer]))
        answer_of = partial(TwoBranchNet.forward, network) if isinstance(network, TwoBranchTensorNet) else network
        return one_tensor(*mean_answer(answer_of, image, flips=True))


class FlipInferer(SimpleInferer):
    """Answer as a `TwoBranchNet` does, with the probabilities averaged over `WEDGE_FLIPS`: for evaluators.

    Its logits are those of the averages, so that softmax and sigmoid give them back; a probability of 0, as of a class
    with an abundance of 0, is the logit -inf.
    """

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Return ``"logits"`` (B, K) and ``"masks"`` (B, K, D, H, W).

        Raises
        ------
        ValueError
            If the network answers otherwise than `TwoBranchNet` does.
        """
        image = _plain(inputs)
        classes, masks = mean_answer(network, image, flips=True)
        return {"logits": classes.log(), "masks": masks.logit()}


def mean_answer(network: Callable[[Tensor], Any], image: Tensor, *, flips: bool) -> tuple[Tensor, Tensor]:
    """Return the probabilities (B, K) of classes and (B, K, D, H, W) of their masks, averaged over `WEDGE_FLIPS`.

    Parameters
    ----------
    network
        Gives logits and masks as `TwoBranchNet` does.
    image
        (B, 1, D, H, W).
    flips
        Else the image as it is, alone.
    """
    return _mean([_flipped(network(image.flip(axes)), axes) for axes in (WEDGE_FLIPS if flips else WEDGE_FLIPS[:1])])


def _plain(inputs: Tensor) -> Tensor:
    return inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs


def _flipped(answer: Any, axes: tuple[int, ...]) -> dict[str, Tensor]:
    logits, masks = check_output(answer)
    return {"logits": logits, "masks": masks.flip(axes)}


def _mean(answers: Sequence[Any]) -> tuple[Tensor, Tensor]:
    pairs = [check_output(answer) for answer in answers]
    return mean_of([logits.softmax(1) for logits, _ in pairs]), mean_of([masks.sigmoid() for _, masks in pairs])


def mean_of(parts: Sequence[Tensor]) -> Tensor:
    """Return the mean of tensors of one shape; one alone is not copied, for masks are the largest there is."""
    return parts[0] if len(parts) == 1 else torch.stack(tuple(parts)).mean(0)
