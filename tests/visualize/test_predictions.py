"""Pictures of predictions say what was seen, said and overlapped."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from monai_cryo.visualize.predictions import PREDICTED, TRUE, Example, draw_predictions, figure_to_array


def example(true="ribosome", said="ribosome", mask=True, shift=0):
    block = np.zeros((12, 14, 16), bool)
    block[4:8, 4:9, 4:10] = True
    image = np.random.default_rng(0).normal(size=block.shape).astype(np.float32)
    return Example(image, block if mask else None, np.roll(block, shift, 2), true, said, 0.87, 13.68)


@pytest.mark.parametrize(
    ("sample", "iou"),
    [
        (example(), 1.0),
        (example(shift=2), 0.5),
        (example(said="tric"), 0.0),
        (example(mask=False), None),
    ],
)
def test_overlap_is_that_of_the_metrics(sample, iou):
    assert sample.iou == iou


def test_a_sample_has_two_directions_with_outlines_and_words():
    figure = draw_predictions([example(), example(said="tric"), example(mask=False)], title="after epoch 3")
    titles = [ax.get_title() for ax in figure.axes]
    assert "ribosome, x-y" in titles
    assert "x-z" in titles
    assert "says ribosome 0.87, IoU 1.00" in titles
    assert "says tric 0.87, IoU 0.00" in titles
    assert "says ribosome 0.87, no mask" in titles
    colours = {ax.get_title(): ax.title.get_color() for ax in figure.axes}
    assert colours["says tric 0.87, IoU 0.00"] == "red"
    outlined = [len(ax.collections) for ax in figure.axes[:4]]
    assert outlined == [0, 2, 0, 2]
    true, said = (np.squeeze(lines.get_edgecolor()) for lines in figure.axes[1].collections)
    assert to_hex(true) == to_hex(TRUE)
    assert to_hex(said) == to_hex(PREDICTED)
    assert any(text.get_text() == "10 nm" for text in figure.axes[0].texts)
    (bar,) = figure.axes[0].lines
    assert np.ptp(bar.get_xdata()) * 13.68 == pytest.approx(100)
    picture = figure_to_array(figure)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3


def test_an_empty_prediction_is_drawn_too():
    sample = example()
    empty = Example(sample.image, None, np.zeros_like(sample.predicted_mask), "a", "b", 0.5)
    assert empty.iou is None
    draw_predictions([empty])
