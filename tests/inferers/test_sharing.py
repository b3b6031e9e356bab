"""Every item goes to exactly one process."""

from __future__ import annotations

import pytest

from monai_cryo.inferers import my_share, process_rank


def slurm(number: int, **more: int) -> dict[str, str]:
    settings = {"ID": number, "COUNT": 3, "MIN": 5, "STEP": 2} | more
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in settings.items()}


@pytest.mark.parametrize(
    "environments",
    [[{}], [{"RANK": str(n), "WORLD_SIZE": "4"} for n in range(4)], [slurm(n) for n in (5, 7, 9)]],
)
def test_all_items_once(environments: list[dict[str, str]]) -> None:
    items = list(range(10))
    parts = [my_share(items, environment) for environment in environments]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_item_is_every_tasks_and_one_processs_of_torchrun() -> None:
    assert [my_share(["a"], slurm(n)) for n in (5, 7, 9)] == [["a"]] * 3
    assert [my_share(["a"], {"RANK": str(n), "WORLD_SIZE": "2"}) for n in range(2)] == [["a"], []]


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"SLURM_ARRAY_TASK_ID": "1"}, slurm(99)],
)
def test_what_cannot_be_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot tell which part of the list"):
        process_rank(environment)
