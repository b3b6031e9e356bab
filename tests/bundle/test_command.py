"""The command line of a bundle run: refused early, read as YAML users write, kept beside the results."""

from __future__ import annotations

import pytest
import yaml
from monai.bundle import ConfigParser

from monai_cryo.bundle import check_overrides, plain, save_config


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


def test_other_programs_are_left_alone():
    check_overrides(["pytest", "--anything"])
    check_overrides(["monai/bundle/__main__.py", "ckpt_export", "network_def", "--filepath", "x"])


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("null", None), ("None", None), ("batch", "batch"), (0.5, 0.5), (False, False)],
)
def test_words_mean_what_yaml_means(text, value):
    assert plain(text) is value or plain(text) == value
    assert type(plain(text)) is type(value)


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
    save_config(str(tmp_path / "out"), writer, command)
    text = (tmp_path / "out" / "config.yaml").read_text()
    assert "# python -m monai.bundle run training --config_file" in text.splitlines()[0]
    assert "torch" in text.splitlines()[1]
    config = yaml.safe_load(text)
    assert config["snr"] == [0.1, 2]
    assert config["train"]["trainer"]["max_epochs"] == 7
    assert config["norm"] == "batch"  # of quick.yaml; None leaves an option alone, as in monai.bundle
    merged = ConfigParser.load_config_files(argv(bundle_root)[4].strip("[]").replace("'", "").split(", "))
    untouched = set(merged) - {"snr", "train", "box"}
    assert set(config) == set(merged)
    assert {k: config[k] for k in untouched} == {k: merged[k] for k in untouched}
    assert "snr:" in writer.texts["config"]
    assert "--box 32" in writer.texts["command"]
    for word in ("epoch_length", "learning_rate", "validation/mean_iou"):
        assert any(word in summary for summary in writer.summaries)


def test_nothing_is_kept_of_other_programs(tmp_path):
    save_config(str(tmp_path), argv=["pytest", "--anything"])
    assert not list(tmp_path.iterdir())
