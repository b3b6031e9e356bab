"""The experiment, from beginning to end, and from wherever it was cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai_cryo.experiment.figures import draw_figures
from monai_cryo.experiment.plan import build_config, load_library, read_plan, write_config
from monai_cryo.experiment.report import read_scores, write_report
from monai_cryo.experiment.scoring import score_run
from monai_cryo.experiment.sets import REAL_SETS, find_real_sets, write_simulated_sets
from monai_cryo.experiment.training import is_trained, train_run
from monai_cryo.io.folder import hold_folder

__all__ = ["run_experiment"]


def run_experiment(
    scale: str,
    output: Path,
    *,
    data: Path,
    arms: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    templates: str | None = None,
    plan: Path | None = None,
    say: Callable[[str], Any] = print,
    progress: bool = False,
) -> Path:
    """Train every arm at every seed with an equal budget, and judge all on common test sets.

    What is done already is not done again; ``results.md`` grows with every run.

    Parameters
    ----------
    scale
        Of the plan: quick, cpu or paper.
    output
        Folder of the experiment.
    data
        Folder with ``real/`` and ``simulated/``; what is not in it is left out.
    arms
        Names in the plan, or ``ablation``; None: all but the ablation's.
    seeds
        Of weights and training data.
    templates
        Library in place of the arms' own, for trainings and simulated sets.
    plan
        YAML of scales and arms; None: the package's.
    say
        Called with each line of progress.
    progress
        Show bars.

    Returns
    -------
    Path
        ``results.md``; beside it ``runs.csv``, the figures, ``sets/`` and ``runs/``.

    Raises
    ------
    ValueError
        If something asked for is unknown, or the folder was begun with other settings.
    """
    planned = read_plan(plan)
    if scale not in planned.scales:
        raise ValueError(f"scale must be one of {', '.join(planned.scales)}, got {scale!r}")
    runs = planned.runs(output, arms, seeds)
    configs = {run.arm.name: build_config(run.arm, planned.scales[scale], templates) for run in runs}
    libraries = {name: load_library(name, config) for name, config in configs.items()}
    hold_folder(output)
    for run in runs:
        write_config(run, configs[run.arm.name], libraries[run.arm.name].digest())

    sets = write_simulated_sets(output / "sets", planned.scales[scale].samples, templates, progress=progress)
    others, left_out = find_real_sets(data, [library.classes for library in libraries.values()])
    sets += others
    for line in left_out:
        say(f"left out: {line}")

    for n, run in enumerate(runs):
        say(f"{run.arm.name}, seed {run.seed}: {n + 1} of {len(runs)}")
        if not is_trained(run, configs[run.arm.name]["max_epochs"]):
            train_run(run)
        score_run(run, sets)
        results = write_report(
            output,
            read_scores(output),
            arms=list(planned.arms),
            sets=list(dict.fromkeys(entry.name for entry in (*sets, *REAL_SETS))),
            ablation=planned.ablation,
            left_out=left_out,
        )
    for path in draw_figures(output, libraries[runs[0].arm.name], runs, sets):
        say(str(path))
    say(str(output / "runs.csv"))
    return results
