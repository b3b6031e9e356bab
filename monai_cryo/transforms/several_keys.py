"""Dictionary versions whose keys differ: image and mask posed together, masks cut beside a simulated tilt series."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ensure_tuple, ensure_tuple_rep

from monai_cryo._typing import check_word
from monai_cryo.physics.resampling import crop_or_pad
from monai_cryo.transforms.base import Draw
from monai_cryo.transforms.dictionary import RandDictTransform
from monai_cryo.transforms.pose import Mode, RandPose
from monai_cryo.transforms.tilt_series import RandTiltSeries


class RandPosed(RandDictTransform, of=RandPose, masked=False):
    """Dictionary version of :class:`RandPose`: all keys move together, in one resampling.

    Parameters
    ----------
    keys
        Entries of one spatial shape, such as image and mask.
    mode
        ``"bilinear"``, or ``"nearest"`` for labels, for each key, as in MONAI.
    shift_vox, zoom, prob
        As for :class:`RandPose`.
    posed_key
        Entry that is true for items in their pose already: they are left alone.
    radius_key
        Entry with the radius in voxels within which an item's particle lies. Saves measuring it.
    allow_missing_keys
        Do not raise where a key is missing.

    Raises
    ------
    ValueError
        On an unknown mode, min > max, or shapes that differ.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        mode: str | Sequence[str] = "bilinear",
        posed_key: str | None = None,
        radius_key: str | None = None,
        allow_missing_keys: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys=allow_missing_keys, **kwargs)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        for word in self.mode:
            check_word("mode", word, Mode)
        self.posed_key, self.radius_key = posed_key, radius_key

    def apply(self, data: Mapping[Hashable, Any], parameters: Sequence[Draw]) -> dict[Hashable, Any]:
        """Return a copy of a dictionary of batches with the entries moved."""
        d = dict(data)
        found = list(MapTransform.key_iterator(self, d, self.mode))
        if self.posed_key is not None:
            parameters = [None if posed else p for p, posed in zip(parameters, d[self.posed_key], strict=True)]
        radius = None if self.radius_key is None else [int(r) for r in d[self.radius_key]]
        if found:
            moved = self.transform.apply_together(
                [d[key] for key, _ in found], parameters, [mode for _, mode in found], radius_vox=radius
            )
            d.update(zip([key for key, _ in found], moved, strict=True))
        return d

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the entries moved; ``randomize=False``: by what was drawn last."""
        d = dict(data)
        found = list(MapTransform.key_iterator(self, d, self.mode))
        if not found:
            return d
        if self.posed_key is not None and bool(d[self.posed_key]):
            return d | {key: self.transform.leave(d[key], mode) for key, mode in found}
        posed = self.transform.pose(
            [d[key] for key, _ in found],
            [mode for _, mode in found],
            radius_vox=None if self.radius_key is None else int(d[self.radius_key]),
            randomize=randomize,
        )
        d.update(zip([key for key, _ in found], posed, strict=True))
        return d


class RandTiltSeriesd(RandDictTransform, of=RandTiltSeries):
    """Dictionary version of :class:`RandTiltSeries`.

    Parameters
    ----------
    keys
        Entries to simulate from, all with the same draw.
    mask_keys
        Entries that are only cut to ``output_size``.
    allow_missing_keys
        Do not raise where a key is missing.
    **kwargs
        Arguments of :class:`RandTiltSeries`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        mask_keys: KeysCollection | None = None,
        allow_missing_keys: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys=allow_missing_keys, **kwargs)
        self.mask_keys = ensure_tuple(mask_keys or ())

    def apply(self, data: Mapping[Hashable, Any], parameters: Sequence[Draw]) -> dict[Hashable, Any]:
        """Return a copy of a dictionary of batches with the entries simulated and the masks cut."""
        d = super().apply(data, parameters)
        for key in self.mask_keys:
            if key in d or not self.allow_missing_keys:
                d[key] = crop_or_pad(d[key], self.transform.output_size or d[key].shape)
        return d

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the entries simulated and the masks cut."""
        d = super().__call__(data, randomize)
        for key in self.mask_keys:
            if key in d or not self.allow_missing_keys:
                d[key] = self.transform.cut(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Refuse: what was cut away does not come back, of masks neither."""
        d = super().inverse(data)
        for key in self.mask_keys:
            if key in d or not self.allow_missing_keys:
                d[key] = self.transform.inverse(d[key])
        return d


RandPoseD = RandPoseDict = RandPosed
RandTiltSeriesD = RandTiltSeriesDict = RandTiltSeriesd
