"""Every case of `make chaos` that hurts by what is sent, asked for, or has no room, in its short form."""

from types import ModuleType

import pytest

from tests.chaos import (
    case_07_corrupt,
    case_08_poison,
    case_09_clients,
    case_10_cancel,
    case_11_training,
    case_12_full,
)

CASES = [case_07_corrupt, case_08_poison, case_09_clients, case_10_cancel, case_11_training, case_12_full]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.rpartition(".")[2])
def test_nothing_is_lost_nothing_is_twice(case: ModuleType) -> None:
    result = case.run(**case.SHORT)
    assert result.passed, "\n".join(result.problems)
