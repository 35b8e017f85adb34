"""The cases of `make chaos` in their short forms, but for those that take hosts. The tests run one of each kind."""

from types import ModuleType

import pytest

from tests.chaos.pooler import NoPooler
from tests.chaos.running import modules
from tests.lacking import lacking

CASES = {number: case for number, case in modules().items() if not hasattr(case, "FLEET")}
CONTROL = CASES.pop(14)
# Processes killed; a database restarted; exits at each point; corrupt and poisonous pictures; a training killed;
# no room; connections silent; a pooler killed.
TESTED = (1, 4, 5, 7, 8, 11, 12, 20, 21)

pytestmark = pytest.mark.usefixtures("costly")


def marks(number: int) -> list[pytest.MarkDecorator]:
    """Three cases at a time, where tests run in parallel: they mostly wait, but their deadlines are real ones."""
    if number in TESTED:
        return [pytest.mark.xdist_group(f"chaos-{TESTED.index(number) % 3}")]
    return [pytest.mark.proof, pytest.mark.xdist_group(f"chaos-{number % 3}")]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=marks(number)) for number, case in CASES.items()],
    ids=lambda case: case.__name__.rpartition(".")[2],
)
def test_nothing_is_lost_nothing_is_twice(case: ModuleType) -> None:
    try:
        result = case.run(**case.SHORT)
    except NoPooler as missing:
        lacking(str(missing))  # no wheel has it
    assert result.passed, "\n".join(result.problems)


@pytest.mark.proof
def test_the_same_kills_cost_a_naive_task_its_work() -> None:
    result = CONTROL.run(**CONTROL.SHORT)
    assert result.lost, "the faults are too mild"
