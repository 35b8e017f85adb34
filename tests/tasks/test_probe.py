"""A probe goes the way of a lane's work."""

import pytest
from sqlalchemy.exc import OperationalError

from db.engine import connect
from tasks.probe import look
from tests.makers import register
from worker.runtime import Runtime


def test_it_reads_and_embeds_under_the_live_tower(runtime: Runtime) -> None:
    assert look(runtime, with_tower=True)["tower"] is None, "there is none yet"
    register(runtime.transact)
    found = look(runtime, with_tower=True)
    assert found["worker"] == runtime.name
    assert found["database"] > 0
    assert found["tower"] > 0
    assert look(runtime, with_tower=False)["tower"] is None


def test_a_worker_without_its_database_does_not_pass(runtime: Runtime) -> None:
    runtime.engine = connect("postgresql+psycopg://127.0.0.1:1/none")
    with pytest.raises(OperationalError):
        look(runtime, with_tower=False)
