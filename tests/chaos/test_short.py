"""Every case of `make chaos` in its short form, but for those that take hosts."""

from types import ModuleType

import pytest

from tests.chaos.pooler import NoPooler
from tests.chaos.running import modules
from tests.lacking import lacking

CASES = {number: case for number, case in modules().items() if not hasattr(case, "FLEET")}
CONTROL = CASES.pop(14)

pytestmark = pytest.mark.usefixtures("costly")


def lane(number: int) -> pytest.MarkDecorator:
    """Three cases at a time, where tests run in parallel: they mostly wait, but their deadlines are real ones."""
    return pytest.mark.xdist_group(f"chaos-{number % 3}")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=lane(number)) for number, case in CASES.items()],
    ids=lambda case: case.__name__.rpartition(".")[2],
)
def test_nothing_is_lost_nothing_is_twice(case: ModuleType) -> None:
    try:
        result = case.run(**case.SHORT)
    except NoPooler as missing:
        lacking(str(missing))  # no wheel has it
    assert result.passed, "\n".join(result.problems)


def test_the_same_kills_cost_a_naive_task_its_work() -> None:
    result = CONTROL.run(**CONTROL.SHORT)
    assert result.lost, "the faults are too mild"
