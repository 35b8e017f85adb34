"""Dead batches and failed pictures in an operator's hands: listed, tried again, and refused where there is none."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.orm import Session

from db.engine import transact
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import judge
from tests.chaos.pictures import noise
from tests.makers import MAX_ATTEMPTS, bury, item, send
from tests.stack.conftest import Stack, make_stack

CREW = {"front": "control,express,intake", "embedder": "embed,backfill", "beat": ""}


@pytest.fixture(scope="module")
def fleet(costly: None) -> Iterator[Fleet]:
    with Fleet(CREW) as fleet:
        yield fleet


@pytest.fixture
def operator(fleet: Fleet) -> Stack:
    """Runs `twinvec` against the fleet."""
    return make_stack(fleet.home, TWINVEC_BROKER_URL=fleet.broker.url)


def dead_batch(fleet: Fleet, key: str) -> int:
    """A batch of one digit that is dead before it is published."""

    def work(session: Session) -> int | None:
        def ledger(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return step(session, *args, **kwargs)

        batch = send(ledger, item(key, 1), collection=key)
        bury(ledger, batch)
        return batch

    return transact(fleet.engine, work) or 0


def test_a_dead_batch_is_listed_queued_again_and_embedded(fleet: Fleet, operator: Stack) -> None:
    batch = dead_batch(fleet, "dead")
    (listed,) = json.loads(operator.command("dead", "--json").stdout)
    assert (listed["id"], listed["digits"], listed["kind"]) == (batch, 1, "embed")
    assert (listed["attempts"], listed["worker"]) == (MAX_ATTEMPTS, "worker")
    shown = operator.command("dead").stdout
    assert listed["job"] in shown
    assert listed["message"] in shown
    (failure,) = json.loads(operator.command("failures", listed["job"], "--json").stdout)
    assert (failure["key"], failure["reason"]) == ("dead", "poison")

    queued = operator.command("requeue", str(batch)).stdout
    assert queued == f"batch {batch} is queued again, of job {listed['job']}\n"
    fleet.ledger.settled(listed["job"])

    job = json.loads(operator.command("job", listed["job"], "--json").stdout)
    assert (job["state"], job["succeeded"], job["failed"]) == ("finished", 1, 0)
    verdict = judge(fleet, {}, collection="dead")
    assert (verdict.embedded, verdict.failed, verdict.wrong, verdict.faults) == (1, 0, [], [])
    none = operator.command("dead")
    assert (none.stdout, none.stderr) == ("", "no dead batch\n")


def test_a_batch_that_is_not_dead_is_refused_in_a_sentence(fleet: Fleet, operator: Stack) -> None:
    refused = operator.command("requeue", "999999", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "batch 999999: no dead batch has the id 999999: `twinvec dead` lists them\n" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_corrupt_picture_that_is_sent_again_fails_again_in_a_job_of_its_own(fleet: Fleet, operator: Stack) -> None:
    first = fleet.application.embed({**noise(1, prefix="good/"), "bad": b"no picture"}, collection="corrupt")
    fleet.ledger.settled(first)

    retried = operator.command("retry", first, "--json", check=False)
    again = json.loads(retried.stdout)
    assert (retried.returncode, again["state"], again["failed"]) == (3, "finished_with_failures", 1)
    assert again["id"] != first
    for job in (first, again["id"]):
        (failure,) = json.loads(operator.command("failures", job, "--json").stdout)
        assert (failure["key"], failure["reason"]) == ("bad", "not_a_picture")
