"""Arms, scales and the ablation: every option is one that the configs have, and every arm can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from scipy import ndimage

from monai_cryo._refusals import is_refusal
from monai_cryo.experiment import Arm, Run, build_config, load_library, read_plan, write_config
from monai_cryo.experiment.recipes import read_configs

PLAN = read_plan()
TOLD = {
    "no_crowding": ("RandNeighboursd", "count", (0, 0)),
    "no_membrane_beside": ("RandNeighboursd", "membrane_prob", 0.0),
    "not_one_sided": ("RandNeighboursd", "one_sided_prob", 0.0),
    "no_density_field": ("RandDensityFieldd", "amplitude", (0.0, 0.0)),
    "no_gold": ("RandStreaksd", "prob", 0.0),
}


def parsed(name: str, scale: str = "cpu") -> ConfigParser:
    return ConfigParser(build_config(PLAN.arms[name], PLAN.scales[scale]))


@pytest.mark.parametrize("name", PLAN.arms)
def test_every_arm_can_be_built(name):
    parser = parsed(name)
    library = parser.get_parsed_content("library")
    assert parser.get_parsed_content("record").build()(torch.zeros(1, 1, 40, 40, 40))["logits"].shape[1] == len(
        library.classes
    )
    assert parser.get_parsed_content("validation_library").classes == library.classes
    assert parser.get_parsed_content("simulation").names
    assert parser.get_parsed_content("validation_batch")


def test_a_model_is_told_how_common_classes_are_by_its_library():
    """But not in an experiment, whose sets hold equally many of all."""

    def told(config):
        return ConfigParser(config).get_parsed_content("record").facts["network"].get("abundance")

    assert told(read_configs(["train", "robust", "quick"]).config) == [1.0, 0.2, 0.2, 0.2, 1.0]
    assert told(read_configs(["train"]).config) is None
    for name in ("paper", "robust", "no_background"):
        assert told(build_config(PLAN.arms[name], PLAN.scales["cpu"])) is None


@pytest.mark.parametrize("scale", PLAN.scales)
def test_all_arms_have_one_budget(scale):
    budget = ("max_epochs", "epoch_length", "batch_size", "features", "fc")
    configs = [build_config(arm, PLAN.scales[scale]) for arm in PLAN.arms.values()]
    assert len({str([config[name] for name in budget]) for config in configs}) == 1


def test_the_papers_scale_is_the_papers():
    config = build_config(PLAN.arms["paper"], PLAN.scales["paper"])
    assert config["max_epochs"] * config["epoch_length"] == 15_000
    assert (config["batch_size"], config["features"]) == (32, [32, 64, 128, 256, 512])


@pytest.mark.parametrize("name", PLAN.ablation[1:])
def test_an_ablation_changes_its_factor_alone(name):
    full = build_config(PLAN.arms[PLAN.ablation[0]], PLAN.scales["cpu"])
    config = build_config(PLAN.arms[name], PLAN.scales["cpu"])
    changed = {key for key in full if full[key] != config[key]}
    own = set(PLAN.arms[name].options) - set(PLAN.arms[PLAN.ablation[0]].options)
    assert changed == {option.split("::")[0] for option in own}


@pytest.mark.parametrize("name", TOLD)
def test_an_ablation_reaches_the_transform(name):
    transform, attribute, value = TOLD[name]
    pipeline = parsed(name).get_parsed_content("simulation")
    member = pipeline.members[pipeline.names.index(transform)].transform
    assert getattr(member, attribute) == value


@pytest.mark.parametrize(("name", "power"), [("robust", (0, 2)), ("tilts_alike", (0, 0))])
def test_tilts_are_weighted(name, power):
    wedge = parsed(name).get_parsed_content("simulation::transforms::5::transforms::1")
    assert wedge.cosine_power == power


@pytest.mark.parametrize(("name", "limits"), [("robust", None), ("noise_limited", (0.04, 0.12))])
def test_noise_follows_what_a_box_holds_or_not(name, limits):
    noise = parsed(name).get_parsed_content("simulation::transforms::5::transforms::0")
    assert noise.signal_power == limits


def test_distractors_and_ribosomes_go():
    parser = parsed("no_distractors")
    library, pipeline = parser.get_parsed_content("library"), parser.get_parsed_content("simulation")
    everything = parsed("robust").get_parsed_content("simulation").members[1].transform.templates
    assert not library.distractors
    assert library.templates["background"][0].strangers == 0
    assert len(pipeline.members[1].transform.templates) == len(everything) - 30
    strangerless = parsed("no_strangers").get_parsed_content("library")
    assert len(strangerless.distractors) == 30
    assert strangerless.templates["background"][0].strangers == 0
    assert [t.name for t in parsed("one_ribosome").get_parsed_content("split")[0].templates["ribosome"]] == ["6qzp"]


def test_the_gaussian_is_one():
    """A low-pass of two voxels' standard deviation, then mean 0 and variance 1."""
    volume = torch.randn(1, 20, 20, 20, generator=torch.Generator().manual_seed(0))
    smooth = ndimage.gaussian_filter(volume[0].numpy(), 2.0, mode="wrap", truncate=8.0)
    expected = (smooth - smooth.mean()) / smooth.std()
    found = parsed("gaussian").get_parsed_content("normalize")(volume)
    assert torch.allclose(found[0], torch.as_tensor(expected), atol=0.01)


def test_runs_take_seeds_in_turn(tmp_path):
    runs = PLAN.runs(tmp_path, None, (0, 1))
    assert [(run.arm.name, run.seed) for run in runs] == [
        (name, seed) for seed in (0, 1) for name in ("fixed_parameters", "paper", "robust")
    ]
    assert runs[0].folder == tmp_path / "runs" / "fixed_parameters" / "seed_0"


def test_the_ablation_runs_once_beside_every_seed_of_its_base(tmp_path):
    runs = PLAN.runs(tmp_path, ["ablation"], (3, 4))
    assert [run.arm.name for run in runs if run.seed == 4] == ["robust"]
    assert [run.arm.name for run in runs if run.seed == 3] == list(PLAN.ablation)


@pytest.mark.parametrize(
    ("names", "seeds", "message"),
    [
        (["tree"], (0,), "arm must be one of"),
        (None, (), "seeds must be"),
        (None, (1, 1), "seeds must be"),
        (None, (-1,), "seeds must be"),
    ],
)
def test_what_cannot_run_is_refused(tmp_path, names, seeds, message):
    with pytest.raises(ValueError, match=message):
        PLAN.runs(tmp_path, names, seeds)


def test_an_option_that_no_config_has_is_refused():
    arm = Arm("odd", ("train",), {"neighbors": 0})
    with pytest.raises(ValueError, match="arm odd sets neighbors, which none of its configs has: train"):
        build_config(arm, PLAN.scales["quick"])


@pytest.mark.parametrize("option", [{"snr_region": "mask"}, {"missing_angle_deg": [0, 0]}, {"standardize": "batch"}])
def test_an_option_that_nothing_reads_is_refused(option):
    """Its arm would train as its base does, and the difference be taken for an effect."""
    build_config(Arm("paper", ("train",), option), PLAN.scales["quick"])
    with pytest.raises(ValueError, match=r"arm odd sets .*, which nothing in its configs reads: train, robust"):
        build_config(Arm("odd", ("train", "robust"), option), PLAN.scales["quick"])


def test_other_templates_choose_their_own_model():
    config = build_config(PLAN.arms["robust"], PLAN.scales["quick"], "mine.yaml")
    assert (config["templates"], config["validation_library"]) == ("mine.yaml", "$@split[1]")


def test_a_run_begun_otherwise_is_refused(tmp_path):
    run = Run(PLAN.arms["paper"], 0, tmp_path / "paper" / "seed_0")
    config = build_config(run.arm, PLAN.scales["quick"])
    write_config(run, config, "abc")
    write_config(run, build_config(run.arm, PLAN.scales["quick"]), "abc")
    assert yaml.safe_load(run.config.read_text()) == config
    with pytest.raises(ValueError, match=r"begun with another \w+ \(\d+, now \d+\): name another --output"):
        write_config(run, build_config(run.arm, PLAN.scales["cpu"]), "abc")
    with pytest.raises(ValueError, match="begun with another library of templates: name another --output"):
        write_config(run, config, "abd")


@pytest.mark.parametrize("content", [b"\xff", b"{", b"text", b""])
def test_a_damaged_config_of_a_run_is_refused(tmp_path, content):
    run = Run(PLAN.arms["paper"], 0, tmp_path / "paper" / "seed_0")
    config = build_config(run.arm, PLAN.scales["quick"])
    write_config(run, config, "abc")
    run.config.write_bytes(content)
    with pytest.raises(ValueError, match=r"recipe\.yaml is no config that was written here: name another") as error:
        write_config(run, config, "abc")
    assert is_refusal(error.value)
    run.config.with_name("library.sha256").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="begun with another library of templates"):
        write_config(run, config, "abc")


def test_arms_that_cannot_be_trained_on_a_library_are_refused_first(tmp_path):
    (tmp_path / "mine.yaml").write_text("classes: {a: {procedural: membrane}, background: {procedural: background}}")
    for name in ("robust", "one_ribosome", "no_background"):
        config = build_config(PLAN.arms[name], PLAN.scales["quick"])
        library = load_library(name, config)
        assert ("background" in library.classes) == (name != "no_background")
    config = build_config(PLAN.arms["one_ribosome"], PLAN.scales["quick"], str(tmp_path / "mine.yaml"))
    with pytest.raises(ValueError, match="arm one_ribosome: unknown structure"):
        load_library("one_ribosome", config)
    config = build_config(PLAN.arms["no_background"], PLAN.scales["quick"], str(tmp_path / "mine.yaml"))
    with pytest.raises(ValueError, match="arm no_background trains on a, but its model would be chosen on ribosome"):
        load_library("no_background", config)


@pytest.mark.parametrize("text", ["", "scales: 3", "a: [", "scales: {}\narms: {}\nablation: {base: robust, arms: {}}"])
def test_a_file_that_is_no_plan_is_refused(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no plan of scales"):
        read_plan(path)
    with pytest.raises(FileNotFoundError, match="no plan"):
        read_plan(Path(tmp_path / "none.yaml"))
