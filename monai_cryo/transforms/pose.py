"""Random pose of a particle: rotation uniform on SO(3), a shift and a zoom, image and mask in one resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.utils import TraceKeys
from torch import Tensor

from monai_cryo.physics.pose import bounding_radius, central, move, move_within, rotation_from_uniform
from monai_cryo.transforms.arrays import like, to_volume
from monai_cryo.transforms.base import Draw, Parameters, RandDrawable, column
from monai_cryo.transforms.geometry import TURN, array_voxel_size, cubic_voxel_size
from monai_cryo.transforms.ranges import Range, parse_positive, parse_range, uniform

Mode = Literal["bilinear", "nearest"]


class RandPose(RandDrawable):
    """Rotate uniformly over all orientations about the centre voxel N // 2, zoom, then shift; zero outside.

    Pose the clean density and its mask, and image them afterwards: a rotated missing wedge is none. A MetaTensor's
    affine follows, and ``inverse`` takes the array back.

    Parameters
    ----------
    shift_vox
        Shift along each axis in voxels: a number or a uniform (min, max), drawn for each axis on its own.
    zoom
        Factor on the particle's size, a number or a uniform (min, max), > 0, at most 10.
    prob
        Probability that an item is moved.

    Raises
    ------
    ValueError
        If min > max or shapes differ, or a MetaTensor's voxels are no cubes.
    """

    def __init__(self, shift_vox: Range = (-2.0, 2.0), zoom: Range = 1.0, prob: float = 1.0) -> None:
        super().__init__(prob)
        self.shift_vox = parse_range("shift_vox", shift_vox)
        parse_positive("zoom", zoom)
        self.zoom = parse_range("zoom", zoom, 0.0, 10.0)

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw a rotation matrix acting on (x, y, z), a shift (z, y, x) and a zoom."""
        rotation = rotation_from_uniform(state.uniform(size=3))
        return {
            "rotation": rotation.tolist(),
            "shift_vox": uniform(state, self.shift_vox, 3),
            "zoom": uniform(state, self.zoom),
        }

    def apply(self, batch: Tensor, parameters: Sequence[Draw], **context: Any) -> Tensor:
        """Move a batch (B, C, D, H, W); ``mode`` and ``radius_vox`` as for :meth:`apply_together`."""
        mode = context.get("mode", "bilinear")
        return self.apply_together([batch], parameters, [mode], radius_vox=context.get("radius_vox"))[0]

    def apply_together(
        self,
        batches: Sequence[Tensor],
        parameters: Sequence[Draw],
        modes: Sequence[str],
        *,
        radius_vox: Sequence[int] | None = None,
    ) -> list[Tensor]:
        """Move several batches, such as images and masks, in one resampling.

        Parameters
        ----------
        batches
            (B, C, D, H, W) each.
        parameters
            B draws.
        modes
            For each batch ``"bilinear"``, or ``"nearest"`` for labels, which stay labels: binary masks are cut at 0.5
            after linear interpolation, others take the nearest voxel.
        radius_vox
            For each item, the distance from the centre within which all that is not zero lies. None: measured.

        Returns
        -------
        list
            The batches, moved; the very same ones where there is nothing to do.
        """
        for batch in batches:
            parameters = self._checked(batch, parameters)
        if radius_vox is not None and len(radius_vox) != len(parameters):
            raise ValueError(f"RandPose expects {len(parameters)} radii, one an item, got {len(radius_vox)}")
        if any(b.shape[2:] != batches[0].shape[2:] for b in batches):
            raise ValueError(f"RandPose expects arrays of one shape, got {[tuple(b.shape) for b in batches]}")
        on = [i for i, p in enumerate(parameters) if p is not None]
        if not on:
            return list(batches)
        first = next((b for b in batches if b.is_floating_point()), batches[0].float())
        matrix, shift = self._matrices(parameters, first)
        found = [[mode == "nearest" and _is_binary(item) for item in b] for mode, b in zip(modes, batches, strict=True)]
        if any(len(set(items)) > 1 for items in found):  # each as it would be alone
            radii = [None] * len(parameters) if radius_vox is None else [[radius] for radius in radius_vox]
            alone = [
                self.apply_together([b[i : i + 1] for b in batches], [parameters[i]], modes, radius_vox=radii[i])
                for i in range(len(parameters))
            ]
            return [torch.cat(parts) for parts in zip(*alone, strict=True)]
        binary = [items[0] for items in found]
        linear = [k for k, mode in enumerate(modes) if mode == "bilinear" or binary[k]]
        out = list(batches)
        moved = self._linear(
            [batches[k] for k in linear], [binary[k] for k in linear], matrix, shift, parameters, radius_vox
        )
        for k, values in zip(linear, moved, strict=True):
            out[k] = values
        for k in set(range(len(out))) - set(linear):
            out[k] = batches[k].clone()
            out[k][on] = move(batches[k][on].to(first.dtype), matrix[on], shift[on], mode="nearest").to(out[k].dtype)
        return out

    @staticmethod
    def _matrices(parameters: Sequence[Draw], like: Tensor) -> tuple[Tensor, Tensor]:
        """Rotation times zoom (B, 3, 3) and shift (B, 3); identity where there is no draw."""
        still: Parameters = {"rotation": np.eye(3).tolist(), "shift_vox": [0.0] * 3, "zoom": 1.0}
        drawn = [still if p is None else p for p in parameters]
        exact = torch.empty(0, dtype=torch.float64)
        rotation, zoom, shift = (column(drawn, name, exact) for name in ("rotation", "zoom", "shift_vox"))
        return (rotation * zoom[:, None, None]).to(like), shift.to(like)

    @staticmethod
    def _linear(
        batches: Sequence[Tensor],
        binary: Sequence[bool],
        matrix: Tensor,
        shift: Tensor,
        parameters: Sequence[Draw],
        radius_vox: Sequence[int] | None,
    ) -> list[Tensor]:
        """Move batches by trilinear interpolation, one resampling for all particles of a size; cut binary ones."""
        if not batches:
            return []
        groups: dict[int, list[int]] = {}
        for i, drawn in enumerate(parameters):
            if drawn is not None:
                radius = max(bounding_radius(b[i]) for b in batches) if radius_vox is None else int(radius_vox[i])
                zoom = max(1.0, drawn["zoom"])  # which stretches the interpolation's reach, too
                groups.setdefault(max(1, int(np.ceil(radius * zoom + (zoom - 1) * np.sqrt(3)))), []).append(i)
        result = [torch.zeros_like(b, memory_format=torch.contiguous_format) for b in batches]
        still = torch.tensor([i for i, p in enumerate(parameters) if p is None], dtype=torch.long, device=matrix.device)
        for out, batch in zip(result, batches, strict=True):
            out.index_copy_(0, still, batch.index_select(0, still))
        channels, voxels = [b.shape[1] for b in batches], batches[0][0, 0].numel()
        for reach, members in groups.items():
            at = torch.tensor(members, device=matrix.device)
            # only the cubes around the particles are touched, not the boxes
            particles = torch.cat([central(b, reach).index_select(0, at).to(matrix) for b in batches], dim=1)
            moved, index = move_within(particles, matrix[at], shift[at], batches[0].shape, reach)
            for out, values, cut in zip(result, moved.split(channels, dim=1), binary, strict=True):
                volume = at[:, None] * out.shape[1] + torch.arange(out.shape[1], device=at.device)
                place = (index[:, None] + volume[..., None] * voxels).flatten()
                out.view(-1).scatter_(0, place, (values >= 0.5 if cut else values).to(out.dtype).flatten())
        return result

    def __call__(  # type: ignore[override]
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None, randomize: bool = True
    ) -> NdarrayOrTensor | tuple[NdarrayOrTensor, NdarrayOrTensor]:
        """Pose (C, D, H, W).

        Parameters
        ----------
        img
            (C, D, H, W).
        mask
            Labels of the same spatial shape, moved along; they stay labels.
        randomize
            False: apply what was drawn last.

        Returns
        -------
        NdarrayOrTensor or a pair of them
            The image, or image and mask; type, device and floating dtype kept, the mask's dtype too.
        """
        images, modes = ([img], ["bilinear"]) if mask is None else ([img, mask], ["bilinear", "nearest"])
        posed = self.pose(images, modes, randomize=randomize)
        return posed[0] if mask is None else (posed[0], posed[1])

    def pose(
        self,
        images: Sequence[NdarrayOrTensor],
        modes: Sequence[str],
        *,
        radius_vox: int | None = None,
        randomize: bool = True,
    ) -> list[NdarrayOrTensor]:
        """Pose several arrays (C, D, H, W) of one spatial shape together; ``modes`` as in :meth:`apply_together`."""
        volumes = [to_volume(image, "RandPose")[None] for image in images]
        for image in images:
            if (size := array_voxel_size(image)) is not None:
                cubic_voxel_size(self, size)  # rotated by its voxels, a particle would be sheared
        drawn = self._settle(randomize)
        radius = None if radius_vox is None else [radius_vox]
        moved = self.apply_together(volumes, [drawn], modes, radius_vox=radius)
        out = []
        for volume, image, mode in zip(moved, images, modes, strict=True):
            result = image if drawn is None else like(volume[0], image)
            if drawn is not None and mode == "nearest":
                result = _cast(result, image)
            out.append(self._placed(result, mode))
        return out

    def _placed(self, result: NdarrayOrTensor, mode: str) -> NdarrayOrTensor:
        """Record the draw, and turn the affine with the array."""
        if not isinstance(result, MetaTensor):
            return result
        info: dict[str, Any] = {"parameters": self.parameters, "mode": mode}
        affine = None
        if self.parameters is None:  # the caller's own array: the record must not enter its history
            result = result.view_as(result)
        else:
            affine = self._index_affine(self.parameters, result.shape)
            # what is imaged afterwards is imaged on the grid as it was (`geometry.grid_affine`)
            turn = result.affine.double() @ affine @ torch.linalg.inv(result.affine.double())
            info[TURN] = turn[:3, :3].tolist()
        placed: MetaTensor = self.push_transform(result, affine=affine, extra_info=info)
        return placed

    def leave(self, image: NdarrayOrTensor, mode: str) -> NdarrayOrTensor:
        """Return an array that is in its pose already as it is; a MetaTensor with the record that nothing was done."""
        self.parameters, self._drawn, self._do_transform = None, True, False
        return self._placed(image, mode)

    def _index_affine(self, drawn: Parameters, shape: Sequence[int]) -> Tensor:
        """Affine (4, 4) from an index (z, y, x) of the moved array to that of the array before."""
        # old index = M^-1 (new index - centre - shift) + centre, with the matrix as it acts on (z, y, x)
        matrix, shift = self._matrices([drawn], torch.empty(0, dtype=torch.float64))
        inverse = torch.linalg.inv(matrix[0].flip(0, 1))
        centre = torch.tensor([n // 2 for n in shape[-3:]], dtype=torch.float64)
        affine = torch.eye(4, dtype=torch.float64)
        affine[:3, :3] = inverse
        affine[:3, 3] = centre - inverse @ (centre + shift[0])
        return affine

    def inverse(self, data: NdarrayOrTensor) -> NdarrayOrTensor:
        """Move (C, D, H, W) back; what left the box is lost."""
        if not isinstance(data, MetaTensor):
            raise ValueError("RandPose can be inverted on a MetaTensor alone, which carries what was drawn")
        record = self.pop_transform(data)[TraceKeys.EXTRA_INFO]
        drawn = record["parameters"]
        if drawn is None:
            return data
        volume = to_volume(data, "RandPose")[None]
        matrix, shift = self._matrices([drawn], volume)
        back = torch.linalg.inv(matrix)
        home = -(back @ shift.flip(-1)[..., None])[..., 0].flip(-1)
        binary = record["mode"] == "nearest" and _is_binary(volume)
        moved = move(volume, back, home, mode="bilinear" if binary else record["mode"])[0]
        result = _cast(like((moved >= 0.5).to(moved) if binary else moved, data), data)
        assert isinstance(result, MetaTensor)
        result.affine = data.affine @ torch.linalg.inv(self._index_affine(drawn, data.shape))
        return result


def _is_binary(labels: Tensor) -> bool:
    """Whether labels are 0 and 1 alone."""
    return labels.dtype == torch.bool or bool(((labels == 0) | (labels == 1)).all())


def _cast(result: NdarrayOrTensor, image: NdarrayOrTensor) -> NdarrayOrTensor:
    """Return ``result`` in exactly the dtype of ``image``."""
    if isinstance(image, np.ndarray):
        return np.asarray(result).astype(image.dtype)
    return torch.as_tensor(result).to(image.dtype)
