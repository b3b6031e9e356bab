"""The experiment of the paper's Table I: arms trained alike, judged on common sets; and the simulations it writes."""

from __future__ import annotations

from monai_cryo.experiment.command import run_experiment
from monai_cryo.experiment.figures import draw_figures
from monai_cryo.experiment.plan import Arm, Plan, Run, Scale, build_config, load_library, read_plan, write_config
from monai_cryo.experiment.recipes import RECIPES, Recipe, load_without, read_configs, read_recipe
from monai_cryo.experiment.report import Score, read_scores, write_report
from monai_cryo.experiment.scoring import THRESHOLDS, find_examples, score_model, score_run
from monai_cryo.experiment.sets import REAL_SETS, LabelledSet, find_real_sets, load_set, write_simulated_sets
from monai_cryo.experiment.training import is_trained, train_run

__all__ = [
    "REAL_SETS",
    "RECIPES",
    "THRESHOLDS",
    "Arm",
    "LabelledSet",
    "Plan",
    "Recipe",
    "Run",
    "Scale",
    "Score",
    "build_config",
    "draw_figures",
    "find_examples",
    "find_real_sets",
    "is_trained",
    "load_library",
    "load_set",
    "load_without",
    "read_configs",
    "read_plan",
    "read_recipe",
    "read_scores",
    "run_experiment",
    "score_model",
    "score_run",
    "train_run",
    "write_config",
    "write_report",
    "write_simulated_sets",
]
