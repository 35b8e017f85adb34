"""The contract's words and numbers are those of every room, and its page is the messages'."""

import re
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import pytest

from db import states, tables
from db.queue import dead, jobs
from db.queue.failures import LedgerReason
from db.vectors import search, towers
from training import arrays
from training.errors import PictureReason
from training.fit.progress import Progress
from training.pictures import read
from twinvec_client import TrainingProgress, errors
from twinvec_client.contract import answers, limits
from twinvec_client.contract.document import document
from twinvec_client.contract.reasons import REASONS, Reason, SenderReason
from twinvec_client.contract.states import FINAL, JobKind, JobState, TowerStatus

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("literal", "ledger"),
    [(JobKind, states.JobKind), (JobState, states.JobState), (TowerStatus, states.TowerStatus)],
    ids=["job kinds", "job states", "tower statuses"],
)
def test_states_are_those_of_the_ledger(literal: Any, ledger: type[StrEnum]) -> None:
    assert list(get_args(literal)) == list(ledger)


def test_jobs_end_in_the_same_states() -> None:
    assert set(states.FINAL) == FINAL


def test_sizes_are_those_of_every_room() -> None:
    assert {limits.DIMENSIONS, arrays.DIMENSIONS, tables.DIMENSIONS} == {128}
    assert {limits.SIDE, arrays.SIDE} == {28}
    assert limits.MAX_PICTURE_BYTES == read.MAX_BYTES


def test_every_reason_is_given_by_a_room_and_has_its_sentence() -> None:
    """That no room gives another is for the type checker."""
    given = {*get_args(SenderReason), *get_args(PictureReason), *get_args(LedgerReason)}
    assert given == set(get_args(Reason)) == set(REASONS)


def test_the_page_on_reliability_lists_the_reasons() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", page, re.MULTILINE))
    assert rows == REASONS


@pytest.mark.parametrize(
    ("answered", "read_as"),
    [
        (jobs.JobStatus, answers.JobStatus),
        (dead.DeadBatch, answers.DeadBatch),
        (towers.TowerStanding, answers.Tower),
    ],
    ids=["job", "dead batch", "tower"],
)
def test_what_the_ledger_answers_has_the_fields_of_the_record(answered: Any, read_as: Any) -> None:
    assert [field.name for field in fields(answered)] == [field.name for field in fields(read_as)]


def test_a_neighbour_of_the_ledger_has_the_fields_of_the_record() -> None:
    assert search.Neighbour._fields == tuple(field.name for field in fields(answers.Neighbour))


def test_a_trainings_progress_has_the_fields_of_the_record() -> None:

    assert [field.name for field in fields(TrainingProgress)] == [
        *(field.name for field in fields(Progress)),
        "attempt",
    ]


def test_the_repr_of_a_tower_fits_a_line() -> None:
    named: dict[str, Any] = {"id": 12, "fingerprint": "ab" * 32, "status": "candidate", "recipe": "default", "seed": 7}
    tower = answers.Tower(**named, metrics={"x": [0] * 999}, threshold=0.5, created_at="", embedded=70_000, due=3)
    assert len(repr(tower)) <= 120
    assert all(word in repr(tower) for word in ("id=12", "abababababab", "candidate", "default", "70000"))


def test_the_page_of_the_contract_is_current() -> None:
    assert (ROOT / "docs" / "contract.md").read_text() == document(), "run `make docs`"


def test_a_default_of_0_or_1_is_not_shown_as_a_truth_value() -> None:
    rows = re.findall(r"^\| `(?:after|count|priority)` \|.*\|$", document(), flags=re.MULTILINE)
    assert rows
    assert [row for row in rows if row.endswith(("| true |", "| false |"))] == []


def test_an_error_says_what_its_class_says_where_nothing_is_added() -> None:
    assert str(errors.NoTower()) == errors.NoTower.__doc__
    assert str(errors.NotReady()) == errors.NotReady.__doc__
    assert str(errors.NoTower("train one")) == "train one"
