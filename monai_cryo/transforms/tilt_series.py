"""A whole tilt series as one transform: project, image every tilt with noise, and back-project."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.utils import convert_to_dst_type, ensure_tuple
from torch import Tensor

from monai_cryo._typing import Contrast
from monai_cryo.physics.contrast_transfer import check_ctf_parameters, ctf
from monai_cryo.physics.detector import sinc_mtf
from monai_cryo.physics.fourier import frequency_shells, multiplicity, spatial_shape, spread, voxel_size_zyx
from monai_cryo.physics.noise import half_grid_noise
from monai_cryo.physics.tilt_series import (
    BackProjectionFilter,
    TiltOrder,
    back_project,
    cumulative_dose,
    cut,
    dose_attenuation,
    project,
    reconstruction_filter,
    tilt_angles,
)
from monai_cryo.physics.wedge import check_tilt_range
from monai_cryo.transforms.base import (
    RandDictTransform,
    RandPhysics,
    Range,
    image_voxel_size,
    like,
    parse_range,
    to_volume,
)


class RandTiltSeries(RandPhysics):
    """Simulate a subtomogram as it comes about: a tilt series of noisy projections, back-projected.

    The density is projected at every tilt; noise of the specimen is added, CTF, dose and detector act on both, the
    detector's noise is added, and weighted back-projection makes the volume (Förster et al. 2008, J. Struct. Biol.
    161:276-286). This is another route to the same thing as wedge, CTF, MTF and noise as filters of the volume: here
    the missing wedge is that of single tilts, the noise is weighted as the density is, and neighbours in a scene
    larger than ``output_size`` leave their traces in it. The defocus is that of the tilt axis everywhere: across a
    particle it changes by less than 0.03 µm.

    Parameters
    ----------
    snr
        Variance of the imaged projections without noise over that of their noise, over the whole projections and all
        tilts: every tilt has noise of one level. A number or a log-uniform (min, max), > 0; infinity adds no noise.
    noise_before_fraction
        Share of that noise's variance that stems from the specimen, 0..1: white before CTF, dose and detector act on
        it. The rest is white after them.
    min_tilt_deg, max_tilt_deg
        Ends of the tilt range, numbers or ranges.
    step_deg
        Largest step between tilts. Every channel has the same number of tilts, evenly spaced over its own range.
    tilt_jitter_deg
        Uniform error of every tilt angle, plus or minus; projection and back-projection both use the true angle.
    defocus_um, cs_mm, voltage_kv, amplitude_contrast, b_factor_a2
        As for :class:`~.ctf.RandCTF`, numbers or ranges; one CTF a tilt.
    defocus_jitter_um
        Uniform change of the defocus from tilt to tilt, plus or minus.
    dose_per_tilt
        e/Å^2, a number or a range; damps fine detail with the dose (:func:`monai_cryo.physics.dose_attenuation`).
        0: no damage.
    tilt_order
        ``"dose_symmetric"`` or ``"sequential"``.
    mtf_scale
        Pixel width of the detector's sinc as for :class:`~.mtf.MTF`; a number or a range; 0: a perfect detector.
    filter
        ``"exact"`` or ``"ramp"`` (:func:`monai_cryo.physics.reconstruction_filter`).
    contrast
        ``"dark"``: density turns dark, as in experimental tomograms; ``"bright"`` keeps it bright.
    output_size
        Voxels, one number or (z, y, x), cut from the scene's centre; None: the whole input.
    voxel_size
        Å, of cubic voxels; None: from the MetaTensor.
    prob, channel_wise
        As for :class:`~.base.RandPhysics`. Channels left out are cut to the same size and nothing else.

    Raises
    ------
    ValueError
        On impossible parameters, min > max, voxels that are no cubes, or where no voxel size is known.
    """

    def __init__(
        self,
        snr: Range = (0.03, 10.0),
        *,
        noise_before_fraction: float = 0.5,
        min_tilt_deg: Range = -60.0,
        max_tilt_deg: Range = 60.0,
        step_deg: float = 3.0,
        tilt_jitter_deg: float = 0.0,
        defocus_um: Range = (0.0, 12.0),
        defocus_jitter_um: float = 0.0,
        cs_mm: Range = 2.7,
        voltage_kv: Range = 300.0,
        amplitude_contrast: Range = 0.07,
        b_factor_a2: Range = 0.0,
        dose_per_tilt: Range = 0.0,
        tilt_order: TiltOrder = "dose_symmetric",
        mtf_scale: Range = 1.0,
        filter: BackProjectionFilter = "exact",
        contrast: Contrast = "dark",
        output_size: int | Sequence[int] | None = None,
        voxel_size: float | Sequence[float] | None = None,
        prob: float = 1.0,
        channel_wise: bool = False,
    ) -> None:
        super().__init__(prob, channel_wise)
        self.snr = parse_range("snr", snr)
        if self.snr[0] <= 0:
            raise ValueError(f"snr must be > 0, got {snr!r}")
        self.noise_before_fraction = parse_range("noise_before_fraction", noise_before_fraction, 0.0, 1.0)[0]
        self.ends = (parse_range("min_tilt_deg", min_tilt_deg), parse_range("max_tilt_deg", max_tilt_deg))
        check_tilt_range(torch.tensor(self.ends[0]), torch.tensor(self.ends[1]).flip(0))
        self.tilt_count = len(tilt_angles(self.ends[0][0], self.ends[1][1], step_deg))
        self.tilt_jitter_deg = parse_range("tilt_jitter_deg", tilt_jitter_deg, low=0.0)[1]
        self.defocus_um = parse_range("defocus_um", defocus_um)
        self.defocus_jitter_um = parse_range("defocus_jitter_um", defocus_jitter_um, low=0.0)[1]
        self.ranges = {
            "cs_mm": parse_range("cs_mm", cs_mm),
            "voltage_kv": parse_range("voltage_kv", voltage_kv),
            "amplitude_contrast": parse_range("amplitude_contrast", amplitude_contrast),
            "b_factor_a2": parse_range("b_factor_a2", b_factor_a2),
        }
        for end in (0, 1):
            check_ctf_parameters(**{name: bounds[end] for name, bounds in self.ranges.items()})
        self.ranges["dose_per_tilt"] = parse_range("dose_per_tilt", dose_per_tilt, low=0.0)
        self.ranges["mtf_scale"] = parse_range("mtf_scale", mtf_scale, low=0.0)
        cumulative_dose([0.0], 0.0, tilt_order)  # refuse a bad word now, and so below
        self.tilt_order = tilt_order
        reconstruction_filter([0.0], 1, 1.0, filter=filter)
        self.filter = filter
        if contrast not in get_args(Contrast):
            raise ValueError(f"contrast must be one of {', '.join(get_args(Contrast))}, got {contrast!r}")
        self.sign = -1.0 if contrast == "dark" else 1.0
        self.output_size = None
        if output_size is not None:
            size = (output_size,) * 3 if isinstance(output_size, int) else tuple(int(n) for n in output_size)
            if len(size) != 3 or min(size) < 1:
                raise ValueError(f"output_size must be one or three positive numbers of voxels, got {output_size!r}")
            self.output_size = size
        self.voxel_size = None if voxel_size is None else _cubic(voxel_size)

    def draw(self, n: int) -> dict[str, np.ndarray]:
        """Draw SNR, angles and defocus of every tilt, the rest of the microscope, and one seed a channel."""
        low, high = (self.uniform(end, n)[:, None] for end in self.ends)
        tilts = low + (high - low) * np.linspace(0.0, 1.0, self.tilt_count)
        return {
            "snr": self.log_uniform(self.snr, n),
            "tilts_deg": tilts + self._jitter(self.tilt_jitter_deg, n),
            "defocus_um": self.uniform(self.defocus_um, n)[:, None] + self._jitter(self.defocus_jitter_um, n),
            **{name: self.uniform(bounds, n) for name, bounds in self.ranges.items()},
            "seed": self.R.randint(0, 2**31 - 1, size=n),
        }

    def _jitter(self, size: float, n: int) -> np.ndarray:
        return self.uniform((-size, size), n, self.tilt_count)

    def optics(self, frequency: Tensor, nyquist: float) -> Tensor:
        """CTF, dose and detector at radial frequencies (R,) in 1/Å: (C or 1, T, R)."""
        p: dict[str, Any] = {
            name: torch.as_tensor(self.params[name]) for name in (*self.ranges, "defocus_um", "tilts_deg")
        }
        microscope = {name: p[name][:, None] for name in ("cs_mm", "voltage_kv", "amplitude_contrast", "b_factor_a2")}
        transfer = self.sign * ctf(frequency, p["defocus_um"], **microscope)
        transfer = transfer * sinc_mtf(frequency, nyquist, p["mtf_scale"][:, None])
        if self.ranges["dose_per_tilt"][1] > 0:
            dose = cumulative_dose(p["tilts_deg"], p["dose_per_tilt"], self.tilt_order)
            transfer = transfer * dose_attenuation(frequency, dose)
        return transfer

    def simulate(self, volume: Tensor, voxel_size: float) -> Tensor:
        """Project, image and back-project (C, D, H, W) with the values drawn, into (C, *output_size)."""
        depth, height, width = volume.shape[-3:]
        kind: dict[str, Any] = {"device": volume.device, "dtype": volume.dtype}
        tilts = torch.as_tensor(self.params["tilts_deg"])
        if bool((tilts == tilts[0]).all()):  # one projection matrix then serves all channels, and later calls
            tilts = tilts[0]
        spectrum = torch.fft.rfft2(project(volume, tilts))
        radii, index = frequency_shells((1, height, width), voxel_size, device=volume.device, dtype=volume.dtype)
        optics = spread(self.optics(radii, 0.5 / voxel_size), index[0])

        # by Parseval, over all tilts; the mean is no signal
        passed = optics.square()
        points = multiplicity((1, height, width), device=volume.device).to(volume.dtype) / float(height * width)
        power = torch.view_as_real(spectrum).square().sum(dim=-1) * passed
        power[..., 0, 0] = 0
        signal = (power * points).sum(dim=(-2, -1)).mean(dim=-1) / float(height * width)
        # an empty signal counts as variance 1, so that noise alone can be asked for
        noise = torch.where(signal > 1e-12, signal, 1) / torch.as_tensor(self.params["snr"], **kind)
        white = (passed * points).sum(dim=(-2, -1)).mean(dim=-1)
        before = self.noise_before_fraction * noise / white.clamp(min=1e-12)
        after = (1 - self.noise_before_fraction) * noise
        # two independent grains add up in power
        amplitude = (before[:, None, None, None] * passed + after[:, None, None, None]).sqrt()
        series = (*spectrum.shape[:-1], width)
        grain = half_grid_noise(series, self.params["seed"].tolist(), transformed=2, **kind)
        spectrum = spectrum * optics + grain * amplitude

        weight = reconstruction_filter(tilts, width, depth, filter=self.filter).to(**kind)[..., None, :]
        projections = torch.fft.irfft2(spectrum * weight, s=(height, width))
        return back_project(projections, tilts, self.output_size or volume.shape)

    def cut(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Cut (C, D, H, W), such as a mask, to the output size; type, device, dtype and place in space are kept."""
        if self.output_size is None:
            return img
        start = self._start(img.shape)
        window = (slice(None), *(slice(s, s + n) for s, n in zip(start, self.output_size, strict=True)))
        inner = img.as_tensor() if isinstance(img, MetaTensor) else img
        return self._place(inner[window], img)

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
        if randomize:
            self.randomize(volume)
        if not self.active.any():
            return self.cut(img)
        size = self.voxel_size or image_voxel_size(img)
        if size is None:
            raise ValueError(
                "RandTiltSeries needs the voxel size: pass voxel_size in Å, or a MetaTensor whose affine carries it"
            )
        result = self.simulate(volume, _cubic(size))
        if not self.active.all():
            active = torch.as_tensor(self.active, device=volume.device)[:, None, None, None]
            result = torch.where(active, result, cut(volume, (len(volume), *result.shape[1:])))
        return self._place(like(result, img), img)


def _cubic(voxel_size: float | Sequence[float]) -> float:
    """Return the one size of cubic voxels in Å; refuse others."""
    sizes = voxel_size_zyx(voxel_size)
    if max(sizes) - min(sizes) > 1e-3 * max(sizes):
        raise ValueError(f"a tilt series needs cubic voxels, got voxel_size {sizes} Å")
    return sizes[0]


class RandTiltSeriesd(RandDictTransform):
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
        mask_keys: KeysCollection | None = None,
        allow_missing_keys: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, RandTiltSeries(**kwargs), allow_missing_keys)
        self.mask_keys = ensure_tuple(mask_keys or ())

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` with the entries simulated and the masks cut."""
        d = super().__call__(data)
        for key in self.mask_keys:
            if key in d or not self.allow_missing_keys:
                d[key] = self.transform.cut(d[key])  # type: ignore[attr-defined]
        return d


RandTiltSeriesD = RandTiltSeriesDict = RandTiltSeriesd
