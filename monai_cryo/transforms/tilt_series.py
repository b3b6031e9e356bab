"""A whole tilt series as one transform: project, image every tilt with noise, and back-project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.utils import convert_to_dst_type, ensure_tuple
from torch import Tensor

from monai_cryo.physics.dose import TiltOrder, cumulative_dose, dose_attenuation
from monai_cryo.physics.fourier import multiplicity, spatial_shape, spread
from monai_cryo.physics.noise import half_grid_noise
from monai_cryo.physics.resampling import crop_or_pad
from monai_cryo.physics.tilt_series import (
    BackProjectionFilter,
    back_project,
    project,
    reconstruction_filter,
    tilt_angles,
)
from monai_cryo.physics.wedge import check_tilt_range
from monai_cryo.transforms.arrays import like, to_volume
from monai_cryo.transforms.base import Draw, Parameters, RandDrawable, column
from monai_cryo.transforms.ctf import CTF, RandCTF
from monai_cryo.transforms.geometry import ZYX, batch_geometry, cubic_voxel_size, needed_voxel_size, one_voxel_size
from monai_cryo.transforms.mtf import MTF
from monai_cryo.transforms.plan import Grid
from monai_cryo.transforms.ranges import (
    Range,
    draw_seed,
    log_uniform,
    parse_number,
    parse_positive,
    parse_range,
    parse_whole,
    uniform,
)


class RandTiltSeries(RandDrawable):
    """Simulate a subtomogram as it comes about: a tilt series of noisy projections, back-projected.

    The density is projected at every tilt; noise of the specimen is added, CTF, dose and detector act on both, the
    detector's noise is added, and weighted back-projection makes the volume (Förster et al. 2008, J. Struct. Biol.
    161:276-286). This is another route to the same thing as wedge, CTF, MTF and noise as filters of the volume: here
    the missing wedge is that of single tilts, the noise is weighted as the density is, and neighbours in a scene
    larger than ``output_size`` leave their traces in it. The defocus is that of the tilt axis everywhere: across a
    particle it changes by less than 0.03 µm. The tilt axis is y and the beam z, in space, as for
    :class:`~.wedge.MissingWedge`.

    Parameters
    ----------
    snr
        Variance of the imaged projections without noise over that of their noise, over the whole projections and all
        tilts: every tilt has noise of one level. A number or a log-uniform (min, max), > 0; infinity adds no noise.
    ctf
        :class:`~.ctf.CTF` or :class:`~.ctf.RandCTF`, one a tilt series; its mode acts on every projection. None: the
        default ``RandCTF()``, the paper's ranges.
    mtf
        :class:`~.mtf.MTF` or :class:`~.mtf.RandMTF`. None: the default ``MTF()``.
    noise_before_fraction
        Share of that noise's variance that stems from the specimen, 0..1: white before CTF, dose and detector act on
        it. The rest is white after them.
    min_tilt_deg, max_tilt_deg
        Ends of the tilt range, numbers or ranges.
    step_deg
        Largest step between tilts. Every item has the same number of tilts, evenly spaced over its own range.
    tilt_jitter_deg
        Uniform error of every tilt angle, plus or minus; projection and back-projection both use the true angle.
    defocus_jitter_um
        Uniform change of the defocus from tilt to tilt, plus or minus.
    dose_per_tilt
        e/Å^2, a number or a range, at most 1000; damps fine detail with the dose
        (:func:`monai_cryo.physics.dose_attenuation`). 0: no damage.
    tilt_order
        ``"dose_symmetric"`` or ``"sequential"``.
    filter
        ``"exact"`` or ``"ramp"`` (:func:`monai_cryo.physics.reconstruction_filter`).
    output_size
        Voxels, one number or (z, y, x), cut from the scene's centre; None: the whole input.
    voxel_size
        Å, of cubic voxels; None: from the MetaTensor.
    prob
        Probability that an item is simulated. Items left out are cut to the same size and nothing else.

    Raises
    ------
    ValueError
        On impossible parameters, min > max, voxels that are no cubes, or where no voxel size is known.
    """

    def __init__(
        self,
        snr: Range = (0.03, 10.0),
        *,
        ctf: CTF | None = None,
        mtf: MTF | None = None,
        noise_before_fraction: float = 0.5,
        min_tilt_deg: Range = -60.0,
        max_tilt_deg: Range = 60.0,
        step_deg: float = 3.0,
        tilt_jitter_deg: float = 0.0,
        defocus_jitter_um: float = 0.0,
        dose_per_tilt: Range = 0.0,
        tilt_order: TiltOrder = "dose_symmetric",
        filter: BackProjectionFilter = "exact",
        output_size: int | Sequence[int] | None = None,
        voxel_size: float | Sequence[float] | None = None,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        self.snr = parse_positive("snr", snr, infinite=True)
        self.ctf, self.mtf = RandCTF() if ctf is None else ctf, MTF() if mtf is None else mtf
        if not isinstance(self.ctf, CTF) or not isinstance(self.mtf, MTF):
            raise ValueError(f"ctf and mtf must be (Rand)CTF and (Rand)MTF transforms, got {ctf!r} and {mtf!r}")
        self.noise_before_fraction = parse_number("noise_before_fraction", noise_before_fraction, 0.0, 1.0)
        self.ends = (parse_range("min_tilt_deg", min_tilt_deg), parse_range("max_tilt_deg", max_tilt_deg))
        check_tilt_range(torch.tensor(self.ends[0]), torch.tensor(self.ends[1]).flip(0))
        step = parse_number("step_deg", step_deg)
        self.tilt_count = len(tilt_angles(self.ends[0][0], self.ends[1][1], step))
        self.tilt_jitter_deg = parse_number("tilt_jitter_deg", tilt_jitter_deg, low=0.0)
        self.defocus_jitter_um = parse_number("defocus_jitter_um", defocus_jitter_um, low=0.0)
        self.dose_per_tilt = parse_range("dose_per_tilt", dose_per_tilt, 0.0, 1000.0)
        cumulative_dose([0.0], 0.0, tilt_order)  # refuse a bad word now, and so below
        self.tilt_order = tilt_order
        reconstruction_filter([0.0], 1, 1.0, filter=filter)
        self.filter = filter
        self.output_size = None
        if output_size is not None:
            size = ensure_tuple(output_size)
            if len(size) not in (1, 3):
                raise ValueError(f"output_size must be one or three numbers of voxels, got {output_size!r}")
            self.output_size = tuple(parse_whole("output_size", n) for n in (size if len(size) == 3 else size * 3))
        size = one_voxel_size(self, voxel_size, self.ctf.voxel_size, self.mtf.voxel_size)
        self.voxel_size = None if size is None else cubic_voxel_size(self, size)

    def draw_values(self, state: np.random.RandomState) -> Parameters:
        """Draw SNR, the angle and defocus jitter of every tilt, microscope and detector, and the noise's seed."""
        low, high = (uniform(state, end) for end in self.ends)
        jitter = [(-size, size) for size in (self.tilt_jitter_deg, self.defocus_jitter_um)]
        tilts = np.linspace(low, high, self.tilt_count) + uniform(state, jitter[0], self.tilt_count)
        return {
            "snr": log_uniform(state, self.snr),
            "tilts_deg": tilts.tolist(),
            "defocus_jitter_um": uniform(state, jitter[1], self.tilt_count),
            "dose_per_tilt": uniform(state, self.dose_per_tilt),
            "ctf": self.ctf.draw(state),
            "mtf": self.mtf.draw(state),
            "seed": draw_seed(state),
        }

    def apply(self, batch: Tensor, parameters: Sequence[Draw], **context: Any) -> Tensor:
        """Simulate from a batch (B, C, D, H, W) into (B, C, *output_size); items without a draw are only cut."""
        parameters = self._checked(batch, parameters)
        self._start(batch.shape)
        on = [i for i, drawn in enumerate(parameters) if drawn is not None]
        result = crop_or_pad(batch, self.output_size or batch.shape)
        context = batch_geometry(batch, self.voxel_size) | context
        if on:
            simulated = self.apply_to(batch[on], [p for p in parameters if p is not None], **context)
            if len(on) == len(batch):
                return simulated
            result = result.clone()
            result[on] = simulated
        return result

    def apply_to(self, batch: Tensor, parameters: Sequence[Parameters], **context: Any) -> Tensor:
        """Project, image and back-project a batch (B, C, D, H, W)."""
        size = needed_voxel_size(self, self.voxel_size or context.get("voxel_size"))
        order = [context.get("axes", ZYX).index(axis) for axis in ZYX]
        shape = self.output_size or spatial_shape(batch.shape)
        volume = batch.permute(0, 1, *(2 + k for k in order))
        result = self._simulate(volume, parameters, cubic_voxel_size(self, size), [shape[k] for k in order])
        return result.permute(0, 1, *(2 + order.index(k) for k in range(3)))

    def _simulate(
        self, batch: Tensor, parameters: Sequence[Parameters], voxel_size: float, shape: Sequence[int]
    ) -> Tensor:
        """Simulate from a batch with the axes z, y, x, into a spatial shape."""
        # all of this is linear, and squares leave float32 long before values do
        scale = batch.abs().amax(dim=(-4, -3, -2, -1), keepdim=True)
        scale = torch.where(scale > 0, scale, 1)
        batch = batch / scale
        depth, height, width = batch.shape[-3:]
        kind: dict[str, Any] = {"device": batch.device, "dtype": batch.dtype}
        tilts = column(parameters, "tilts_deg", torch.empty(0, dtype=torch.float64))
        # one projection matrix serves all items that share their tilts, and later calls
        shared = bool((tilts == tilts[0]).all())
        angles = tilts[0] if shared else tilts[:, None].expand(-1, batch.shape[1], -1)
        spectrum = torch.fft.rfft2(project(batch, angles))  # (B, C, T, H, W // 2 + 1)
        grid = Grid((1, height, width), (voxel_size,) * 3, **kind)
        recorded, gain = self._optics(grid, parameters, tilts)
        optics = spread(recorded, grid.index[0])[:, None]

        # by Parseval, over all tilts; the mean is no signal
        passed = optics.square()
        points = multiplicity((1, height, width), device=batch.device).to(batch.dtype) / float(height * width)
        power = torch.view_as_real(spectrum).square().sum(dim=-1) * passed
        power[..., 0, 0] = 0
        signal = (power * points).sum(dim=(-2, -1)).mean(dim=-1) / float(height * width)
        # no signal counts as variance 1, so that noise alone can be asked for
        noise = torch.where(signal > 0, signal, 1) / column(parameters, "snr", batch)[:, None]
        white = (passed * points).sum(dim=(-2, -1)).mean(dim=-1)
        before = self.noise_before_fraction * noise / white.clamp(min=1e-12)
        after = (1 - self.noise_before_fraction) * noise
        # two independent grains add up in power
        amplitude = (before[..., None, None, None] * passed + after[..., None, None, None]).sqrt()
        series = (*spectrum.shape[1:-1], width)
        grain = torch.stack([half_grid_noise(series, [p["seed"]], transformed=2, **kind) for p in parameters])
        spectrum = spectrum * optics + grain * amplitude

        weight = reconstruction_filter(angles, width, depth, filter=self.filter).to(**kind)[..., None, :]
        if gain is not None:
            weight = weight * spread(gain, grid.index[0])[:, None]
        projections = torch.fft.irfft2(spectrum * weight, s=(height, width))
        return back_project(projections, angles, shape).mul_(scale)

    def _optics(self, grid: Grid, parameters: Sequence[Parameters], tilts: Tensor) -> tuple[Tensor, Tensor | None]:
        """What each projection's density passes, (B, T, R), and what processing multiplies with afterwards or None."""
        recorded = torch.ones(*tilts.shape, len(grid.frequency), device=grid.device, dtype=grid.dtype)
        gain = None
        on = [i for i, p in enumerate(parameters) if p["ctf"] is not None]
        if on:
            microscope = [parameters[i]["ctf"] for i in on]
            jitter = column([parameters[i] for i in on], "defocus_jitter_um", recorded)
            defocus = column(microscope, "defocus_um", recorded)[:, None] + jitter
            ctf = self.ctf.recorded(grid.frequency, microscope, defocus)
            processed = self.ctf.processing(grid, ctf, microscope)
            recorded[on] = self.ctf.sign * ctf
            if processed is not None:
                gain = torch.ones_like(recorded)
                gain[on] = processed
        on = [i for i, p in enumerate(parameters) if p["mtf"] is not None]
        if on:
            recorded[on] *= self.mtf.transfer(grid, [parameters[i]["mtf"] for i in on])[:, None]
        if any(p["dose_per_tilt"] > 0 for p in parameters):
            dose = cumulative_dose(tilts, column(parameters, "dose_per_tilt", tilts), self.tilt_order)
            recorded = recorded * dose_attenuation(grid.frequency, dose.to(recorded))
        return recorded, gain

    def cut(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Cut (C, D, H, W), such as a mask, to the output size; type, device, dtype and place in space are kept."""
        if self.output_size is None:
            return self._record(img)
        start = self._start(img.shape)
        window = (slice(None), *(slice(s, s + n) for s, n in zip(start, self.output_size, strict=True)))
        inner = img.as_tensor() if isinstance(img, MetaTensor) else img
        return self._record(self._place(inner[window], img))

    def _start(self, shape: Sequence[int]) -> tuple[int, ...]:
        """First voxel of the output in the input, centre N // 2 on centre."""
        size = self.output_size or spatial_shape(shape)
        if any(n > m for n, m in zip(size, shape[-3:], strict=True)):
            raise ValueError(f"output_size must fit into the input {tuple(shape[-3:])}, got {size}")
        return tuple(m // 2 - n // 2 for n, m in zip(size, shape[-3:], strict=True))

    def _place(self, result: NdarrayOrTensor, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Give a result the type of the input it was cut from, and a MetaTensor its new origin."""
        if not isinstance(img, MetaTensor):
            return result
        out = convert_to_dst_type(result, img, dtype=result.dtype)[0]
        shift = torch.eye(4, dtype=img.affine.dtype, device=img.affine.device)
        shift[:3, 3] = torch.tensor(self._start(img.shape)).to(shift)
        out.affine = img.affine @ shift
        return out

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Simulate from (C, D, H, W); the type, device and floating dtype are kept."""
        volume = to_volume(img, "RandTiltSeries")
        self._start(volume.shape)
        drawn = self._settle(randomize)
        if drawn is None:
            return self.cut(img)
        result = self.apply_to(volume[None], [drawn], **self._context(img))[0]
        return self._record(self._place(like(result, img), img))

    def inverse(self, data: NdarrayOrTensor) -> NdarrayOrTensor:
        """Refuse: what was cut away and imaged does not come back."""
        raise ValueError("RandTiltSeries cannot be inverted: it cuts the scene and images it")
