"""What an experiment trains: arms, as configs of the bundle and options over them, at a scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from monai_cryo._refusals import find_refusal
from monai_cryo.bundle.command import top
from monai_cryo.bundle.overrides import is_constant, references
from monai_cryo.experiment.recipes import read_configs
from monai_cryo.io.atomic import write_text
from monai_cryo.templates.library import TemplateLibrary

__all__ = ["Arm", "Plan", "Run", "Scale", "build_config", "load_library", "read_plan", "write_config"]

_PLAN = Path(__file__).parent / "plan.yaml"


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes
    ----------
    name
        What results call it.
    configs
        Of the bundle, each laid over those before it.
    options
        Id of a value in them -> another value.
    """

    name: str
    configs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """How much is trained and tested.

    Attributes
    ----------
    name
        What it is called.
    configs, options
        As an arm's, laid over every arm's configs.
    samples
        Of each simulated test set.
    """

    name: str
    configs: tuple[str, ...]
    options: Mapping[str, Any]
    samples: int


@dataclass(frozen=True)
class Run:
    """One training: an arm, a seed, and the folder that it fills."""

    arm: Arm
    seed: int
    folder: Path

    @property
    def model(self) -> Path:
        """Its best model."""
        return self.folder / "model.pt"

    @property
    def config(self) -> Path:
        """The whole config that it is trained by, shared by all seeds."""
        return self.folder.parent / "recipe.yaml"


@dataclass(frozen=True)
class Plan:
    """All scales and arms.

    Attributes
    ----------
    scales, arms
        By name; the first arms are those of an experiment without a choice.
    ablation
        Names of the arms of the ablation, the full recipe first.
    """

    scales: Mapping[str, Scale]
    arms: Mapping[str, Arm]
    ablation: tuple[str, ...]

    def runs(self, output: Path, names: Sequence[str] | None, seeds: Sequence[int]) -> list[Run]:
        """List the trainings of an experiment, all arms of a seed before the next seed.

        Parameters
        ----------
        output
            Folder of the experiment.
        names
            Arms, or ``ablation`` for all of these: its full recipe at every seed, the others at the first. None: all
            arms but those.
        seeds
            Integers >= 0.

        Raises
        ------
        ValueError
            On an unknown arm, one named twice, or bad seeds.
        """
        if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
            raise ValueError(f"seeds must be different whole numbers >= 0, got {list(seeds)}")
        once = set(self.ablation[1:])
        asked = [name for name in self.arms if name not in once] if names is None else list(names)
        chosen: dict[str, bool] = {}  # arm -> whether it runs at every seed
        for name in asked:
            if name == "ablation":
                for n, part in enumerate(self.ablation):
                    chosen[part] = n == 0 or chosen.get(part, False)
            elif name in self.arms:
                chosen[name] = True
            else:
                raise ValueError(f"arm must be one of {', '.join(self.arms)} or ablation, got {name!r}")
        folder = output / "runs"
        return [
            Run(self.arms[name], seed, folder / name / f"seed_{seed}")
            for seed in seeds
            for name, every in chosen.items()
            if every or seed == seeds[0]
        ]


def read_plan(path: Path | None = None) -> Plan:
    """Read a plan.

    Parameters
    ----------
    path
        YAML with ``scales``, ``arms`` and ``ablation``; None: the package's own.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no plan.
    """
    path = path or _PLAN
    if not path.is_file():
        raise FileNotFoundError(f"no plan {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        scales = {
            name: Scale(name, tuple(s["configs"]), dict(s["options"]), int(s["samples"]))
            for name, s in content["scales"].items()
        }
        arms = {name: Arm(name, tuple(a["configs"]), dict(a.get("options", {}))) for name, a in content["arms"].items()}
        base = arms[content["ablation"]["base"]]
        parts = {
            name: Arm(name, base.configs, {**base.options, **options})
            for name, options in content["ablation"]["arms"].items()
        }
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is no plan of scales (configs, options, samples), arms (configs, options) and "
            f"ablation (base, arms), found: {type(error).__name__} {' '.join(str(error).split())}"
        ) from error
    return Plan(scales, {**arms, **parts}, (base.name, *parts))


def build_config(arm: Arm, scale: Scale, templates: str | None = None) -> dict[str, Any]:
    """Return the whole config of an arm at a scale.

    Parameters
    ----------
    arm, scale
        What is trained.
    templates
        Library in place of the arm's own; the model is then chosen on its structures as well.

    Raises
    ------
    ValueError
        If an option is of no config, or one of the arm's own is read by nothing.
    """
    parser = read_configs([*arm.configs, *scale.configs])
    library = {} if templates is None else {"templates": templates, "validation_library": "$@split[1]"}
    for name, value in {**scale.options, **library, **arm.options}.items():
        if name not in parser:
            raise ValueError(f"arm {arm.name} sets {name}, which none of its configs has: {', '.join(arm.configs)}")
        parser[name] = value
    read = references(parser.config)
    for name in arm.options:
        if is_constant(parser.config[top(name)]) and top(name) not in read:
            files = ", ".join(arm.configs)
            raise ValueError(f"arm {arm.name} sets {name}, which nothing in its configs reads: {files}")
    return {name: value for name, value in parser.config.items() if name != parser.meta_key}


def load_library(name: str, config: Mapping[str, Any]) -> TemplateLibrary:
    """Load the library of an arm; refuse one that cannot be split as it says, or whose model others would choose.

    Raises
    ------
    ValueError
        If so.
    """
    parser = ConfigParser(dict(config))
    try:
        library: TemplateLibrary = parser.get_parsed_content("library")
        trained = parser.get_parsed_content("split")[0].classes
        judged = parser.get_parsed_content("validation_library").classes
    except RuntimeError as error:  # MONAI wraps what an expression raises
        refusal = find_refusal(error)
        if refusal is None:
            raise
        raise ValueError(f"arm {name}: {refusal}") from error
    if trained != judged:
        raise ValueError(
            f"arm {name} trains on {', '.join(trained)}, but its model would be chosen on {', '.join(judged)}"
        )
    return library


def write_config(run: Run, config: Mapping[str, Any], library: str) -> None:
    """Write the config of a run and the digest of its library, beside its folder, or compare with an earlier command's.

    Raises
    ------
    ValueError
        If the earlier one was another.
    """
    digest = run.config.with_name("library.sha256")
    if run.config.is_file():
        if not digest.is_file() or digest.read_bytes().strip() != library.encode():
            raise ValueError(f"{run.config.parent} was begun with another library of templates: name another --output")
        try:
            found = dict(yaml.safe_load(run.config.read_text(encoding="utf-8")))
        except (yaml.YAMLError, ValueError, TypeError) as error:
            raise ValueError(f"{run.config} is no config that was written here: name another --output") from error
        for name in {**config, **found}:
            if config.get(name) != found.get(name):
                raise ValueError(
                    f"{run.config.parent} was begun with another {name} ({_short(found.get(name))}, now "
                    f"{_short(config.get(name))}): name another --output"
                )
        return
    run.config.parent.mkdir(parents=True, exist_ok=True)
    write_text(digest, library + "\n")
    write_text(run.config, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=120))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
