"""The cases of `make chaos` that take hosts, in their short forms, several of them on one fleet.

A fleet on hosts takes longer to start than such a case.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import pytest

from tests.chaos.hosts import Hosts
from tests.chaos.network import NoNetwork
from tests.chaos.running import modules
from tests.lacking import lacking

CASES = {number: case for number, case in modules().items() if hasattr(case, "FLEET")}
TESTED = (15, 18, 19)  # a network parted; a database and a broker that fail over

pytestmark = pytest.mark.usefixtures("costly")


@pytest.fixture(scope="module")
def fleet_of() -> Iterator[Callable[[type[Hosts]], Hosts]]:
    """Gives the one fleet of a kind; the one of the kind before ends then."""
    with ExitStack() as running:
        fleets: dict[type[Hosts], Any] = {}

        def fleet_of(kind: type[Hosts]) -> Hosts:
            if kind not in fleets:
                running.close()
                fleets.clear()
                fleets[kind] = running.enter_context(kind())
            fleet: Hosts = fleets[kind]
            return fleet

        yield fleet_of


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if number in TESTED else [pytest.mark.proof]) for number, case in CASES.items()],
    ids=lambda case: case.__name__.rpartition(".")[2],
)
def test_nothing_is_lost_nothing_is_twice(case: ModuleType, fleet_of: Callable[[type[Hosts]], Hosts]) -> None:
    try:
        fleet = fleet_of(case.FLEET)
    except NoNetwork as missing:
        lacking(str(missing))  # a developer need not be root
    result = case.run(**case.SHORT, shared=fleet)
    assert result.passed, "\n".join(result.problems)
