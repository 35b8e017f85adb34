"""What a person may type for a job or a tower: the id, its beginning, or `last`."""

from dataclasses import dataclass, replace

import pytest

from cli.errors import CommandError
from cli.inputs.ids import find_job, find_tower
from twinvec_client import Tower

JOBS = [  # newest first
    "824f43e7-4199-4255-bad5-4b7e8deb28df",
    "63a58c41-c551-51c4-9923-15beec743311",
    "824f0000-0000-4000-8000-000000000000",
]
ONE = Tower(
    id=1,
    fingerprint="8e8c189d0f30" + "0" * 52,
    status="live",
    recipe="quick",
    seed=0,
    threshold=0.5,
    metrics={},
    embedded=0,
    due=0,
    created_at="2026-01-01",
)
TOWERS = [replace(ONE, id=2, fingerprint="77" * 32), ONE]


@dataclass
class Jobs:
    """A client that knows these jobs, and hands back the id it is asked for."""

    ids: list[str]

    def jobs(self, *, limit: int) -> list["Job"]:
        return [Job(id) for id in self.ids[:limit]]

    def job(self, id: str) -> str:
        return id


@dataclass
class Job:
    id: str


def find(word: str, ids: list[str] = JOBS) -> str:
    return find_job(Jobs(ids), word)  # type: ignore[arg-type, return-value]  # a stand-in for the client


@pytest.mark.parametrize("word", ["63a5", "63A58C41", "63a58c41-c551", JOBS[1]])
def test_the_beginning_of_one_job_alone_means_it(word: str) -> None:
    assert find(word) == JOBS[1]


def test_last_is_the_newest_job() -> None:
    assert find("last") == JOBS[0]
    with pytest.raises(CommandError, match="there is no job yet"):
        find("last", [])


def test_an_ambiguous_beginning_lists_what_it_may_mean() -> None:
    with pytest.raises(CommandError, match="824f is the beginning of 2 jobs") as refusal:
        find("824f")
    assert JOBS[0] in str(refusal.value)
    assert JOBS[2] in str(refusal.value)
    assert find("824f0") == JOBS[2]


@pytest.mark.parametrize("word", ["6", "63a", "", "abcd", "63a59"])
def test_what_begins_no_job_or_is_too_short_is_refused(word: str) -> None:
    with pytest.raises(CommandError, match="twinvec jobs"):
        find(word)


def test_a_whole_id_is_asked_for_as_it_is_also_where_the_job_is_not_among_the_latest() -> None:
    old = "0b9f3c52-0c8e-4b62-8c0e-0e4ed1a2a6d1"
    assert find(old) == old
    assert find(old.replace("-", "")) == old.replace("-", "")


@pytest.mark.parametrize(("word", "id"), [("1", 1), ("8e8c", 1), ("8E8C189D0F30", 1), ("7777", 2), ("last", 2)])
def test_a_tower_is_meant_by_its_id_by_its_fingerprint_or_as_the_last(word: str, id: int) -> None:
    assert find_tower(TOWERS, word).id == id


@pytest.mark.parametrize("word", ["3", "8e8", "abcd"])
def test_a_tower_that_does_not_exist_is_refused(word: str) -> None:
    with pytest.raises(CommandError, match="twinvec towers"):
        find_tower(TOWERS, word)
