"""Rounds of pruning: short, one after another, logged with counts, and each setting has its effect."""

import logging
import uuid
from collections.abc import Iterator
from itertools import count

import pytest
from sqlalchemy import create_engine, text

from db.queue.failures import KEPT_BYTES, FailedItem
from db.queue.retention import Keep, Pruned
from db.vectors import lifecycle
from tasks import prune
from tasks.prune import SECONDS, Rounds, keep_of
from tests.makers import age, batch_of, embed, item, register, send
from worker.celeryconfig import celery_config
from worker.runtime import Runtime
from worker.settings import Settings


def refused(key: str) -> FailedItem:
    return FailedItem(key, "damaged", "half a file", b"half")


def jobs_of(runtime: Runtime) -> int:
    return int(runtime.transact(lambda session: session.execute(text("SELECT count(*) FROM jobs")).scalar_one()))


@pytest.fixture
def ended(runtime: Runtime) -> None:
    """Seven jobs that ended 31 days ago, each with a failure, the oldest of them still open."""
    register(runtime.transact)
    for key in "abcdefg":
        batch = batch_of(runtime.transact, item(key, 1), failures=[refused("bad")], job=uuid.uuid4())
        if key != "a":
            embed(runtime.transact, batch)
    age(runtime.transact, 31)


@pytest.mark.usefixtures("ended")
def test_one_round_takes_all_where_there_is_time_and_says_so_in_one_line(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="tasks.prune"):
        assert Rounds(clock=lambda: 0).run(runtime) == Pruned(jobs=6, batches=6, failures=6)
        assert Rounds(clock=lambda: 0).run(runtime) == Pruned()
    assert [record.getMessage() for record in caplog.records] == [
        "pruned 6 jobs with 6 batches and 6 failures, and the pictures of 7 more, in 0.00 s"
    ]


@pytest.mark.usefixtures("ended")
def test_a_round_ends_in_time_and_the_next_goes_on_behind_it(runtime: Runtime) -> None:
    """With one row a transaction, and a clock by which each transaction takes as long as a round may."""
    ticks: Iterator[float] = (tick * SECONDS for tick in count())
    rounds = Rounds(rows=1, clock=lambda: next(ticks))
    gone = [rounds.run(runtime)]
    while not rounds.at_end:
        gone.append(rounds.run(runtime))
    assert max(round.jobs for round in gone) == 1
    assert sum(round.jobs for round in gone) == 6
    assert jobs_of(runtime) == 1


@pytest.mark.usefixtures("ended")
def test_a_process_that_was_killed_between_two_rounds_leaves_nothing_undone(runtime: Runtime) -> None:
    ticks: Iterator[float] = (tick * SECONDS for tick in count())
    rounds = Rounds(rows=1, clock=lambda: next(ticks))
    while jobs_of(runtime) > 4:
        rounds.run(runtime)
    Rounds(clock=lambda: 0).run(runtime)
    assert jobs_of(runtime) == 1


def test_files_of_towers_and_uncalled_jobs_are_told_of(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    register(runtime.transact)
    second = register(runtime.transact, "second")
    runtime.transact(lifecycle.reject, second, "for the test")
    send(runtime.transact, failures=[refused("a")])
    runtime.transact(lambda session: session.execute(text("""UPDATE jobs SET callback = '{"task": "t"}'""")))
    age(runtime.transact, 91)
    with caplog.at_level(logging.INFO, logger="tasks.prune"):
        Rounds(clock=lambda: 0).run(runtime)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == f"pruned the files of towers {second}"
    assert said[-1] == "1 of these jobs were never called back"


@pytest.mark.usefixtures("ended")
def test_the_number_that_is_kept_is_a_setting(runtime: Runtime) -> None:
    runtime.settings = runtime.settings.model_copy(update={"keep_jobs": 1000, "keep_pictures": 1000})
    assert Rounds(clock=lambda: 0).run(runtime) == Pruned()
    runtime.settings = runtime.settings.model_copy(update={"keep_most_jobs": 3})
    assert Rounds(clock=lambda: 0).run(runtime).jobs == 3
    assert jobs_of(runtime) == 4


@pytest.mark.usefixtures("ended")
def test_a_database_user_that_may_not_delete_is_told_of_and_nothing_fails(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tasks.prune.runtime", lambda: runtime)
    role = f"shy_{uuid.uuid4().hex}"
    with runtime.engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role}"))
        connection.execute(text(f"GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}"))
    shy = create_engine(runtime.engine.url, connect_args={"options": f"-c role={role}"})
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runtime, "engine", shy)
            prune.prune_now()  # not by its own name: pytest would look at the task, which reads the settings, too early
    finally:
        shy.dispose()
        with runtime.engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "permission denied for table" in said
    assert "docs/security.md" in said
    assert jobs_of(runtime) == 7


def test_every_setting_of_retention_reaches_what_it_is_for() -> None:
    settings = Settings(keep_jobs=1, keep_dead=2, keep_callbacks=3, keep_pictures=4)
    assert keep_of(settings) == Keep(jobs=1, dead=2, callbacks=3, pictures=4)
    assert Settings().job_failure_bytes == KEPT_BYTES
    assert keep_of(Settings()) == Keep()


def test_pruning_is_on_the_schedule_by_itself() -> None:
    entry = celery_config(Settings(prune=7, broker_url="redis://127.0.0.1:1"))["beat_schedule"]["prune"]
    assert (entry["task"], entry["schedule"], entry["options"]["queue"]) == ("twinvec.prune", 7, "control")
