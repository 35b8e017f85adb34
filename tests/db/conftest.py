"""A ledger with a tower."""

import pytest

from tests.makers import Ledger, register


@pytest.fixture
def tower(ledger: Ledger) -> int:
    """A live tower."""
    return register(ledger)
