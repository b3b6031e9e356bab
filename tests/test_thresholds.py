"""The tomograms that thresholds are found on: every particle is where it is said to be, and counted once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import thresholds
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import pdist

from monai_cryo.inferers import Reading, Sightings
from monai_cryo.io import Picks, Tomogram, write_mrc
from monai_cryo.templates import load_templates

SHAPE = (40, 80, 80)


@pytest.mark.slow
def test_a_scene_is_known() -> None:
    library = load_templates("unseen")
    scenes = [thresholds.simulate_scene(library, "bacterium", 0, 2, SHAPE) for _ in range(2)]
    scene = scenes[0]
    np.testing.assert_array_equal(scene.image, scenes[1].image)
    assert scene.image.shape == SHAPE
    assert set(scene.names) == {"ribosome", "distractors"}
    assert pdist(scene.places).min() >= 12
    blurred = gaussian_filter(scene.image, 4)
    ribosomes = scene.places[[name == "ribosome" for name in scene.names]].round().astype(int)
    assert len(ribosomes) >= 5
    labels = {name: 1 + library.classes.index(name) for name in ("ribosome", "membrane")}
    assert (scene.labels[tuple(ribosomes.T)] == labels["ribosome"]).mean() > 0.9  # a centre may be a channel
    assert set(np.unique(scene.labels)) == {0, *labels.values()}
    for label in labels.values():
        assert scene.image[scene.labels == label].mean() < scene.image[scene.labels == 0].mean()
    assert blurred[tuple(ribosomes.T)].mean() < blurred.mean() - blurred.std()  # protein dark
    assert "proteasome" in thresholds.simulate_scene(library, "cell", 0, 2, SHAPE).names


def test_counts_at_thresholds() -> None:
    index = np.array([[20, 20.0, 20], [20, 40, 43], [20, 40, 20], [20, 2, 20]])
    found = Picks(index, ["a", "a", "a", "a"], np.array([0.9, 0.5, 0.3, 0.8]), np.ones(4, int), 10.0, SHAPE)
    places = np.array([[20.0, 20, 22], [20, 40, 40], [20, 20, 20], [20, 2, 20]])
    counts = thresholds.score(found, places, ["a", "a", "b", "a"], ["a", "b"], 8.0, 8)
    assert (counts["a"].true, counts["b"].true) == (2, 1)
    for threshold, picks, matched in ((0.2, 3, 2), (0.4, 2, 2), (0.6, 1, 1), (0.95, 0, 0)):
        assert thresholds.at(counts["a"].picks, threshold) == picks
        assert thresholds.at(counts["a"].matched, threshold) == matched
        assert thresholds.at(counts["a"].f1, threshold) == pytest.approx(2 * matched / (picks + 2))
    assert not counts["b"].picks.any()
    for place, picks in ((index[0] + 30, 3), (index[2] + 1, 2)):
        places[2] = place
        left = thresholds.score(found, places, ["a", "a", "b", "a"], ["a"], 8.0, 8, others_count=False)["a"]
        assert (thresholds.at(left.picks, 0.2), thresholds.at(left.matched, 0.2)) == (picks, 2)


def test_voxels_at_thresholds() -> None:
    """Each counts for its surest class alone, up to that class's score."""
    maps = [np.zeros((4, 4, 4), np.float16) for _ in range(3)]
    maps[0][0], maps[1][0] = 0.5, 0.25  # sixteen voxels of the first, less surely of the second
    maps[1][1] = 0.75
    labels = np.zeros((4, 4, 4), np.int8)
    labels[0, :2], labels[1], labels[2] = 2, 1, 2  # codes are those of another order of classes
    reading = Reading(maps, np.zeros(labels.shape, np.int8), Sightings(*(np.empty((0, n)) for n in (3, 1, 1, 1))))
    counts = thresholds.score_labels(reading, labels, ["b", "a"], ["a", "b", "c"])
    assert {name: c.true for name, c in counts.items()} == {"a": 24, "b": 16, "c": 0}
    for threshold, found in ((0.2, (16, 16)), (0.5, (16, 16)), (0.51, (0, 16)), (0.75, (0, 16)), (0.76, (0, 0))):
        assert tuple(thresholds.at(counts[name].picks, threshold) for name in "ab") == found
        assert thresholds.at(counts["a"].matched, threshold) == found[0] / 2
        assert thresholds.at(counts["b"].matched, threshold) == found[1]
    assert not counts["c"].picks.any()


def test_objects_of_label_volumes(tmp_path: Path) -> None:
    items = [{"class": name} for name in ("a", "a", "b")]
    (tmp_path / "dataset.json").write_text(json.dumps({"test": items}))
    (tmp_path / "tomograms").mkdir()
    labels = np.zeros((20, 20, 20), np.int8)
    labels[2:5, 2:5, 2:5] = labels[12:15, 2:5, 2:5] = 1
    labels[10, 10, 10] = 1  # a crumb
    labels[12:15, 12:15, 5:8] = 2
    write_mrc(tmp_path / "tomograms" / "t_labels.mrc", labels, 10.0)
    [(path, places, names)] = thresholds.labelled(tmp_path)
    assert path == tmp_path / "tomograms" / "t.mrc"
    assert names == ["a", "a", "b"]
    np.testing.assert_allclose(places, [[3, 3, 3], [13, 3, 3], [13, 13, 6]])


def test_plain_pickers_beside_the_model() -> None:
    """Each finds what is there of its class first; the second best is one threshold lower."""
    library = load_templates()
    density = next(m for _, name, m in library.rows() if name == "ribosome").density.numpy()
    rng = np.random.default_rng(0)
    volume = rng.normal(scale=0.3, size=(40, 80, 80)).astype(np.float32)
    for middle, amplitude in ((20, 1.0), (60, 0.8)):
        starts = [place - n // 2 for place, n in zip((20, middle, middle), density.shape, strict=True)]
        volume[tuple(slice(a, a + n) for a, n in zip(starts, density.shape, strict=True))] -= amplitude * density
    tomogram = Tomogram(Path(), volume, library.voxel_size, (0.0, 0.0, 0.0))
    found = thresholds.plain_picks(tomogram, library, ["ribosome"], {"ribosome": 270.0})
    assert tuple(found) == thresholds.PLAIN
    for picks in found.values():
        assert set(picks.names) == {"ribosome"}
        np.testing.assert_allclose(picks.index[:2], [[20, 20, 20], [20, 60, 60]], atol=2.5)
        np.testing.assert_allclose(picks.scores[:3], thresholds.THRESHOLDS[:-4:-1])
        nearest = pdist(picks.index).min() * library.voxel_size  # noise is picked as densely as it may be
        assert 0.6 * 270.0 <= nearest < 0.7 * 270.0
