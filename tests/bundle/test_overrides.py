"""Options that nothing reads, words that cannot be meant, places that are not there: refused before anything runs."""

from __future__ import annotations

import re

import pytest

from monai_cryo.bundle import check_overrides


def argv(root, *options, files=("train", "quick")):
    names = [str(root / "configs" / f"{n}.yaml") for n in files]
    return ["/x/monai/bundle/__main__.py", "run", "run", "--config_file", str(names), *options]


@pytest.mark.parametrize(
    ("options", "files"),
    [
        (("--snr", "[0.1,1]", "--lr_scheduler", "null"), ("train", "quick")),
        (("--train#trainer#amp", "false"), ("train",)),
        (("--simulation#transforms#0#shift_vox", "[-1,1]"), ("train",)),
        (("--dataset_dir", "x", "--bundle_root", "y"), ("train",)),
        (("--neighbours", "[0,2]", "--noise_lowpass", "null", "--shift_vox", "[-1,1]"), ("train", "robust", "quick")),
        (("--skip_unknown", "TRUE"), ("evaluate",)),
        (("--hold_out", "['6qzp']", "--templates", "x.yaml", "--ema", "null"), ("train", "quick")),
        (("--norm", "null", "--templates", "null", "--box", "null"), ("train", "robust", "quick")),
        (("--voxel_size", "$10 * 2", "--optimizer#lr", "$@learning_rate", "--pretrained", "5"), ("train",)),
        (("--file_voxel_size", "13.68", "--diameters_a", "{ribosome: 250}", "--formats", "csv,warp"), ("tomogram",)),
    ],
)
def test_what_is_read_passes(bundle_root, options, files):
    check_overrides(argv(bundle_root, *options, files=files))


@pytest.mark.parametrize("name", ["missing_angle_deg", "intensity_contrast", "standardize", "snr_region"])
def test_constants_that_nothing_reads(bundle_root, name):
    check_overrides(argv(bundle_root, f"--{name}", "1"))
    with pytest.raises(ValueError, match=rf"--{name} has no effect: nothing in .*robust\.yaml.* reads it"):
        check_overrides(argv(bundle_root, f"--{name}", "1", files=("train", "robust", "quick")))


@pytest.mark.parametrize("name", ["fixed_parameters", "own"])
def test_a_file_laid_over_sets_what_is_read_even_if_it_is_there(bundle_root, tmp_path, name):
    """robust.yaml reads two ends of a tilt range, not the angle that train.yaml has."""
    own = bundle_root / "configs" / f"{name}.yaml"
    if name == "own":
        own = tmp_path / "own.yaml"
        own.write_text("missing_angle_deg: 20\n")
    files = [str(bundle_root / "configs" / f"{n}.yaml") for n in ("train", "robust")]
    check_overrides(["monai.bundle", "run", "training", "--config_file", str([files[0], str(own)])])
    with pytest.raises(ValueError, match=f"{name}.yaml: nothing reads "):
        check_overrides(["monai.bundle", "run", "training", "--config_file", str([*files, str(own)])])


@pytest.mark.parametrize("program", ["monai.bundle", "/x/site-packages/monai/bundle/__main__.py", "my_bundles/exp.py"])
def test_whose_command_line_it_is(bundle_root, program):
    """MONAI's two ways to run a bundle are read alike; a program of one's own has options of its own."""
    files = str([str(bundle_root / "configs" / "train.yaml")])
    for call in (["run", "training"], ["run_workflow", "--run_id", "training"]):
        command = [program, *call, "--config_file", files, "--batchsize", "3"]
        if program.startswith("my"):
            check_overrides(command)
        else:
            with pytest.raises(ValueError, match="unknown option --batchsize: did you mean --batch_size"):
                check_overrides(command)


@pytest.mark.parametrize(
    ("content", "says"),
    [("max_epoch: 1", "nothing reads max_epoch: did you mean max_epochs?"), ("zzz: [1, 2]", "nothing reads zzz")],
)
def test_constants_of_a_file_laid_over_that_nothing_reads(bundle_root, tmp_path, content, says):
    own, train = tmp_path / "own.yaml", f"{bundle_root}/configs/train.yaml"
    command = ["monai.bundle", "run", "training", "--config_file", f"['{train}','{own}']"]
    own.write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{own}: {says}")):
        check_overrides(command)
    # what is there, what the file itself reads, and what is no constant
    own.write_text("max_epochs: 1\nhalf: 2\nepoch_length: $@half * 2\nfinal: $print(1)\n")
    check_overrides(command)


@pytest.mark.parametrize(
    ("options", "files", "message"),
    [
        (("--skip_unknown", "no"), ("evaluate",), "--skip_unknown must be true or false, got 'no'"),
        (("--save_masks", "maybe"), ("inference",), "--save_masks must be true or false, got 'maybe'"),
        (("--max_epochs", "0"), ("train",), "--max_epochs must be a whole number >= 1, got '0'"),
        (("--batch_size", "abc"), ("train",), "--batch_size must be a whole number >= 1, got 'abc'"),
        (("--seed", "x"), ("train",), "--seed must be a whole number >= 0, got 'x'"),
        (("--num_workers", "-1"), ("evaluate",), "--num_workers must be a whole number >= 0, got '-1'"),
        (
            ("--train#dataloader#num_workers", "2", "--validate#dataset#balanced", "no"),
            ("train",),
            "true or false, got 'no'",
        ),
        (("--optimizer#lr", "abc"), ("train",), "--optimizer#lr must be a number, as 0.005 in the config is, got"),
        (("--file_voxel_size", "13.68A"), ("tomogram",), "--file_voxel_size must be a number or null, got '13.68A'"),
        (("--ema", "true"), ("train",), "--ema must be a number or null, got 'true'"),
        (("--output_dir", "null"), ("train",), "--output_dir must be text, as 'runs/training' in the config is"),
        (("--formats", "null"), ("tomogram",), "--formats must be a name or a list of names, got 'null'"),
        (("--diameters_a", "5"), ("tomogram",), "--diameters_a must be names with values, such as '{a: 1}', got '5'"),
        (("--ckpt", "null"), ("evaluate",), "--ckpt must be a model file, got 'null'"),
        (("--loss#weigth", "0.2"), ("train",), "TwoBranchLoss has no 'weigth': did you mean weight?"),
        (("--optimizer#foo", "1"), ("train",), "torch.optim.SGD has no 'foo'; known: params, lr, momentum,"),
        (("--train#epochs", "3"), ("train",), "unknown option --train#epochs: train has no 'epochs'"),
        (("--train#trianer#max_epochs", "3"), ("train",), "did you mean trainer?"),
    ],
)
def test_what_cannot_be_meant(bundle_root, options, files, message):
    with pytest.raises(ValueError, match="--") as error:
        check_overrides(argv(bundle_root, *options, files=files))
    assert message in str(error.value)
