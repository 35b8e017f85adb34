"""A dump as docs/backup.md makes it, restored as it says, knows what it knew, makes nothing up, and work goes on."""

import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text

from db.engine import connect, transact
from db.errors import LeaseLost, UnknownJob
from db.identity import installation
from db.preflight import table_faults
from db.queue import abandon, rescue
from db.queue.leases import Lease
from db.vectors import backfill
from local.servers import postgres
from tests import makers
from tests.makers import Ledger

PAGE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text()
DUMPS = re.findall(r"^pg_dump .*$", PAGE, flags=re.MULTILINE)
DONE, RUNNING, RECEIVING = (uuid.UUID(int=number) for number in (1, 2, 3))


@dataclass
class Restored:
    """A ledger that was restored from an older dump, and what was in hand when that was made."""

    engine: Engine
    ledger: Ledger
    lease: Lease  # of the worker that had claimed the batch
    lost_job: uuid.UUID  # accepted and embedded after the dump
    lost_batch: int
    installation: str  # its id before


def run(command: str, folder: Path, database_url: str) -> None:
    """A command of the page, by the tools of the embedded server."""
    name, *words = shlex.split(command)
    words = [word.replace("$DATABASE_URL", database_url) for word in words]
    subprocess.run([postgres._binaries() / name, *words], cwd=folder, check=True, capture_output=True, text=True)


def commands(name: str) -> list[str]:
    return re.findall(rf"^{name} .*$", PAGE, flags=re.MULTILINE)


@pytest.fixture
def restored(
    request: pytest.FixtureRequest, empty_database_url: str, engine: Engine, ledger: Ledger, tmp_path: Path
) -> Iterator[Restored]:
    """param: the command that made the dump."""
    makers.register(ledger)
    makers.embed(ledger, makers.send(ledger, *(makers.item(f"old {seed}", seed) for seed in range(3)), job=DONE))
    waiting = makers.send(ledger, makers.item("running", 3), job=RUNNING)
    makers.embed(ledger, makers.send(ledger, makers.item("part", 4), job=RECEIVING, open=True))
    lease = makers.claim(ledger, waiting)
    assert lease is not None
    run(request.param, tmp_path, plain(engine.url.render_as_string(hide_password=False)))

    lost_job = uuid.uuid4()
    makers.finish(ledger, lease)
    lost_batch = makers.batch_of(ledger, makers.item("new", 5), makers.item("old 0", 6), job=lost_job)
    makers.embed(ledger, lost_batch)
    makers.send(ledger, makers.item("rest", 7), job=RECEIVING, seq=1, total=2)
    with engine.connect() as connection:
        id = installation(connection)

    (restore,) = commands("pg_restore")
    run(restore, tmp_path, plain(empty_database_url))
    later = connect(empty_database_url)
    yield Restored(later, partial(transact, later), lease, lost_job, lost_batch, id)
    later.dispose()


def plain(url: str) -> str:
    """As libpq reads it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


every_dump = pytest.mark.parametrize("restored", DUMPS, indirect=True, ids=["whole", "without vectors"])
whole_dump = pytest.mark.parametrize("restored", DUMPS[:1], indirect=True, ids=["whole"])


def embed_what_is_due(ledger: Ledger) -> int:
    """As a sweep and a worker do; how many vectors."""
    ledger(backfill.queue_due)
    published = [ledger(rescue.take_due, kind, republish_after=0, in_flight=64) for kind in ("embed", "backfill")]
    return sum(makers.embed(ledger, batch) for due in published for batch, _ in due)


@every_dump
def test_what_came_after_the_dump_is_gone_and_nothing_is_made_up(restored: Restored) -> None:
    ledger = restored.ledger
    with restored.engine.connect() as connection:
        assert list(table_faults(connection)) == []
        assert installation(connection) == restored.installation
    assert makers.stored(ledger) == {
        **{f"old {seed}": makers.glyph(seed) for seed in range(3)},
        "running": makers.glyph(3),
        "part": makers.glyph(4),
    }
    with pytest.raises(UnknownJob):
        makers.status(ledger, restored.lost_job)
    assert makers.status(ledger, DONE)["state"] == "finished"
    assert makers.status(ledger, RUNNING)["state"] == "running"
    assert makers.status(ledger, RECEIVING)["state"] == "receiving"


@every_dump
def test_what_was_under_way_goes_on(restored: Restored) -> None:
    ledger = restored.ledger
    makers.expire(ledger, restored.lease.batch)
    makers.rescue(ledger)
    embed_what_is_due(ledger)
    assert makers.status(ledger, RUNNING)["state"] == "finished"
    assert {key: vector.tolist() for key, vector in makers.vectors(ledger, 1).items()} == {
        key: makers.vector(1, seed).tolist()
        for key, seed in {"old 0": 0, "old 1": 1, "old 2": 2, "running": 3, "part": 4}.items()
    }
    (nearest,) = makers.nearest(ledger, 1, makers.vector(1, 3), k=1).neighbours
    assert nearest.key == "running"
    restored.ledger(lambda session: session.execute(text("UPDATE jobs SET created_at = now() - interval '1 day'")))
    restored.ledger(lambda session: session.execute(text("UPDATE batches SET created_at = now() - interval '1 day'")))
    assert ledger(abandon.abandon, after=3600) == 1
    assert makers.status(ledger, RECEIVING)["state"] == "abandoned"


@whole_dump
def test_a_result_of_the_lost_time_is_refused(restored: Restored) -> None:
    """A worker that works on through the restore holds a claim that the dump has as well: its result counts once."""
    ledger = restored.ledger
    makers.expire(ledger, restored.lease.batch)
    makers.rescue(ledger)
    lease = makers.claim(ledger, restored.lease.batch)
    assert lease is not None
    with pytest.raises(LeaseLost):
        makers.finish(ledger, restored.lease)
    assert makers.finish(ledger, lease) == 1
    assert makers.status(ledger, RUNNING)["succeeded"] == 1


@whole_dump
def test_a_message_of_the_lost_time_does_no_harm(restored: Restored) -> None:
    ledger = restored.ledger
    assert makers.claim(ledger, restored.lost_batch) is None, "no such batch"
    again = makers.batch_of(ledger, makers.item("another", 8))
    assert again == restored.lost_batch, "its number is given to another"
    assert makers.embed(ledger, restored.lost_batch) == 1, "the old message, before the new one"
    assert makers.claim(ledger, again) is None, "which finds it done"
    assert makers.vectors(ledger, 1)["another"].tolist() == makers.vector(1, 8).tolist()


@whole_dump
def test_what_is_sent_again_is_stored_once(restored: Restored) -> None:
    ledger = restored.ledger
    makers.embed(ledger, makers.send(ledger, makers.item("new", 5), makers.item("old 0", 6), job=restored.lost_job))
    assert makers.counts(ledger, restored.lost_job) == {"accepted": 2, "succeeded": 2}
    assert makers.stored(ledger)["old 0"] == makers.glyph(6)
    assert makers.counts(ledger, DONE) == {"accepted": 3, "succeeded": 3}
