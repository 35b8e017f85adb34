"""What a worker refuses, the client raises as its own; what it cannot name, as a stranger."""

import uuid
from typing import Any

import pytest
from sqlalchemy import text

import twinvec_client as client
from db import errors
from db.engine import connect, transact
from db.queue.failures import FailedItem
from tasks.answering import InvalidRequest, answering
from tasks.jobs import failures_of, receipts_of
from tests.makers import Ledger, item, send
from training.errors import PictureError
from twinvec_client.contract.messages import BadMessage, FailuresOf, Receipts, StatusOf
from twinvec_client.errors import revive
from worker.runtime import Runtime
from worker.settings import Settings


def refused_with(error: Exception) -> client.TwinvecError:
    """What a caller gets where a worker raises `error`."""

    @answering
    def work() -> dict[str, Any]:
        raise error

    answer = work()
    return revive(answer["error"], answer["message"])


@pytest.mark.parametrize(
    ("raised", "revived"),
    [
        (errors.NoTower("none"), client.NoTower),
        (errors.NotEmbedded("due"), client.NotEmbedded),
        (errors.TrainingRunning("7"), client.TrainingRunning),
        (errors.UnknownJob("7"), client.UnknownJob),
        (errors.UnknownKey("a"), client.UnknownKey),
        (PictureError("damaged", "half a file"), client.PictureRefused),
        (InvalidRequest("k is 0"), client.InvalidRequest),
        (BadMessage("unknown field"), client.InvalidRequest),
        (ZeroDivisionError("oh"), client.WorkerError),
        (errors.LedgerError("?"), client.WorkerError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_refusal_comes_back_as_its_own_class(raised: Exception, revived: type[Exception]) -> None:
    error = refused_with(raised)
    assert type(error) is revived
    assert str(raised) in str(error)


def test_a_refused_picture_names_its_reason_code() -> None:
    assert str(refused_with(PictureError("damaged", "half a file"))).startswith("damaged: ")


def test_a_database_that_is_down_is_said_in_one_line(database_url: str) -> None:
    engine = connect(database_url.replace("port=5432", "port=5999"))

    @answering
    def work() -> dict[str, Any]:
        return transact(engine, lambda session: session.execute(text("SELECT 1")).scalar_one())

    answer = work()
    assert type(revive(answer["error"], answer["message"])) is client.DatabaseUnavailable
    assert "\n" not in answer["message"]
    assert "SELECT" not in answer["message"]


def test_an_error_of_the_database_carries_no_statement(ledger: Ledger) -> None:
    @answering
    def work() -> dict[str, Any]:
        found: dict[str, Any] = ledger(lambda session: session.execute(text("SELECT secret FROM nowhere")).scalar_one())
        return found

    answer = work()
    assert type(revive(answer["error"], answer["message"])) is client.WorkerError
    assert "secret" not in answer["message"]


def test_a_worker_without_a_database_says_how_to_get_one(tmp_path: Any) -> None:
    @answering
    def work() -> dict[str, Any]:
        Runtime(Settings(home=tmp_path, database_url=None))
        return {}

    answer = work()
    assert answer["error"] == "DatabaseUnavailable"
    assert "TWINVEC_DATABASE_URL" in answer["message"]


@pytest.mark.parametrize("text", ["", "7", "no-id", "nul\0", None, 7, b"x", ["a"], str(uuid.UUID(int=7)) + "\n"])
def test_a_request_for_what_is_not_a_job_id_is_refused(text: Any) -> None:
    with pytest.raises(BadMessage, match="job"):
        StatusOf.read({"job": text})


def test_receipts_of_a_job_nobody_sent_are_empty(runtime: Runtime) -> None:
    answer = receipts_of(Receipts(job=str(uuid.uuid4()), after=-1), runtime)
    assert (answer["accepted"], answer["backlog"]) == ([], 0)


def test_failures_come_page_by_page_without_their_pictures(runtime: Runtime) -> None:
    job = uuid.uuid4()
    failed = [FailedItem(f"key {at:02}", "damaged", "half", b"bytes") for at in range(7)]
    send(runtime.transact, item("a", 1), job=job, failures=failed)
    after, found = "", []
    while page := failures_of(FailuresOf(job=str(job), after=after, limit=3, pictures=False), runtime)["failures"]:
        assert len(page) <= 3
        found += page
        after = page[-1]["key"]
    assert [failure["key"] for failure in found] == [f"key {at:02}" for at in range(7)]
    assert all(failure["picture"] is None for failure in found)


def test_failures_of_an_unknown_job_are_refused(runtime: Runtime) -> None:
    with pytest.raises(errors.UnknownJob):
        failures_of(FailuresOf(job=str(uuid.uuid4()), after="", limit=3, pictures=False), runtime)
