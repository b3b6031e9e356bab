"""The pictures of docs/physics.md."""

from __future__ import annotations

import draw_physics
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("classes", ["embedded", "without a proteasome"])
def test_every_picture_is_drawn(tmp_path, classes):
    options = ["--output", str(tmp_path)]
    if classes != "embedded":
        file = tmp_path / "own.yaml"
        file.write_text("classes: {membrane: {procedural: membrane}}\n")
        options += ["--templates", str(file)]
    assert draw_physics.main(options) == 0
    pictures = list(tmp_path.glob("physics_*.png"))
    assert len(pictures) == len(draw_physics.PICTURES) >= 10
    assert all(picture.stat().st_size > 5_000 for picture in pictures)
