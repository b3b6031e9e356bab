"""What cannot become a class is one clear line, on the command line and before a training begins."""

from __future__ import annotations

import gzip
import os
import sys
import time

import numpy as np
import pytest

from monai_cryo._refusals import is_refusal
from monai_cryo.cli import main
from monai_cryo.io.mrc import write_mrc
from monai_cryo.templates import load_templates, read_structure


def atom(serial, x, element="C"):
    row = f"ATOM  {serial:5d}  CA  GLY A{serial:4d}    {x:8.3f}   0.000   0.000  1.00 20.00          {element:>2}"
    return row.encode()


def lines(*rows):
    return b"\n".join((*rows, b"END\n"))


# library file -> what the one line says
BAD = {
    "classes: {a: fine.mrc, b: empty.pdb}": "empty.pdb: an empty file",
    "classes: {a: fine.mrc, b: end.pdb}": "end.pdb: ",
    "classes: {a: fine.mrc, b: element.pdb}": "element.pdb: unknown element of atom 'CA' in residue GLY 2",
    "classes: {a: fine.mrc, b: apart.pdb}": "apart.pdb: coordinates span 8999 Å, expected at most 5000 Å",
    "classes: {a: fine.mrc, b: long.pdb}": "long.pdb: atoms lie 1500 Å from the centre of mass; a box of 40 voxels",
    "classes: {a: fine.mrc, b: zeros.mrc}": "zeros.mrc: constant map, every voxel is 0",
    "classes:\n  a: fine.mrc\n  a: fine.mrc": "key 'a' stands there twice",
    "classes: {a: fine.mrc, b: gone.cif}": "class 'b': no such source ",
    "classes: {a: fine.mrc, b: big.mrc}": "class 'b': big: the particle needs a box of 53 voxels around its centre",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    contents = {
        "empty.pdb": b"",
        "end.pdb": lines(),
        "element.pdb": lines(atom(1, 0), atom(2, 3, "Qq")),
        "apart.pdb": lines(atom(1, 0), atom(2, 8999)),
        "long.pdb": lines(atom(1, -900), atom(2, 2100)),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    cube = np.zeros((60, 60, 60), np.float32)
    write_mrc(folder / "zeros.mrc", cube, 13.68)
    cube[4:56, 4:56, 4:56] = 1
    write_mrc(folder / "big.mrc", cube, 13.68)
    write_mrc(folder / "fine.mrc", cube[40:, 40:, 40:], 13.68)
    return folder


@pytest.fixture(params=BAD, ids=lambda content: " ".join(content.split()))
def bad(request, folder):
    file = folder / "bad.yaml"
    file.write_text(request.param)
    return file, BAD[request.param]


def test_the_command_line_says_so_in_one_line(bad, capsys):
    file, message = bad
    assert main(["templates", "list", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("monai_cryo: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_training_says_so_in_one_line_and_does_not_begin(bad, bundle_root, tmp_path, monkeypatch, capsys):
    from monai.bundle import ConfigWorkflow

    file, message = bad
    files = [str(bundle_root / "configs" / f"{name}.yaml") for name in ("train", "quick")]
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the bundle sets its own: put back afterwards
    override = {"bundle_root": str(bundle_root), "templates": str(file), "output_dir": str(tmp_path / "out")}
    flow = ConfigWorkflow(config_file=files, workflow_type="train", run_id="training", **override)
    flow.initialize()
    with pytest.raises(RuntimeError) as error:  # MONAI's; what is printed is what counts
        flow.run()
    sys.excepthook(error.type, error.value, error.tb)
    err = capsys.readouterr().err
    assert err.startswith("monai_cryo: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.pt"))


LONG = "1" + "0" * 400
BOMB = "classes:\n  a: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"  b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
# 2^40 options, had they been merged
MERGED = "classes:\n  a0: &a0 {x: 1}\n" + "".join(
    f"  a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 41)
)
# library file -> what the one line says; nothing in it is evaluated and none takes memory
HOSTILE = {
    "classes: {a: \"$__import__('pathlib').Path('made').touch()\"}": "no such source",
    "classes: {a: {_target_: pathlib.Path.touch, self: made}}": "unknown option '_target_'",
    "classes: !!python/object/apply:pathlib.Path.cwd []": "could not determine a constructor for the tag",
    "classes: {a: [{source: fine.mrc, resolution_a: '$1+1'}]}": "resolution_a must be > 0, got '$1+1'",
    BOMB: "holds more than 100000 entries",
    MERGED: "hostile.yaml: line 3: merge keys (<<) are not read: write the options out",
    "classes: {a: {? {<<: {b: 1}} : 1}}": "line 1: merge keys (<<) are not read",
    "classes: {a: " + "[" * 600 + "]" * 600 + "}": "recursion",
    "classes: {a: &a [*a]}": "recursion",
    f"voxel_size: {LONG}\nclasses: {{a: fine.mrc}}": "voxel_size must be",
    f"classes: {{a: {{procedural: background, amplitude: {LONG}}}}}": "amplitude must be a number or a pair",
    "voxel_size: 1.0e-9\nclasses: {a: fine.mrc}": "voxel_size must be 0.2 to 100 Å, got 1e-09",
    "voxel_size: 1.0e+9\nclasses: {a: fine.mrc}": "voxel_size must be 0.2 to 100 Å",
    "box: 100000\nclasses: {a: {procedural: background}}": "box must be a whole number from 1 to 512",
    "classes: {a: {sources: fine.mrc, source_voxel_size: 500}}": "source_voxel_size must be 0.2 to 100 Å, got 500",
    "classes: {a: {sources: fine.mrc, resolution_a: 1.0e+9}}": "resolution_a must be at most the box, 547.2 Å",
    "voxel_size: 0.2\nclasses: {a: {sources: fine.mrc, source_voxel_size: 100}}": "is its voxel size right?",
    "classes: {a: {procedural: [membrane]}}": "procedural must be one of",
    "classes: {a: ~nosuchuser/x.mrc}": "no such source",
    'classes: {a: "x\\0.mrc"}': "no such source",
    "classes: {a: {sources: fine.mrc, source_voxel_size: .nan}}": "source_voxel_size must be > 0, got nan",
}


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_libraries_are_refused_and_nothing_in_them_is_run(folder, monkeypatch, content):
    monkeypatch.chdir(folder)
    (folder / "hostile.yaml").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_templates(folder / "hostile.yaml")
    assert is_refusal(error.value)
    assert HOSTILE[content] in str(error.value)
    assert "\n" not in str(error.value)
    assert not (folder / "made").exists()


@pytest.mark.parametrize("kind", ["bomb", "cut", "folder", "pipe"])
def test_structures_that_are_no_files_or_unpack_without_end_are_refused(tmp_path, kind):
    path = tmp_path / "a.pdb.gz"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        packed = gzip.compress(bytes(80 << 20), 9)
        path.write_bytes(packed if kind == "bomb" else packed[:2000])
    says = {"bomb": "would unpack from", "cut": "end-of-stream", "folder": "a directory", "pipe": "a device"}
    with pytest.raises(ValueError, match=says[kind]) as error:
        read_structure(path)
    assert is_refusal(error.value)


def test_many_keys_of_which_one_stands_there_twice_take_no_time(tmp_path):
    """Counted one by one, they took minutes."""
    keys = [f'"{n}": 1' for n in [*range(200_000), 199_999]]
    (tmp_path / "a.json").write_text(f'{{"classes": {{{", ".join(keys)}}}}}')
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"a\.json: key '199999' stands there twice$"):
        load_templates(tmp_path / "a.json")
    assert time.monotonic() - begun < 10


def test_an_author_s_name_in_latin_1_is_no_hindrance(tmp_path):
    rows = (b"AUTHOR    J. M\xfcller", atom(1, 0), atom(2, 3)[:16] + b"\xe9" + atom(2, 3)[17:])
    (tmp_path / "a.pdb").write_bytes(lines(*rows))
    assert len(read_structure(tmp_path / "a.pdb").weights) == 2


def test_an_assembly_of_chains_that_are_not_there_is_refused(tmp_path):
    rows = ("1.000000  0.000000  0.000000", "0.000000  1.000000  0.000000", "0.000000  0.000000  1.000000")
    biomt = [f"REMARK 350   BIOMT{n}   1  {row}        0.00000" for n, row in enumerate(rows, 1)]
    remarks = ["REMARK 350 BIOMOLECULE: 1", "REMARK 350 APPLY THE FOLLOWING TO CHAINS: X", *biomt]
    (tmp_path / "a.pdb").write_bytes(lines(*(row.encode() for row in remarks), atom(1, 0)))
    with pytest.raises(ValueError, match="assembly 1 cannot be built: no chain X") as error:
        read_structure(tmp_path / "a.pdb", assembly=1)
    assert is_refusal(error.value)
