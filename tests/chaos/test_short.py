"""Every case of `make chaos` in its short form."""

from types import ModuleType

import pytest

from tests.chaos.running import modules

CASES = modules()
CONTROL = CASES.pop(14)

pytestmark = pytest.mark.usefixtures("costly")


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.__name__.rpartition(".")[2])
def test_nothing_is_lost_nothing_is_twice(case: ModuleType) -> None:
    result = case.run(**case.SHORT)
    assert result.passed, "\n".join(result.problems)


def test_the_same_kills_cost_a_naive_task_its_work() -> None:
    result = CONTROL.run(**CONTROL.SHORT)
    assert result.lost, "the faults are too mild"
