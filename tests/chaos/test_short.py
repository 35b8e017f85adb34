"""Cases 1 to 6, 13 and 14 of `make chaos` in their short forms."""

from typing import Any

import pytest

from tests.chaos import (
    case_01_kills,
    case_02_frozen,
    case_03_broker,
    case_04_database,
    case_05_points,
    case_06_duplicates,
    case_13_clocks,
    case_14_control,
)

OURS = [
    case_01_kills,
    case_02_frozen,
    case_03_broker,
    case_04_database,
    case_05_points,
    case_06_duplicates,
    case_13_clocks,
]


@pytest.mark.parametrize("case", OURS, ids=lambda case: case.__name__.rpartition(".")[2])
def test_nothing_is_lost_nothing_is_twice(case: Any) -> None:
    result = case.run(**case.SHORT)
    assert result.passed, "\n".join(result.problems)


def test_the_same_kills_cost_a_naive_task_its_work() -> None:
    result = case_14_control.run(**case_14_control.SHORT)
    assert result.lost, "the faults are too mild"
