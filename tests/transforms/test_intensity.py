"""Grey values: intensity and standardisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import monai_cryo.transforms as T  # noqa: N812


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 2])
def test_intensity_is_the_documented_formula(channels):
    batch = noise(4, channels, 8, 8, 8) * 3 + 2
    transform, state = T.RandIntensity((0.5, 1.5), (-1, 1)), np.random.RandomState(0)
    draws = [transform.draw(state) for _ in batch]
    out = transform.apply(batch, draws)
    for i, d in enumerate(draws):
        for c in range(channels):
            mean, std = batch[i, c].mean(), batch[i, c].std(correction=0)
            expected = mean + d["brightness"] * std + d["contrast"] * (batch[i, c] - mean)
            torch.testing.assert_close(out[i, c], expected, atol=1e-4, rtol=1e-4)
    assert len({d["contrast"] for d in draws}) == len({d["brightness"] for d in draws}) == 4


def test_standardize_each_item_and_channel_or_a_batch():
    scale, shift = (torch.tensor(v).view(3, 1, 1, 1, 1) for v in ([1.0, 5, 9], [3.0, -4, 0]))
    batch = noise(3, 2, 8, 8, 8) * scale + shift
    each = T.Standardize().apply(batch, [{}] * 3)
    torch.testing.assert_close(each.mean(dim=(2, 3, 4)), torch.zeros(3, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(each.std(dim=(2, 3, 4), correction=0), torch.ones(3, 2))
    together = T.Standardize("batch").apply(batch, [{}] * 3)
    torch.testing.assert_close(together, (batch - batch.mean()) / batch.std(correction=0))
    # what stands alone is a batch of one
    alone = T.Standardize("batch")(batch[0])
    torch.testing.assert_close(alone, (batch[0] - batch[0].mean()) / batch[0].std(correction=0))


@pytest.mark.parametrize("scale", [1e-25, 1e-6, 1e6, 1e25])
def test_the_scale_of_the_volume_does_not_matter(scale):
    v = noise(1, 8, 8, 8) + 1
    torch.testing.assert_close(T.Standardize()(v * scale), T.Standardize()(v), atol=1e-4, rtol=0)
    change = T.RandIntensity(1.2, 0.3)
    torch.testing.assert_close(change(v * scale).double() / scale, change(v).double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [0.0, 5.0, 1e6, 1e-20])
@pytest.mark.parametrize("scope", ["item", "batch"])
def test_a_constant_volume_becomes_zero(value, scope):
    out = T.Standardize(scope)(torch.full((1, 8, 8, 8), value))
    assert torch.equal(out, torch.zeros_like(out))


def test_what_differs_little_is_not_constant():
    noise = torch.randn(1, 8, 8, 8, dtype=torch.float64)
    out = T.Standardize()(1e7 + noise)
    torch.testing.assert_close(out, (noise - noise.mean()) / noise.std(correction=0), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.RandIntensity(contrast=(0, 1)), "contrast must be > 0"),
        (lambda: T.RandIntensity(brightness=(1, 0)), "brightness must have min <= max"),
        (lambda: T.Standardize("volume"), "scope must be one of item, batch, got 'volume'"),
        (lambda: T.Standardize().apply(torch.full((1, 1, 4, 4, 4), float("nan")), [{}]), "finite values"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
