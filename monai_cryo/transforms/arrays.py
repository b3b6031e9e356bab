"""Channel-first arrays of any type in, the same type out."""

from __future__ import annotations

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.utils import convert_to_dst_type
from torch import Tensor

from monai_cryo.physics.fourier import spatial_shape

_LARGEST_HALF = torch.finfo(torch.float16).max


def to_volume(img: NdarrayOrTensor, name: str) -> Tensor:
    """Return channel-first input as a plain float tensor (C, D, H, W): float64 stays, all else becomes float32.

    Raises
    ------
    ValueError
        If it has not four dimensions, is complex, or holds NaN or infinity.
    """
    if isinstance(img, np.ndarray):  # torch takes neither negative strides nor foreign byte orders
        img = np.ascontiguousarray(img, dtype=img.dtype.newbyteorder("="))
        img = img if img.flags.writeable else img.copy()  # a memory map, of which torch would warn
    tensor = img.as_tensor() if isinstance(img, MetaTensor) else torch.as_tensor(img)
    if tensor.is_complex():
        raise ValueError(f"{name} expects real values, got {tensor.dtype}")
    if tensor.ndim != 4:
        raise ValueError(f"{name} expects a channel-first volume (C, D, H, W), got shape {tuple(tensor.shape)}")
    spatial_shape(tensor.shape)
    tensor = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.to(torch.float32)
    if not bool(tensor.isfinite().all()):
        bad = int((~tensor.isfinite()).sum())
        raise ValueError(f"{name} expects finite values, found NaN or infinity in {bad} of {tensor.numel()} voxels")
    return tensor


def to_mask(mask: NdarrayOrTensor | None, volume: NdarrayOrTensor, name: str) -> Tensor | None:
    """Return a mask as a volume on the device of the image it belongs to; refuse another shape."""
    if mask is None:
        return None
    inside = to_volume(mask, f"{name}'s mask")
    if inside.shape[0] == 1 and inside.shape[1:] == tuple(volume.shape[1:]):
        inside = inside.expand(*volume.shape)  # one for all channels
    if inside.shape != volume.shape:
        raise ValueError(f"{name}: mask shape {tuple(inside.shape)} must equal image shape {tuple(volume.shape)}")
    return inside.to(volume.device) if isinstance(volume, Tensor) else inside


def like(result: Tensor, img: NdarrayOrTensor) -> NdarrayOrTensor:
    """Give ``result`` the type of ``img``; its dtype too where that is a floating one (integers would be cut).

    What a float16 cannot hold becomes the largest that it can.
    """
    if type(img) is Tensor and img.dtype == result.dtype:
        return result
    if img.dtype in (torch.float16, np.float16):
        result = result.clamp(-_LARGEST_HALF, _LARGEST_HALF)
    if isinstance(img, np.ndarray):
        kept: np.ndarray = result.detach().cpu().numpy()
        return kept.astype(img.dtype.newbyteorder("="), copy=False) if img.dtype.kind == "f" else kept
    dtype = img.dtype if img.is_floating_point() else result.dtype
    out: NdarrayOrTensor = convert_to_dst_type(result.to(dtype), img, dtype=dtype)[0]
    return out
