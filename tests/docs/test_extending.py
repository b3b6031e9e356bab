"""What docs/extending.md shows runs as it stands there, and does what the page says."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from ignite.engine import Engine
from monai.bundle import ConfigParser

import monai_cryo.transforms as T  # noqa: N812

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()


@pytest.fixture(scope="module")
def own():
    """The page's Python blocks, executed in turn, as a module."""
    module = ModuleType("own")
    module.__dict__["__name__"] = "own"
    sys.modules["own"] = module
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, module.__dict__)
    yield module
    del sys.modules["own"]


def test_the_filter_is_a_gaussian_that_detector_noise_passes_too(own):
    point = torch.zeros(1, 31, 31, 31)
    point[0, 15, 15, 15] = 1
    smoothed = own.RandLowpass(1.5)(point)[0]
    away = torch.arange(31) - 15.0
    expected = torch.exp(-away.square() / (2 * 1.5**2))
    torch.testing.assert_close(smoothed[:, 15, 15] / smoothed.max(), expected, atol=1e-3, rtol=0)
    empty, noise = torch.zeros(1, 32, 32, 32), T.AddNoise(1.0, stage="after")
    alone = T.FourierCompose([noise], voxel_size=10.0).set_random_state(0)(empty)
    both = T.FourierCompose([noise, own.RandLowpass(1.5)], voxel_size=10.0).set_random_state(0)(empty)
    torch.testing.assert_close(both, own.RandLowpass(1.5)(alone), atol=1e-5, rtol=0)


def test_the_filament_goes_straight_through_the_box_and_is_one_item_alone(own):
    batch = torch.zeros(2, 1, 24, 24, 24)
    drawn = {"radius_vox": 2.0, "amplitude": 0.5, "direction": [0.0, 0.0, 2.0], "point": [0.25, 0.0, 0.1]}
    first, second = own.RandFilament().apply(batch, [drawn, None])
    assert not second.any()
    torch.testing.assert_close(first[0, :, :, 0], first[0, :, :, 20], atol=1e-5, rtol=0)
    assert float(first[0, 18, 12, 5]) == pytest.approx(0.5)
    assert float(first.sum()) / 24 == pytest.approx(0.5 * np.pi * 2**2, rel=0.1)


def test_what_is_drawn_stands_in_the_label_and_replays(own):
    drawn = own.label["parameters"]
    assert json.loads(json.dumps(drawn)) == drawn
    filaments = [d["RandFilamentd"] for d in drawn]
    assert any(f is None for f in filaments) or all(f["radius_vox"] > 1 for f in filaments)
    batch = own.list_data_collate([own.items[i] for i in range(4)])
    again, _ = own.prepare(batch, parameters=drawn)
    assert torch.equal(again, own.image)


@pytest.mark.parametrize("name", ["RandLowpass", "RandFilament"])
def test_own_transforms_are_seeded_and_described(own, name):
    transform, volume = getattr(own, name)(), torch.rand(1, 16, 16, 16)
    one = transform.set_random_state(5)(volume)
    assert torch.equal(one, transform.set_random_state(5)(volume))
    assert not torch.equal(one, transform(volume))
    assert transform.config()["prob"] == 1.0
    assert name in repr(transform)


def test_the_metric_is_the_mean_over_all_samples(own):
    masks = torch.full((3, 2, 4, 4, 4), -9.0)
    masks[:, 1, :2] = 9.0
    logits = torch.tensor([[0.0, 1.0]]).expand(3, 2)
    truth = torch.zeros(3, 1, 4, 4, 4)
    truth[:, :, :1] = 1
    label = {"class": torch.ones(3, dtype=torch.long), "mask": truth}
    engine = Engine(lambda engine, batch: {"pred": {"logits": logits, "masks": masks}, "label": label})
    own.metric.attach(engine, "excess_volume")
    assert float(engine.run([0, 1]).metrics["excess_volume"]) == pytest.approx(1.0)


def test_the_yaml_lies_over_the_recipe(own, tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert set(yaml.safe_load(text)) == {
        "+simulation#transforms#1#transforms",
        "+validate#additional_metrics",
        "+imports",
    }
    (tmp_path / "own.yaml").write_text(text)
    config = ConfigParser()
    config.read_config([str(ROOT / "bundles" / "subtomogram" / "configs" / "train.yaml"), str(tmp_path / "own.yaml")])
    filters = config.get_parsed_content("simulation").members[1].transform.transforms
    assert [type(f).__name__ for f in filters][-2:] == ["MTF", "RandLowpass"]
    assert {"loss", "excess_volume"} <= set(config.get_parsed_content("validate#additional_metrics"))
