"""The soak in half a minute: that its parts work, and that each thing it asserts can fail."""

import math
from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import pytest
from sqlalchemy import text

from tests.chaos.pictures import sample
from tests.soak.load import DIGITS
from tests.soak.soak import Soak, judge_stored, kept, require_doctor_sees, soaked
from tests.soak.stack import Stack
from tests.soak.tables import judged, markdown

EVERY, KEEP = 5.0, 0.1  # seconds, minutes
STEADY = {"steady": "query,control,express,intake,embed,backfill"}
SETTINGS = {
    "TWINVEC_LEASE": "3",
    "TWINVEC_SWEEP": "1",
    "TWINVEC_REPUBLISH_AFTER": "2",
    "TWINVEC_PRUNE": "1",
    **kept(keep=KEEP, abandoned=2 * EVERY),
}

pytestmark = [pytest.mark.usefixtures("costly"), pytest.mark.proof]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(SETTINGS, steady=STEADY, stand_in=True) as stack:
        yield stack


@pytest.fixture(scope="module")
def soak(stack: Stack) -> Soak:
    """A quarter of a minute of it, and one kill at least."""
    digits = np.stack(list(sample(2_000).values()))
    return soaked(stack, digits, minutes=0.25, every=EVERY, keep=KEEP, trainings=math.inf, warm_up=0)


def test_a_stack_at_a_tenth_of_its_load_loses_nothing_while_its_workers_are_killed(soak: Soak) -> None:
    assert soak.problems == []
    assert (soak.lost, soak.twice, soak.wrong) == (0, 0, 0)
    assert sum(soak.kills.values()) == len(soak.recovery) == len(soak.samples) >= 1
    assert soak.counts["jobs abandoned"] and soak.counts["failures"] and soak.counts["queries"]
    assert soak.counts["jobs called back"] >= soak.counts["jobs finished"]


def test_every_line_of_the_table_was_measured(soak: Soak) -> None:
    absent = {"vacuums", "towers"}
    lines = [(line, found) for line, found in judged(soak) if not absent & {line.what, line.of}]
    unseen = [f"{line.what}, {line.of}" for line, found in lines if not any((found.first, found.middle, found.last))]
    assert set(unseen) <= {"dead rows, failures", "dead rows, jobs", "look-up"}
    assert "steady, never killed" in markdown(soak)


def test_what_grows_is_told(soak: Soak) -> None:
    leaking = deepcopy(soak)
    leaking.samples = [
        {**soak.samples[-1], "time": soak.started + 60 * at, "resident/steady: pool": 500 + at / 10} for at in range(40)
    ]
    assert [line.of for line, found in judged(leaking) if found.grows] == ["steady, never killed"]
    assert "GROWS" in markdown(leaking)


def test_what_is_past_its_limit_is_told(soak: Soak) -> None:
    full = deepcopy(soak)
    full.samples = [{**soak.samples[-1], "bytes/logs MB": 1e6}]
    assert [line.of for line, found in judged(full) if found.grows] == ["logs"]
    assert "OVER" in markdown(full)


def test_a_doctor_that_sees_nothing_where_a_lane_stands_still_is_told(soak: Soak, stack: Stack) -> None:
    blind = Soak(every=EVERY, keep=KEEP, warm_up=0, keys=0)
    require_doctor_sees(blind, stack)  # no worker is stopped
    assert blind.problems == ["intake stood still, and doctor said no problem"]


def test_a_digit_that_is_lost_or_wrong_is_told(soak: Soak, stack: Stack) -> None:
    """The last of these tests: it destroys."""
    with stack.engine.begin() as connection:
        (lost, lost_key), (wrong, wrong_key) = connection.execute(
            text("SELECT id, key FROM digits WHERE collection = :c ORDER BY id LIMIT 2"), {"c": DIGITS}
        )
        connection.execute(text("DELETE FROM embeddings WHERE digit = :id"), {"id": lost})
        connection.execute(
            text("UPDATE digits SET pixels = decode(repeat('07', 784), 'hex') WHERE id = :id"), {"id": wrong}
        )
    again = Soak(every=EVERY, keep=KEEP, warm_up=0, keys=0)
    judge_stored(again, stack, {DIGITS: {lost_key: b"", wrong_key: b""}}, [])
    assert again.lost == 1
    assert any(lost_key in problem for problem in again.problems if " lost" in problem)
    assert any(wrong_key in problem for problem in again.problems if " wrong" in problem)
