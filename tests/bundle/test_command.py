"""The command line of a bundle run: refused early, read as YAML users write, kept beside the results."""

from __future__ import annotations

import json
import sys

import fire
import pytest
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle import run as run_bundle

from monai_cryo.bundle import check_overrides, find_provenance, save_config, start


def argv(root, *options):
    files = [str(root / "configs" / f"{n}.yaml") for n in ("train", "quick")]
    return ["/x/monai/bundle/__main__.py", "run", "training", "--config_file", str(files), *options]


@pytest.mark.parametrize(
    "options", [(), ("--max_epochs", "3"), ("--train#trainer#max_epochs=3",), ("--bundle_root", "x")]
)
def test_known_options_pass(bundle_root, options):
    check_overrides(argv(bundle_root, *options))


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--max_epoch", "did you mean --max_epochs?"),
        ("--trian#trainer", "did you mean --train?"),
        ("--zzz=1", "known: "),
    ],
)
def test_unknown_options_are_refused_with_the_nearest(bundle_root, option, hint):
    with pytest.raises(ValueError, match="unknown option") as error:
        check_overrides(argv(bundle_root, option, "1"))
    assert hint in str(error.value)


def test_forgotten_dashes_are_refused(bundle_root):
    with pytest.raises(ValueError, match="unexpected 'snr' on the command line: options begin with --"):
        check_overrides(argv(bundle_root, "--max_epochs", "3", "snr", "1"))


def test_a_mistyped_run_is_refused_and_names_may_hold_commas(bundle_root, tmp_path):
    file = tmp_path / "a, b.yaml"
    file.write_bytes((bundle_root / "configs" / "train.yaml").read_bytes())
    for files in (str(file), str([str(file)])):
        with pytest.raises(ValueError, match="nothing to run is called 'trainng': did you mean training"):
            check_overrides(["monai.bundle", "run", "trainng", "--config_file", files])
        check_overrides(["monai.bundle", "run", "training", "--config_file", files])


def test_other_programs_are_left_alone():
    check_overrides(["pytest", "--anything"])
    check_overrides(["monai/bundle/__main__.py", "ckpt_export", "network_def", "--filepath", "x"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("batch", "batch"),
        ("0.5", 0.5),
        ("[null,2]", [None, 2]),
        ("{after: null}", {"after": None}),
        (None, True),  # the option alone
    ],
)
@pytest.mark.parametrize("name", ["option", "part#inner"])
@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")  # says MONAI of every config
def test_words_mean_what_yaml_means(tmp_path, monkeypatch, name, text, value):
    """Also None, which `monai.bundle` leaves out, and places within."""
    file = tmp_path / "c.yaml"
    file.write_text(
        "imports: [$import monai_cryo.bundle as bundle]\noption: null\npart: {inner: null}\n"
        'read: ["@option", "@part#inner"]\ninitialize: [$bundle.start()]\nrun: ["@read"]\n'
    )
    command = ["monai.bundle", "run", "--config_file", str(file), f"--{name}", *([] if text is None else [text])]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # start() sets it
    with monkeypatch.context() as quiet:
        quiet.chdir(tmp_path)
        ran = []
        quiet.setattr(ConfigWorkflow, "finalize", lambda flow: ran.append(flow.parser.get_parsed_content("read")))
        fire.Fire(component={"run": run_bundle}, command=command[1:])
    assert ran == [[value, None] if name == "option" else [None, value]]


class Writer:
    def __init__(self):
        self.texts, self.summaries = {}, []
        self.file_writer = self

    def add_text(self, tag, text):
        self.texts[tag] = text

    def add_summary(self, summary):
        self.summaries.append(str(summary))


def test_the_config_that_ran_is_kept_and_runs_again(bundle_root, tmp_path):
    writer = Writer()
    command = argv(bundle_root, "--snr", "[0.1,2]", "--train#trainer#max_epochs=7", "--norm", "None", "--box", "32")
    provenance = find_provenance(0, "cpu")
    save_config(str(tmp_path / "out"), provenance, writer, command)
    text = (tmp_path / "out" / "config.yaml").read_text()
    assert "# python -m monai.bundle run training --config_file" in text.splitlines()[0]
    facts = json.loads(text.splitlines()[1].removeprefix("# "))
    assert facts == {name: value for name, value in provenance.items() if name != "config"}
    config = yaml.safe_load(text)
    assert config["snr"] == [0.1, 2]
    assert config["train"]["trainer"]["max_epochs"] == 7
    assert config["norm"] is None
    merged = ConfigParser.load_config_files(argv(bundle_root)[4].strip("[]").replace("'", "").split(", "))
    untouched = set(merged) - {"snr", "train", "box", "norm"}
    assert set(config) == set(merged)
    assert {k: config[k] for k in untouched} == {k: merged[k] for k in untouched}
    assert "snr:" in writer.texts["config"]
    assert "--box 32" in writer.texts["command"]
    assert all(f'"{name}"' in writer.texts["provenance"] for name in facts)
    for word in ("epoch_length", "learning_rate", "validation/mean_iou", "versions/torch", "threads", "device"):
        assert any(word in summary for summary in writer.summaries)


def test_nothing_is_kept_of_other_programs(tmp_path):
    save_config(str(tmp_path), find_provenance(0, "cpu"), argv=["pytest", "--anything"])
    assert not list(tmp_path.iterdir())


def test_an_args_file_is_refused_rather_than_left_unread(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # start() sets it
    for part in (["--args_file", "a.json"], ["--args_file=a.json"]):
        with pytest.raises(ValueError, match="args_file is not read here: put its options into a config"):
            start(["monai.bundle", "run", "training", *part])
