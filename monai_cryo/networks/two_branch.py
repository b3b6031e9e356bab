"""The paper's two-branch 3D CNN: one encoder, one branch that names the particle, one that outlines it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.data.meta_tensor import MetaTensor
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from monai_cryo._abundance import MOST, is_abundance
from monai_cryo._typing import Precision, check_word
from monai_cryo.networks.facts import FactSheet
from monai_cryo.networks.output import one_tensor
from monai_cryo.networks.precision import computes_in_bfloat16

__all__ = ["TwoBranchNet", "TwoBranchTensorNet"]

# Without AMX, torch 2.13 gives wrong or non-finite bfloat16 weight gradients of a Conv3d whose map is 2 voxels deep.
_SMALLEST_BFLOAT16_MAP = 4


class _Mixed(nn.Module):
    """Run `layer` under bfloat16 autocast where the precision says so, except on maps too small for it.

    TorchScript made by scripting runs it as it is.
    """

    def __init__(self, layer: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.layer = layer
        self.precision = precision

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if torch.jit.is_scripting() else self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        if not computes_in_bfloat16(self.precision, x.device.type):
            return self.layer(x)
        large = bool(min(x.shape[2:]) >= _SMALLEST_BFLOAT16_MAP)  # tracing makes it a tensor
        with torch.autocast(x.device.type, torch.bfloat16, enabled=large):
            return self.layer(x if large else x.float())


class _DecoderStack(nn.Module):
    """Deconvolution to the size of the skip connection, concatenation with it, and a stack of convolution."""

    def __init__(self, deconvolution: nn.Module, stack: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.deconvolution = deconvolution
        self.stack = _Mixed(stack, precision)
        self.precision = precision

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self._grow(x, skip) if torch.jit.is_scripting() else self._run(x, skip)
        return self.stack(torch.cat([skip, x.to(skip.dtype)], 1))

    def _run(self, x: Tensor, skip: Tensor) -> Tensor:
        if not computes_in_bfloat16(self.precision, x.device.type):
            return self._grow(x, skip)
        # float32 comes from the deepest stack, the only one below an odd size: with AMX, torch 2.13 leaves parts of the
        # last planes that `output_size` adds to a bfloat16 deconvolution unwritten.
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.dtype == torch.bfloat16):
            return self._grow(x, skip)

    def _grow(self, x: Tensor, skip: Tensor) -> Tensor:
        depth, height, width = skip.shape[2:]
        # 2 voxels become 5, not 4, in a box of 40; the 1 voxel of a box of 8 stays 1.
        x = self.deconvolution(x, [max(2, depth), max(2, height), max(2, width)])
        return x[..., :depth, :height, :width]


def _check_counts(name: str, what: str, values: Sequence[int], count: int) -> None:
    whole = isinstance(values, Sequence) and all(isinstance(v, int) and v >= 1 for v in values)
    if not whole or len(values) != count:
        raise ValueError(f"{name} must hold {what}, whole numbers from 1, got {values!r}")


def _check_abundance(values: Sequence[float], count: int) -> None:
    if (
        not isinstance(values, Sequence)
        or len(values) != count
        or not all(map(is_abundance, values))
        or not any(values)
    ):
        raise ValueError(f"abundance must hold {count} numbers from 0 to {MOST:g}, not all 0, got {values!r}")


class _Abundance(nn.Module):
    """Add what makes the classes so common, in evaluation: they are learnt from equally many of each."""

    def __init__(self, abundance: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("logarithm", torch.tensor(abundance, dtype=torch.float32).log(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else x + self.logarithm  # type: ignore[operator]


class TwoBranchNet(nn.Module):
    r"""Classify a subtomogram and draw one mask per class.

    Five encoder stacks [conv 3\ :sup:`3`, (norm), ReLU, max-pool 2] take 40 voxels over 20, 10 and 5 to 2. Three fully
    connected layers behind the fifth pool give the class logits. From the fifth feature map four decoder stacks
    [deconvolution, skip connection, conv 3\ :sup:`3`, (norm), ReLU] climb 2-5-10-20-40 and a 1\ :sup:`3` convolution
    gives the mask logits. The fifth pool takes the maximum over the whole map: at 40 voxels that is the max-pool of 2,
    and at any other box the weights still fit.

    With a `stride` of 2 the same stacks see 20, 20, 10, 5 and 2 voxels: the first convolution, of 4\ :sup:`3`, takes
    every second voxel, there is no pool behind it, and a deconvolution of 4\ :sup:`3` makes the mask logits of every
    voxel in the end. For input that holds nothing above half of Nyquist that is half the time for as much.

    Parameters
    ----------
    in_channels
        Channels of the input.
    num_classes
        Classes, and as many masks.
    features
        Channels of the five encoder stacks.
    fc
        Widths of the two hidden fully connected layers.
    dropout
        Probability of dropping a hidden fully connected unit in training.
    norm
        None (the paper's), or a MONAI normalisation: ``"batch"``, ``"instance"``, ``("group", {"num_groups": 8})``.
    precision
        ``"float32"``; ``"bfloat16"``: convolutions under autocast, but for the deepest stack, the deconvolution above
        it and maps under 4 voxels; or ``"auto"``, the faster of the two on the device (`computes_in_bfloat16`). Weights
        and outputs are float32 and state dicts fit all; TorchScript made by scripting always computes in float32.
    stride
        1 (the paper's), or 2: at half the resolution.
    outlined
        Share of a training batch that is outlined, its first samples, rounded up; 1: all. To outline takes four
        fifths of a step, and masks are learnt from fewer samples than classes.
    abundance
        How common each class is where the network is used, beside the others, 0 to 1e6; None: all alike, as in
        training. In evaluation probabilities are multiplied by these numbers and share what that leaves, Bayes' rule
        for another prior; a class with 0 is never found.

    Raises
    ------
    ValueError
        If the features, fc widths, dropout, normalisation, precision, stride, share or abundance are none of the above.

    Notes
    -----
    Everything runs in channels_last_3d, which takes CPUs 0.6 of the time in float32 already.

    Convolutions and hidden layers start from He's initialisation: under torch's default each of the eight layers keeps
    a sixth of the signal's power, and without normalisation the classification stays at chance for hundreds of
    iterations.

    References
    ----------
    Che et al., "Domain Randomization for Macromolecule Structure Classification and Segmentation in Electron
    Cryo-tomograms", BIBM 2019. The paper leaves `features`, `fc`, `dropout` and the initialisation open.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 4,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        fc: Sequence[int] = (1024, 1024),
        dropout: float = 0.7,
        norm: str | tuple[str, dict[str, object]] | None = None,
        precision: Precision = "float32",
        stride: int = 1,
        outlined: float = 1.0,
        abundance: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride!r}")
        if not 0 < outlined <= 1:
            raise ValueError(f"outlined must be a share above 0 and at most 1, got {outlined!r}")
        _check_counts("features", "5 channel counts", features, 5)
        _check_counts("fc", "2 layer widths", fc, 2)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be a probability below 1, got {dropout!r}")
        kind = norm[0] if isinstance(norm, list | tuple) and norm else norm
        if norm is not None and str(kind).upper() not in Norm.names:
            raise ValueError(f"norm must be null or one of {', '.join(Norm.names).lower()}, got {norm!r}")
        check_word("precision", precision, Precision)
        if abundance is not None:
            _check_abundance(abundance, num_classes)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.precision = precision
        self.stride = stride
        self.outlined = outlined
        self.pools = [2 // stride, 2, 2, 2]  # after each stack of the encoder

        def stack(channels_in: int, channels_out: int, stride: int = 1) -> Convolution:
            act = ("relu", {"inplace": True})
            # a kernel of 4 keeps the middle of a strided map in the middle of the box
            shape = {"strides": 2, "kernel_size": 4, "padding": 1} if stride == 2 else {}
            return Convolution(3, channels_in, channels_out, act=act, norm=norm, adn_ordering="NA", **shape)

        channels = [in_channels, *features]
        strides = [stride, 1, 1, 1]
        self.encoder = nn.ModuleList(
            [_Mixed(stack(a, b, s), precision) for (a, b), s in zip(pairwise(channels[:5]), strides, strict=True)]
        )
        self.deepest = stack(features[3], features[4])
        self.classifier = nn.Sequential(
            nn.Linear(features[4], fc[0]),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(fc[0], fc[1]),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(fc[1], num_classes),
            *([] if abundance is None else [_Abundance(abundance)]),
        )
        self.decoder = nn.ModuleList(
            [
                _DecoderStack(Conv["convtrans", 3](deep, shallow, s, s), stack(2 * shallow, shallow), precision)
                for (deep, shallow), s in zip(pairwise(reversed(features)), self.pools[::-1], strict=True)
            ]
        )
        if stride == 1:
            segmenter = Conv["conv", 3](features[0], num_classes, 1)
        else:  # trilinear interpolation is one of its kernels
            segmenter = Conv["convtrans", 3](features[0], num_classes, 4, stride=2, padding=1)
        # particles fill a few percent of a box: masks begin at that probability instead of learning it first
        nn.init.constant_(segmenter.bias, -3.0)
        self.segmenter = _Mixed(segmenter, precision)
        self.record = FactSheet()
        self._initialise()
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def extra_repr(self) -> str:
        """Say what the layers below do not."""
        return f"precision={self.precision}"

    def _initialise(self) -> None:
        """He's initialisation for the layers in front of a ReLU; outputs and deconvolutions keep torch's."""
        for parent in (self.encoder, self.deepest, self.decoder, self.classifier[:-1]):
            for layer in parent.modules():
                if isinstance(layer, nn.Conv3d | nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the logits of the classes and of their masks.

        Parameters
        ----------
        x
            Subtomograms (B, in_channels, D, H, W); D, H and W are multiples of 8.

        Returns
        -------
        dict
            ``"logits"`` (B, num_classes) and ``"masks"`` (B, num_classes, D, H, W), both float32 and before softmax
            and sigmoid; in training, masks of the share `outlined` alone.

        Raises
        ------
        ValueError
            If the input has another number of dimensions or channels or another box size.
        """
        logits, maps = self.classify(x)
        if self.training and self.outlined < 1:
            count = math.ceil(self.outlined * len(x))
            maps = [m[:count] for m in maps]
        return {"logits": logits, "masks": self.outline(maps)}

    def classify(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits of the classes, (B, num_classes), and the feature maps that `outline` needs.

        Input and errors are those of `forward`, of which this is the cheaper half.
        """
        if (
            x.ndim != 5
            or x.shape[1] != self.in_channels
            or min(x.shape[2:]) < 8
            or max([n % 8 for n in x.shape[2:]]) > 0
        ):
            raise ValueError(
                f"input must have shape (B, {self.in_channels}, D, H, W) with D, H, W multiples of 8, "
                f"got {list(x.shape)}"
            )
        if not torch.jit.is_scripting():
            if isinstance(x, MetaTensor):
                x = x.as_tensor()
            x = x.contiguous(memory_format=torch.channels_last_3d)

        maps: list[Tensor] = []
        for i, stack in enumerate(self.encoder):
            x = stack(x)
            maps.append(x)
            x = F.max_pool3d(x, [min(self.pools[i], n) for n in x.shape[2:]])
        x = self.deepest(x.float())
        maps.append(x)
        return self.classifier(F.adaptive_max_pool3d(x, 1).flatten(1)).float(), maps

    def outline(self, maps: list[Tensor]) -> Tensor:
        """Return the logits of the masks, (B, num_classes, D, H, W), from the feature maps that `classify` returned."""
        x = maps[-1]
        for i, decoder_stack in enumerate(self.decoder):
            x = decoder_stack(x, maps[3 - i])
        masks: Tensor = self.segmenter(x).float()
        return masks


class TwoBranchTensorNet(TwoBranchNet):
    """`TwoBranchNet` with both answers in one tensor, as exports and the model zoo's checks want it.

    The output (B, num_classes, D, H, W) is float32. With p the softmax of the class logits and c the predicted class
    (the largest p):

    - channel c holds the sigmoid of its mask, in [0, 1];
    - every other channel k holds the constant p_k - 1, in [-1, -0.5].

    Read back: the class is the argmax over the channels at any voxel, ``output[:, :, 0, 0, 0].argmax(1)``; the masks,
    empty but for the predicted class, are ``output >= threshold`` for any threshold in (0, 1]; the probabilities of the
    other classes are ``1 + output`` and that of the predicted one is what they leave of 1. `decode` does all this.

    The parameters and state dict are those of `TwoBranchNet`.
    """

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Return both answers as one tensor (B, num_classes, D, H, W) for subtomograms (B, in_channels, D, H, W)."""
        logits, maps = self.classify(x)
        return one_tensor(logits.softmax(1), self.outline(maps).sigmoid())

    @staticmethod
    def decode(output: Tensor) -> tuple[Tensor, Tensor]:
        """Read class probabilities and mask back.

        Parameters
        ----------
        output
            What the network returned, (B, K, D, H, W).

        Returns
        -------
        probabilities
            Of the classes, (B, K).
        mask
            Probability of each voxel to belong to the particle, drawn for the most probable class, (B, 1, D, H, W).
        """
        corner = output[:, :, 0, 0, 0]
        predicted = corner.argmax(1, keepdim=True)
        others = (1 + corner).scatter(1, predicted, 0)
        return others.scatter(1, predicted, 1 - others.sum(1, keepdim=True)), output.amax(1, keepdim=True)
