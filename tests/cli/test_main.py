from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib import image as picture

from monai_cryo import __version__
from monai_cryo.cli import main
from monai_cryo.io.mrc import read_mrc, write_mrc


@pytest.fixture
def library(tmp_path):
    axis = np.arange(15) - 7
    ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= 25).astype(np.float32)
    write_mrc(tmp_path / "ball.mrc", ball, 13.68)
    path = tmp_path / "lib.yaml"
    path.write_text("box: 24\nclasses: {ball: ball.mrc, sheet: {procedural: membrane}}\n")
    return path


def refusal(capsys, argv, code=1):
    if code == 2:
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
    else:
        assert main(argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("monai_cryo: error: ")
    assert err.count("\n") == 1
    return err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from monai_cryo.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: code = stop.code\n"
        "sys.exit(code or len({'torch', 'monai', 'numpy', 'matplotlib', 'yaml'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "templates" in run.stdout


def test_version_and_module():
    run = subprocess.run([sys.executable, "-m", "monai_cryo", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"monai_cryo {__version__}"


def test_list_embedded(capsys):
    assert main(["templates", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 classes, voxel size 13.68 Å, box 40"
    assert [line.split()[:2] for line in lines[2:]] == [
        ["0", "ribosome"],
        ["1", "proteasome"],
        ["2", "tric"],
        ["3", "membrane"],
    ]
    assert "28.7 x 30.1 x 28.7" in lines[2]


def test_distractors_are_listed_and_shown(capsys, library, tmp_path):
    library.write_text("box: 24\nclasses: {ball: ball.mrc}\ndistractors: [{source: ball.mrc, name: other}]")
    assert main(["templates", "list", str(library)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:3] == ["-", "distractor", "other"]
    heights = []
    for content in ("box: 24\nclasses: {ball: ball.mrc}", library.read_text()):
        library.write_text(content)
        assert main(["templates", "show", str(library), "--output", str(tmp_path / "picture.png")]) == 0
        heights.append(picture.imread(tmp_path / "picture.png").shape[0])
    assert heights[1] > 1.8 * heights[0]


def test_list_another_grid(capsys, library):
    assert main(["templates", "list", str(library), "--voxel_size", "10", "--box", "32"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 classes, voxel size 10 Å, box 32")
    assert "ball" in out


def test_show(capsys, library, tmp_path):
    target = tmp_path / "picture.png"
    assert main(["templates", "show", str(library), "--output", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    pixels = picture.imread(target)[..., :3]
    assert pixels.shape[0] > 500
    orange = np.abs(pixels - np.array([1.0, 0.498, 0.055])).max(-1) < 0.05
    assert orange[: len(orange) // 2].sum() > 200  # the ball's masks
    assert orange[len(orange) // 2 :].sum() > 200  # the membrane's
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ball.mrc", "lib.yaml", "picture.png"]


def test_embedded_libraries_can_be_built_by_name(capsys, tmp_path):
    assert main(["templates", "build", "unseen", "--output", str(tmp_path / "out"), "--voxel_size", "27.36"]) == 0
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert {"4v5d", "4v8r"} < set(provenance["structures"])


def test_build_and_use(capsys, library, tmp_path):
    out = tmp_path / "out"
    assert main(["templates", "build", str(library), "--output", str(out), "--voxel_size", "20"]) == 0
    file = out / "templates.yaml"
    assert capsys.readouterr().out.strip() == str(file)
    array, voxel_size, _ = read_mrc(out / "ball.mrc")
    assert (array.dtype, voxel_size) == (np.float16, (20.0,) * 3)
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["structures"]["ball"]["source"] == "ball.mrc"
    assert provenance["voxel_size"] == 20
    assert main(["templates", "list", str(file)]) == 0
    assert "voxel size 20 Å, box 24" in capsys.readouterr().out


def test_build_does_not_overwrite_its_sources(capsys, library):
    before = (library.parent / "ball.mrc").read_bytes()
    assert "is the folder of" in refusal(capsys, ["templates", "build", str(library), "--output", str(library.parent)])
    assert (library.parent / "ball.mrc").read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: VERB (see monai_cryo --help)"),
        (["fly"], "invalid choice: 'fly'"),
        (["templates"], "ACTION (see monai_cryo templates --help)"),
        (["templates", "list", "--box", "0"], "argument --box: must be > 0, got 0"),
        (["templates", "list", "--box", "x"], "invalid int value: 'x'"),
        (["templates", "list", "--voxel_size", "nan"], "must be > 0, got nan"),
        (["templates", "list", "--boxx", "3"], "unrecognized arguments: --boxx (see monai_cryo templates --help)"),
        (["templates", "build", "x.yaml"], "required: --output"),
        (["templates", "fetch"], "required: ID"),
        (["simulate", "--number", "4", "--output", ""], "argument --output: must name a file or folder, got ''"),
        (["simulate", "--number", "4", "--output", "x", "--seed", "1" + "0" * 20], "must be 0 to 2^32 - 1, got 1000"),
        (["simulate", "--number", "4", "--output", "x", "--seed", "-1"], "must be 0 to 2^32 - 1, got -1"),
        (["simulate", "--number", "1" + "0" * 20, "--output", "x"], "must be 1 to 2^32 - 1, got 1000"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(capsys, argv, message):
    assert message in refusal(capsys, argv, code=2)


def test_failures_are_one_line_and_code_1(capsys, library, tmp_path, monkeypatch):
    monkeypatch.setenv("MONAI_CRYO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    assert "no such template library" in refusal(capsys, ["templates", "list", "nowhere.yaml"])
    assert "needs a box of 11 voxels" in refusal(capsys, ["templates", "list", str(library), "--box", "8"])
    assert "ending in .png" in refusal(capsys, ["templates", "show", str(library), "--output", "x.pdf"])
    assert "no such folder" in refusal(capsys, ["templates", "show", str(library), "--output", "/nowhere/x.png"])
    assert "an archive entry is" in refusal(capsys, ["templates", "fetch", "4v5d"])
    assert "offline?" in refusal(capsys, ["templates", "fetch", "pdb:4v5d", "--base_url", "http://127.0.0.1:1"])
    assert "ending in .png" in refusal(capsys, ["gallery", "--output", "pictures"])
    (tmp_path / "file").write_text("")
    for verb in (
        ["classify", "x.mrc"],
        ["segment", "x.mrc"],
        ["simulate", "--number", "8"],
        ["templates", "build", "x"],
    ):
        said = refusal(capsys, [*verb, "--output", str(tmp_path / "file")])
        assert f"{tmp_path / 'file'} cannot be the output folder: {tmp_path / 'file'} is a file" in said
    monkeypatch.setenv("MONAI_CRYO_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError, match="no such template library"):
        main(["templates", "list", "nowhere.yaml"])
    monkeypatch.delenv("MONAI_CRYO_TRACEBACK")
    (tmp_path / "lib.yaml").write_text("classes: {a: [\n")
    assert "lib.yaml" in refusal(capsys, ["templates", "list", str(tmp_path / "lib.yaml")])


def test_warnings_are_one_line(capsys, library):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["templates", "list", str(library), "--box", "11"]) == 0
    err = capsys.readouterr().err
    library.write_text("classes: {ball: ball.mrc}")
    write_mrc(library.parent / "ball.mrc", read_mrc(library.parent / "ball.mrc")[0], 1.0, overwrite=True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        main(["templates", "list", str(library), "--voxel_size", "2"])
    err += capsys.readouterr().err
    assert "monai_cryo: warning: " in err
    assert "voxel size 1.0" in err
    assert all(line.startswith("monai_cryo: ") for line in err.splitlines())


def test_a_closed_pipe_is_no_error():
    run = subprocess.run(
        f"{sys.executable} -m monai_cryo templates list | true",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert run.stderr == ""
