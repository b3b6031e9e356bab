"""Galleries: what is fixed stays fixed, what is random is captioned, files are written."""

from __future__ import annotations

import numpy as np
import pytest

from monai_cryo import cli
from monai_cryo.templates import load_templates
from monai_cryo.visualize.gallery import ROWS, Row, draw_gallery, draw_spectra, simulate_cell


@pytest.fixture(scope="module")
def library():
    return load_templates()


@pytest.mark.parametrize("row", ROWS, ids=[row.title for row in ROWS])
def test_every_row_simulates_every_class(library, row):
    for c in range(len(library.classes)):
        volume, drawn = simulate_cell(library, row, c, seed=0)
        assert volume.shape == (40, 40, 40)
        assert np.isfinite(volume).all()
        assert volume.std() > 0
        assert isinstance(row.caption(drawn), str)
        again, _ = simulate_cell(library, row, c, seed=0)
        np.testing.assert_array_equal(volume, again)


@pytest.mark.parametrize("row", ROWS, ids=[row.title for row in ROWS])
def test_every_row_takes_a_library_without_any_structure(row, tmp_path):
    (tmp_path / "few.yaml").write_text(
        "voxel_size: 20\nbox: 16\nclasses:\n  membrane: {procedural: membrane, offset_a: [-20, 20]}\n"
        "  nothing: {procedural: background}\n"
    )
    few = load_templates(tmp_path / "few.yaml")
    for c in range(2):
        volume, drawn = simulate_cell(few, row, c, seed=0)
        assert volume.shape == (16, 16, 16)
        assert np.isfinite(volume).all()
        assert isinstance(row.caption(drawn), str)


def test_a_column_shows_one_pose(library):
    clean = simulate_cell(library, ROWS[0], 0, seed=0)[0]
    easy = Row("easy", {"snr": 10.0, "stage": "after", "missing_angle_deg": 0.0, "defocus_um": 3.0})
    imaged, drawn = simulate_cell(library, easy, 0, seed=0)
    assert drawn["snr"] == 10
    assert np.corrcoef(clean.ravel(), imaged.ravel())[0, 1] < -0.2  # the same particle, dark


def test_pictures(library):
    few = ROWS[:2]
    for draw in (draw_gallery, draw_spectra):
        figure = draw(library, rows=few)
        assert len(figure.axes) == len(few) * len(library.classes)
        assert [ax.get_title() for ax in figure.axes[:4]] == library.classes


def test_each_row_shows_its_plane(library):
    rows = [row for row in ROWS if row.plane == "xy"][:1] + [row for row in ROWS if row.plane != "xy"][:1]
    assert len(rows) == 2
    figure = draw_gallery(library, seed=3, rows=tuple(rows))
    for n, row in enumerate(rows):
        volume = simulate_cell(library, row, 0, seed=3)[0]
        shown = figure.axes[n * len(library.classes)].images[0].get_array()
        np.testing.assert_allclose(shown, volume[20] if row.plane == "xy" else volume[:, 20])


def test_command(tmp_path, capsys):
    paths = [tmp_path / "new" / "g.png", tmp_path / "s.png"]
    assert cli.main(["gallery", "--output", str(paths[0]), "--spectra", str(paths[1])]) == 0
    assert capsys.readouterr().out.splitlines() == [str(p) for p in paths]
    assert all(path.stat().st_size > 10_000 for path in paths)


def test_bundle_command_prints_the_bundle(capsys, bundle_root):
    assert cli.main(["bundle"]) == 0
    assert capsys.readouterr().out.strip() == str(bundle_root)
