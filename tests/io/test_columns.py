"""Nested parameters become the columns of a table."""

from __future__ import annotations

from monai_cryo.io import parameter_columns

DRAWN = {
    "RandPosed": {"rotation": [[1.0] * 3] * 3, "curve": [1.0] * 4, "shift_vox": [0.5, -1.0, 2.0]},
    "FourierComposed": {"RandSNR": {"snr": 0.25, "seed": 123, "stage": "after"}, "RandMissingWedge": None},
}


def test_nested_parameters_become_columns():
    assert dict(parameter_columns(DRAWN)) == {
        "RandPosed.shift_vox.0": 0.5,
        "RandPosed.shift_vox.1": -1.0,
        "RandPosed.shift_vox.2": 2.0,
        "FourierComposed.RandSNR.snr": 0.25,
        "FourierComposed.RandSNR.seed": 123,
        "FourierComposed.RandSNR.stage": "after",
    }
    assert not dict(parameter_columns(None))
