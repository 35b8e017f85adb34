"""Migrations keep what every earlier version has stored, and what it had under way goes on afterwards.

Rows are written as each version had its tables; then the newest migrates, and does the newest's work on them.
"""

import hashlib
import uuid
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from db.engine import connect, transact
from db.errors import TrainingRunning
from db.faults import refusals
from db.preflight import database_faults, table_faults
from db.queue import abandon, dead, trainings
from db.schema import _MIGRATIONS, is_current, migrate
from db.vectors import towers
from tests import makers
from tests.makers import Ledger

REVISIONS = [each.revision for each in reversed(list(ScriptDirectory(str(_MIGRATIONS)).walk_revisions()))]
# What a column was called at first, and what a table of words held.
FIRST_NAMES = {
    "created_at": "created",
    "promoted_at": "promoted",
    "cancelled_at": "cancelled",
    "ended_at": "ended",
    "called_back_at": "announced",
    "finished_at": "finished",
    "published_at": "rung",
}
DONE, RUNNING, RECEIVING, DEAD, TRAINING, BACKFILL = (uuid.UUID(int=number) for number in range(1, 7))


@pytest.fixture
def upgraded(empty_database_url: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database that a version stored things in, and that was then migrated."""
    engine = connect(empty_database_url)
    migrate(engine, to=request.param)
    with engine.begin() as connection:
        store(connection, first=request.param == REVISIONS[0])
    migrate(engine)
    yield engine
    engine.dispose()


def store(connection: Connection, *, first: bool) -> None:
    """What an installation has in the middle of its life, as far as its tables have room for it."""
    now = "now() - interval '1 hour'"
    died = {"attempt": "1", "token": "gen_random_uuid()", "lease_until": now}
    tower = {
        **{name: "'{}'" for name in ("settings", "versions", "metrics", "history")},
        **{"recipe": "'quick'", "seed": "0", "data_digest": "''", "threshold": "0.5"},
    }
    for status, name in (("live", b"live"), ("previous", b"previous")):
        digest = f"'\\x{hashlib.sha256(name).hexdigest()}'"
        fingerprint = f"'{hashlib.sha256(name).hexdigest()}'"
        row = {"fingerprint": fingerprint, "file": f"'\\x{name.hex()}'", "file_digest": digest, "status": f"'{status}'"}
        insert(connection, "towers", **tower, **row, promoted_at=now)
    for id in (1, 2):
        connection.execute(text(f"SELECT {'open_space' if first else 'create_partition'}({id})"))
    backfill = "fill" if first else "backfill"
    for job, kind, more in (
        (DONE, "embed", {"total": "3", "chunks": "1", "ended_at": now}),
        (RUNNING, "embed", {"total": "2", "chunks": "2"}),
        (RECEIVING, "embed", {}),
        (DEAD, "embed", {"total": "1", "chunks": "1", "ended_at": now}),
        (TRAINING, "train", {}),
        (BACKFILL, backfill, {"tower": "1"}),
    ):
        collection = {"collection": "'default'"} if kind == "embed" else {}
        fields = {"id": f"'{job}'", "kind": f"'{kind}'", "parameters": "'{}'", "created_at": now}
        insert(connection, "jobs", **fields, **collection, **more)
    for id in range(1, 7):
        pixels = makers.glyph(id)
        row = {
            "pixels": f"'\\x{pixels.hex()}'",
            "sha256": f"'\\x{hashlib.sha256(pixels).hexdigest()}'",
            "label": str(id),
        }
        job = {1: DONE, 2: DONE, 3: DONE, 4: RUNNING, 5: RUNNING, 6: DEAD}[id]
        insert(connection, "digits", id=str(id), key=f"'{id}'", collection="'default'", job=f"'{job}'", **row)
    connection.execute(text("SELECT setval('digits_id_seq', 6)"))
    for job, seq, state, ids, more in (
        (DONE, "0", "done", "{1,2,3}", {"items": "4", "embedded": "3", "failed": "1", "finished_at": now}),
        (RUNNING, "0", "queued", "{4}", {"items": "1", "published_at": now}),
        (RUNNING, "1", "leased", "{5}", {"items": "1", **died}),
        (RECEIVING, "0", "done", "{}", {}),
        (DEAD, "0", "dead", "{6}", {"items": "1", "failed": "1", "message": "'it killed its workers'"}),
        (TRAINING, "NULL", "leased", "{}", died),
        (BACKFILL, "NULL", "queued", "{1}", {"items": "1"}),
    ):
        fields = {"job": f"'{job}'", "seq": seq, "state": f"'{state}'", "digits": f"'{ids}'"}
        insert(connection, "batches", **fields, created_at=now, **more)
    for job, key, picture in ((DONE, "bad", "'\\x00'"), (DEAD, "6", "NULL")):
        row = {"job": f"'{job}'", "key": f"'{key}'", "reason": "'damaged'", "message": "'it is cut off'"}
        insert(connection, "failures", **row, picture=picture, is_glyph="false", created_at=now)
    for tower_id in (1, 2):
        for id in (1, 2, 3):
            vector = f"'{makers.vector(tower_id, id).tolist()}'"
            insert(connection, "embeddings", tower=str(tower_id), digit=str(id), vector=vector)


def insert(connection: Connection, table: str, **values: str) -> None:
    """Insert a row of SQL expressions, by the names that the columns had; what there was no column for is left out."""
    there = {column["name"] for column in inspect(connection).get_columns(table)}
    named = {name if name in there else FIRST_NAMES.get(name, name): value for name, value in values.items()}
    assert named.keys() <= there, f"{table} has no {named.keys() - there}"
    connection.exec_driver_sql(f"INSERT INTO {table} ({', '.join(named)}) VALUES ({', '.join(named.values())})")


@pytest.mark.parametrize("upgraded", REVISIONS, indirect=True)
def test_what_a_version_stored_is_there_and_its_work_goes_on(upgraded: Engine) -> None:
    ledger: Ledger = partial(transact, upgraded)
    with upgraded.connect() as connection:
        assert is_current(connection)
        assert list(table_faults(connection)) == []
    # What was stored
    assert makers.stored(ledger) == {str(id): makers.glyph(id) for id in range(1, 7)}
    assert ledger(towers.live).id == 1
    assert makers.tower_statuses(ledger) == {1: "live", 2: "previous"}
    for tower in (1, 2):
        kept = makers.vectors(ledger, tower)
        assert {key: vector.tolist() for key, vector in kept.items()} == {
            str(id): makers.vector(tower, id).tolist() for id in (1, 2, 3)
        }
    assert [each.key for each in makers.nearest(ledger, 1, makers.vector(1, 2), k=1).neighbours] == ["2"]
    assert makers.failures(ledger, DONE) == {"bad": "damaged"}
    # What had ended
    done = makers.status(ledger, DONE)
    assert (done["state"], done["succeeded"], done["failed"]) == ("finished_with_failures", 3, 1)
    assert [batch.id for batch in ledger(dead.page, limit=10)] == [5]
    # What was under way
    assert makers.status(ledger, RUNNING)["state"] == "running"
    makers.rescue(ledger)
    assert [makers.embed(ledger, batch) for batch in (2, 3)] == [1, 1], "what waited, and what a worker died with"
    assert makers.status(ledger, RUNNING)["state"] == "finished"
    assert makers.embed(ledger, 7) == 1, "the backfill"
    assert ledger(abandon.abandon, after=60) == 1
    assert makers.status(ledger, RECEIVING)["state"] == "abandoned"
    with pytest.raises(TrainingRunning, match=str(TRAINING)):
        ledger(trainings.start, uuid.uuid4(), recipe="quick", seed=0)
    assert makers.claim(ledger, 6) is not None, "the training"
    # And something new
    batch = makers.send(ledger, makers.item("new", 7))
    assert makers.embed(ledger, batch) == 1
    assert np.array_equal(makers.vectors(ledger, 1)["new"], makers.vector(1, 7))


@pytest.mark.parametrize(("revision", "said"), [("0012", "earlier version (0012"), ("9999", "later version (9999")])
def test_a_worker_does_not_start_on_the_tables_of_another_version(
    revision: str, said: str, engine: Engine, database_url: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    (fault,) = refusals(database_faults(database_url, processes=1))
    assert said in str(fault)
    upgrading = refusals(database_faults(database_url, processes=1, tables=False))
    assert [said in str(each) for each in upgrading] == ([True] if "later" in said else [])
