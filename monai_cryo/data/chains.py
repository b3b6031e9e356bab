"""The one place where real subtomograms are made like simulated ones, and predictions are taken back to the files."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    GaussianSmoothd,
    Invertd,
    Lambdad,
    LoadImaged,
    MapTransform,
    SaveImaged,
    Transform,
)
from monai.utils import ensure_tuple

from monai_cryo._described import Described
from monai_cryo.data.grid import FitToGridd
from monai_cryo.data.labelled import CheckMaskd, FillMaskd
from monai_cryo.io import MRCReader, MRCWriter
from monai_cryo.io.header import check_voxel_size
from monai_cryo.io.mrc import tomogram_name
from monai_cryo.networks import TwoBranchTensorNet
from monai_cryo.transforms.ranges import parse_number

__all__ = ["CheckVolumed", "DecodePredictiond", "LoadSubtomogramd", "list_images", "postprocessing", "preprocessing"]

_LARGEST = 1e30  # sums of larger ones are no numbers
LARGEST_SUBTOMOGRAM = 1.5  # times the model's box: what is wider is taken for a tomogram


def preprocessing(
    keys: KeysCollection = ("image", "mask"),
    *,
    voxel_size: float,
    box: int,
    file_voxel_size: float | None = None,
    negate: bool = False,
    smooth_sigma_vox: float = 0.0,
) -> Compose:
    """Chain that loads a subtomogram and brings it to the model's voxel size, box and contrast.

    Normalisation comes after it, on the batch (:class:`monai_cryo.engines.PrepareLabelled`).

    Parameters
    ----------
    keys
        ``image``, or ``image`` and ``mask``; a missing mask becomes an empty one, marked by ``has_mask``.
    voxel_size, box
        What the model was trained for: Å and voxels.
    file_voxel_size
        Å, where the header is not to be believed; None: the header's.
    negate
        The files' contrast is the opposite of the model's.
    smooth_sigma_vox
        Standard deviation of a Gaussian smoothing of the image, in voxels of the model; 0: none.
    """
    smooth_sigma_vox = parse_number("smooth_sigma_vox", smooth_sigma_vox, 0.0)
    names = [keys] if isinstance(keys, str) else list(keys)
    images, masks = names[:1], names[1:]
    modes: list[Any] = ["fourier", "nearest"][: len(names)]
    optional: dict[str, Any] = {"allow_missing_keys": True}
    chain: list[Any] = [
        LoadSubtomogramd(names, file_voxel_size),
        EnsureChannelFirstd(names, channel_dim="no_channel", **optional),
        CheckVolumed(images, extent_a=voxel_size * box),
        *([CheckMaskd(masks, image_key=images[0])] if masks else []),
        FitToGridd(names, voxel_size=voxel_size, box=box, mode=modes, **optional),
    ]
    if negate:
        chain.append(Lambdad(images, func=torch.neg))
    if smooth_sigma_vox > 0:
        chain.append(GaussianSmoothd(images, sigma=smooth_sigma_vox))
    if masks:
        chain.append(FillMaskd(masks[0], image_key=images[0]))
    return Compose(chain)


def postprocessing(
    preprocessing: Compose,
    *,
    threshold: float = 0.5,
    mask_dir: str | None = None,
    image_dir: str | None = None,
) -> Compose:
    """Chain that decodes a prediction and, where asked, saves its mask on the input file's own grid.

    Parameters
    ----------
    preprocessing
        The chain the images went through, to be inverted.
    threshold
        Of the mask's probability.
    mask_dir
        Folder for ``<name>_mask.mrc``; None: no masks are saved.
    image_dir
        Folder that the images lie in, at whatever depth; their masks lie in the same subfolders of `mask_dir`.

    Raises
    ------
    ValueError
        If there is a `mask_dir` and no `image_dir`.
    """
    chain: list[Transform] = [DecodePredictiond("pred", threshold=threshold)]
    if mask_dir is not None:
        if not image_dir:
            raise ValueError("mask_dir needs image_dir, below which equally named images are told apart")
        chain += [
            Invertd("mask", transform=preprocessing, orig_keys="image", nearest_interp=True),
            Lambdad("mask", func=_binary),
            SaveImaged(
                "mask",
                output_dir=mask_dir,
                output_postfix="mask",
                output_ext=".mrc",
                output_dtype="uint8",
                writer=MRCWriter,
                resample=False,
                data_root_dir=image_dir,
                separate_folder=False,
                print_log=False,
            ),
        ]
    return Compose([_Unrefused(step) for step in chain])


def list_images(folder: str | None, pattern: str = "*.mrc", results: str | None = None) -> list[dict[str, str]]:
    """List the subtomograms in a folder, sorted by name, as dicts with ``image`` and ``file``.

    Parameters
    ----------
    folder
        Where they lie.
    pattern
        Which files in it, a glob.
    results
        A folder of masks, perhaps within, whose files are none of them.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no file in it.
    ValueError
        If the pattern is none, or leads out of the folder: masks are written where their images lie; or if two files
        of a folder have one name.
    """
    if not folder or not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder {folder or '<dataset_dir>'}: pass --dataset_dir a folder of subtomograms")
    if not pattern or ".." in Path(pattern).parts or Path(pattern).is_absolute():
        raise ValueError(f"pattern must name files in {folder}, such as '*.map', got {pattern!r}")
    try:
        found = sorted(path for path in Path(folder).glob(pattern) if path.is_file())
        if results is not None:
            found = [path for path in found if not path.resolve().is_relative_to(Path(results).resolve())]
    except ValueError as error:
        raise ValueError(f"pattern {pattern!r}: {error}") from error
    if not found:
        raise FileNotFoundError(f"no file in {folder} matches {pattern!r}: pass --pattern, such as '*.map'")
    names: dict[Path, Path] = {}
    for path in found:
        if (other := names.setdefault(path.parent / tomogram_name(path), path)) != path:
            raise ValueError(f"{other} and {path} have one name, and their masks would, too: name fewer by --pattern")
    return [{"image": str(path), "file": str(path.relative_to(folder))} for path in found]


class LoadSubtomogramd(Described, LoadImaged):
    """Load MRC volumes; what is an image in memory already is left as it is.

    Parameters
    ----------
    keys
        Paths; they may be missing.
    voxel_size
        Å, in place of the headers'.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file cannot be read, or its voxel size is 0 or 1 Å, which many programs write for "unknown", and none is
        given, or the one given cannot be.
    """

    def __init__(self, keys: KeysCollection, voxel_size: float | None = None) -> None:
        if voxel_size is not None:
            check_voxel_size(voxel_size)
        self._reader = _DoubtingReader(voxel_size=voxel_size)
        super().__init__(keys, reader=self._reader, allow_missing_keys=True)

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with its volumes loaded."""
        ready = {key: data[key] for key in self.key_iterator(dict(data)) if isinstance(data[key], MetaTensor)}
        rest = {key: value for key, value in data.items() if key not in ready}
        # handed over here and not found by MONAI, the reader's own error comes through
        return {**super().__call__(rest, self._reader), **ready}


class _DoubtingReader(MRCReader):
    """A reader that refuses a doubtful voxel size."""

    def read(self, data: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            volume = super().read(data, **kwargs)
        if self.voxel_size is None and volume.voxel_size == (1.0, 1.0, 1.0):
            (name,) = ensure_tuple(data)
            raise ValueError(
                f"{name}: the header's voxel size is 0 or 1 Å, which says nothing: pass the true one in Å "
                "(--apix, or file_voxel_size)"
            )
        return volume


class CheckVolumed(Described, MapTransform):
    """Refuse what no network should see: values not finite or beyond 1e30, constant volumes, whole tomograms.

    Parameters
    ----------
    keys
        Volumes (1, D, H, W).
    extent_a
        Size of the model's box, Å: a volume more than half as large again along any axis is a tomogram. None: any size.
    """

    def __init__(self, keys: KeysCollection, extent_a: float | None = None) -> None:
        super().__init__(keys)
        self.extent_a = extent_a

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data``, unchanged."""
        d = dict(data)
        for key in self.key_iterator(d):
            volume = torch.as_tensor(d[key])
            name = getattr(d[key], "meta", {}).get("filename_or_obj", str(key))
            if volume.ndim != 4:
                raise ValueError(f"{name}: expected one 3D volume, got shape {tuple(volume.shape[1:])}")
            if self.extent_a is not None:
                self._check_extent(d[key], name)
            if not bool(volume.isfinite().all()):
                raise ValueError(f"{name}: expected finite values, found NaN or infinity")
            if (largest := float(volume.abs().max())) > _LARGEST:
                raise ValueError(f"{name}: holds values of {largest:g}, expected at most {_LARGEST:g}")
            if float(volume.min()) == float(volume.max()):
                raise ValueError(f"{name}: expected an image, found one value everywhere ({float(volume.min()):g})")
        return d

    def _check_extent(self, volume: MetaTensor, name: str) -> None:
        shape = tuple(volume.shape[1:])
        extent = max(n * float(v) for n, v in zip(shape, volume.pixdim[:3], strict=True))
        if self.extent_a is not None and extent > LARGEST_SUBTOMOGRAM * self.extent_a:
            raise ValueError(
                f"{name}: {' x '.join(map(str, shape))} voxels are {extent:.0f} Å, the model's box is "
                f"{self.extent_a:.0f} Å: this is a tomogram, read it with `monai_cryo segment` or `monai_cryo pick`"
            )


class _Unrefused(Described, Transform):
    """Apply a transform to all items but those that stand for a refused file."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def __call__(self, data: Mapping[Hashable, Any]) -> Any:
        return data if data.get("refused") else self.transform(data)


class DecodePredictiond(Described, MapTransform):
    """Read class probabilities and the predicted class's mask out of the network's single output tensor.

    Adds ``probability`` (K,), ``class`` (an index) and ``mask`` (1, D, H, W), 0 or 1.

    Parameters
    ----------
    keys
        Where the output (K, D, H, W) of :class:`monai_cryo.networks.TwoBranchTensorNet` is.
    threshold
        Of the mask's probability.

    Raises
    ------
    ValueError
        If the threshold is no number from 0 to 1.
    """

    def __init__(self, keys: KeysCollection = "pred", threshold: float = 0.5) -> None:
        super().__init__(keys)
        self.threshold = parse_number("threshold", threshold, 0.0, 1.0)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the three entries added."""
        d = dict(data)
        for key in self.key_iterator(d):
            probability, mask = TwoBranchTensorNet.decode(d[key][None])
            d["probability"], d["class"] = probability[0], int(probability[0].argmax())
            d["mask"] = MetaTensor((mask[0] >= self.threshold).to(torch.float32))  # Invertd asks for the type
        return d


def _binary(mask: torch.Tensor) -> torch.Tensor:
    return (mask >= 0.5).to(torch.uint8)
