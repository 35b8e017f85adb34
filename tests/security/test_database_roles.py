"""The database's documented roles: the worker's does all of a worker's job, and none does more than its own."""

import re
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from cli.commands.export import write
from cli.demo import strokes
from db import judgements
from db.engine import connect, transact, transact_once
from db.grants import grant
from db.judgements import Said
from db.preflight import RIGHTS, STEERED, WATCHED, table_faults
from db.queue import inbox, rescue, retention, trainings
from db.queue.cancel import cancel_job
from db.schema import is_current, migrate
from db.vectors import partitions
from db.vectors.retention import prune_files
from tests import makers
from tests.makers import Ledger
from tests.security.conftest import as_role, execute
from tests.security.documented import statements
from twinvec_client import submit
from twinvec_client.contract.messages import Intake

LEDGER = ("towers", "digits", "embeddings", "jobs", "batches", "failures", "judgements", "checkpoints", "learnt")
LESSER = ("twinvec_worker", "twinvec_reader", "twinvec_application")
TABLES = (*LEDGER, *WATCHED, *STEERED, "inbox", "installation", "alembic_version")


def engine_of(roles: URL, role: str) -> Engine:
    return connect(as_role(roles, role).render_as_string(hide_password=False))


@pytest.fixture
def worker(roles: URL) -> Iterator[Engine]:
    engine = engine_of(roles, "twinvec_worker")
    yield engine
    engine.dispose()


@pytest.fixture
def reader(roles: URL) -> Iterator[Engine]:
    engine = engine_of(roles, "twinvec_reader")
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(worker: Engine) -> Ledger:
    """As the worker."""
    return partial(transact, worker)


@pytest.fixture(scope="module")
def foreign(roles: URL) -> str:
    """Somebody else's table in the same database."""
    execute(roles, ["CREATE SCHEMA theirs", "CREATE TABLE theirs.salaries (name text)"])
    return "theirs.salaries"


def test_the_whole_job_of_a_worker_runs_under_its_role(ledger: Ledger) -> None:
    first = makers.register(ledger, "first")
    batch = makers.send(ledger, makers.item("a", 1), makers.item("b", 2))
    assert makers.embed(ledger, batch) == 2
    vector = makers.vector(first, 1)
    found = makers.nearest(ledger, first, vector, k=1)
    assert [neighbour.key for neighbour in found.neighbours] == ["a"]
    said = Said(("default", "a"), ("default", "b"), True)
    assert ledger(judgements.record, [said, said._replace(same=None), said]) == []
    ledger(judgements.record, [said._replace(same=False)])
    makers.embed(ledger, makers.send(ledger, makers.item("a", 3)))  # replaced, and the judgement of it with it
    assert ledger(judgements.pairs) == []
    makers.send(ledger, makers.item("b", 2, label=7))
    assert [each.key for each in makers.nearest(ledger, first, vector, k=2, label=7).neighbours] == ["b"]
    fills_and_promotes(ledger, "second")
    fills_and_promotes(ledger, "third")
    makers.age(ledger, days=0.001)
    (retired,) = ledger(partitions.partitions_to_drop)
    assert retired == first
    ledger(partitions.drop_partition, retired)
    assert ledger(partitions.partitions_to_drop) == []
    assert makers.tower_statuses(ledger)[first] == "retired"


def fills_and_promotes(ledger: Ledger, name: str) -> None:
    """Register a tower, fill it as the messages say, and let it go live."""
    tower = makers.register(ledger, name)
    for batch, kind in ledger(rescue.take_due, "backfill", republish_after=30, in_flight=9):
        assert kind == "backfill"
        makers.embed(ledger, batch)
    assert makers.promote(ledger) == tower
    assert set(makers.vectors(ledger, tower)) == {"a", "b"}


def test_failures_cancels_trainings_and_pruning_run_under_its_role(ledger: Ledger) -> None:
    makers.register(ledger, "for failures")
    job = uuid.uuid4()
    batch = makers.send(ledger, makers.item("poison", 7), job=job, collection="others")
    while makers.states(ledger, job) != ["dead"]:
        makers.die_on(ledger, batch)
        makers.rescue(ledger)
    assert makers.failures(ledger, job).keys() == {"poison"}

    cancelled = uuid.uuid4()
    makers.send(ledger, makers.item("unwanted", 8), job=cancelled, collection="others")
    ledger(cancel_job, cancelled)
    assert "unwanted" not in makers.stored(ledger, "others")

    training, batch = ledger(trainings.start, uuid.uuid4(), recipe="notebook", seed=0)
    assert ledger(trainings.report_progress, training, {"epoch": 1}) is False
    lease = makers.claim(ledger, batch)
    ledger(trainings.keep_material, lease, digits=[1], labels=[7], left_out=[], pairs=[], same=[])
    ledger(trainings.keep_state, lease, 1, b"after one epoch")
    assert ledger(trainings.state, training) == b"after one epoch"
    ledger(trainings.forget, training)

    makers.age(ledger, 31)
    assert makers.prune(ledger).jobs >= 1
    assert ledger(retention.prune_pictures, retention.Keep(), rows=9) == 1
    assert ledger(prune_files, days=30) in ([], [1])


def test_a_database_that_is_migrated_is_found_so_under_its_role(worker: Engine) -> None:
    migrate(worker)  # as `twinvec up` does
    with worker.connect() as connection:
        assert is_current(connection)


def test_the_rights_that_a_start_asks_for_are_those_the_page_grants(worker: Engine) -> None:
    granted: dict[str, set[str]] = {"SELECT": set(TABLES)}
    for statement in statements("tables"):
        match = re.fullmatch(
            r"GRANT ([A-Z, ]+|UPDATE \(label\)) ON (?:SEQUENCE |FUNCTION )?(.+) TO twinvec_worker", statement
        )
        for privilege in match[1].split(", ") if match else []:
            granted.setdefault(privilege, set()).update(match[2].split(", ") if match else [])
    assert {privilege: set(names) for privilege, names in RIGHTS.items()} == granted
    with worker.connect() as connection:
        assert list(table_faults(connection)) == []


def test_a_role_that_only_reads_is_told_what_a_worker_needs(reader: Engine) -> None:
    with reader.connect() as connection:
        (fault,) = table_faults(connection)
    assert fault.found.startswith("the role twinvec_reader lacks DELETE on actions, asked_queries, batches, ")
    assert "SELECT" not in fault.found


def refused(engine: Engine, statement: str) -> bool:
    """Whether the database refuses a statement for want of a right."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            connection.exec_driver_sql(statement)
        except ProgrammingError as error:
            return getattr(error.orig, "sqlstate", None) == "42501"  # insufficient_privilege
    return False


LOCKS = [
    f"{wait}advisory_{span}lock{share}" for wait in ("", "try_") for span in ("", "xact_") for share in ("", "_shared")
]
FORBIDDEN = [
    *(f"DROP TABLE {table}" for table in TABLES),
    *(f"TRUNCATE {table}" for table in TABLES),
    *(f"ALTER TABLE {table} ADD COLUMN x integer" for table in TABLES),
    "CREATE TABLE mine (x integer)",
    "CREATE TEMPORARY TABLE mine (x integer)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION create_partition(text) RETURNS void LANGUAGE sql AS ''",
    "CREATE OR REPLACE FUNCTION create_partition(integer) RETURNS void LANGUAGE sql AS ''",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "ALTER SYSTEM SET fsync = off",
    "SET ROLE twinvec_owner",
    "SELECT * FROM theirs.salaries",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY towers TO PROGRAM 'cat'",
]
NO_WORKERS = [
    "DELETE FROM towers",
    "UPDATE embeddings SET digit = 0",
    "UPDATE alembic_version SET version_num = '0'",
]
NO_READERS = [
    *(f"DELETE FROM {table}" for table in TABLES),
    "UPDATE towers SET status = 'retired'",
    "UPDATE jobs SET cancelled_at = now()",
    "INSERT INTO embeddings VALUES (1, 1, NULL)",
    "SELECT nextval('digits_id_seq')",
    "SELECT create_partition(99)",
    "SELECT drop_partition(1)",
    *(f"SELECT pg_{way}({key})" for way in LOCKS for key in ("7360002", "7360, 1")),
]


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("statement", FORBIDDEN)
def test_neither_worker_nor_reader_can(worker: Engine, reader: Engine, statement: str) -> None:
    assert refused(worker, statement)
    assert refused(reader, statement)


@pytest.mark.parametrize("statement", NO_WORKERS)
def test_a_worker_cannot(worker: Engine, statement: str) -> None:
    assert refused(worker, statement)


@pytest.mark.parametrize("statement", NO_READERS)
def test_a_reader_cannot(reader: Engine, statement: str) -> None:
    assert refused(reader, statement)


@pytest.mark.parametrize("table", TABLES)
def test_a_reader_reads(reader: Engine, table: str) -> None:
    with reader.connect() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() >= 0


def test_a_reader_exports(ledger: Ledger, reader: Engine, tmp_path: Path) -> None:
    makers.register(ledger, "exported")
    tower = makers.trained("exported").fingerprint
    done = transact_once(reader, write, tmp_path / "vectors.npz", None, tower, progress=False)
    assert (done["tower"], done["file"].exists()) == (tower, True)


def test_the_functions_that_run_as_the_owner_touch_the_ledger_alone(worker: Engine, roles: URL) -> None:
    """A table of the same name and owner, in a schema that the caller puts first, is not what they take for theirs."""
    others = ["CREATE SCHEMA decoy", "GRANT USAGE ON SCHEMA decoy TO twinvec_worker"]
    execute(as_role(roles, "twinvec_owner"), [*others, "CREATE TABLE decoy.embeddings_77 (x integer)"])
    with worker.connect() as connection:
        connection.exec_driver_sql("SET search_path = decoy, public")
        connection.exec_driver_sql("SELECT drop_partition(77)")
        connection.exec_driver_sql("SELECT create_partition(77)")
        found = "SELECT to_regclass('decoy.embeddings_77') IS NOT NULL, to_regclass('public.embeddings_77') IS NOT NULL"
        assert tuple(connection.exec_driver_sql(found).one()) == (True, True)
        connection.rollback()


def test_the_command_that_migrates_gives_the_rights_that_the_page_grants(roles: URL) -> None:
    owner = engine_of(roles, "twinvec_owner")
    given = f"""
        SELECT name, grantee::regrole::text, privilege_type FROM (
            SELECT oid::regclass::text AS name, relacl AS acl FROM pg_class WHERE NOT relispartition
            UNION ALL SELECT attrelid::regclass || '.' || attname, attacl FROM pg_attribute
            UNION ALL SELECT oid::regprocedure::text, proacl FROM pg_proc
        ) AS things, aclexplode(acl) WHERE grantee::regrole::text IN ({", ".join(f"'{role}'" for role in LESSER)})
    """
    with owner.begin() as connection:
        as_documented = set(connection.exec_driver_sql(given))
        for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
            connection.exec_driver_sql(f"REVOKE ALL ON ALL {kind} IN SCHEMA public FROM {', '.join(LESSER)}")
        assert set(connection.exec_driver_sql(given)) != as_documented
        grant(connection, **{role.removeprefix("twinvec_"): role for role in LESSER})
        assert set(connection.exec_driver_sql(given)) == as_documented
    owner.dispose()


def test_a_role_of_another_database_does_not_come_in(roles: URL, operator: Engine) -> None:
    with operator.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE stranger LOGIN")
    try:
        with pytest.raises(OperationalError, match="permission denied for database"):
            create_engine(roles.set(username="stranger")).connect()
    finally:
        with operator.connect() as connection:
            connection.exec_driver_sql("DROP ROLE stranger")


def test_an_application_leaves_pictures_and_can_do_nothing_else(roles: URL, ledger: Ledger) -> None:
    application = engine_of(roles, "twinvec_application")
    with application.begin() as connection:
        job = submit(connection, {"left": strokes.png(7)}, collection="left")
    for statement in (
        *(f"SELECT FROM {table}" for table in TABLES),
        "DELETE FROM inbox",
        "UPDATE inbox SET refused = NULL",
        "INSERT INTO inbox (job, message, attempts) VALUES (gen_random_uuid(), '', -9)",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"), application.begin() as connection:
            connection.exec_driver_sql(statement)
    left = ledger(inbox.take, seconds=60)
    assert Intake.unpack(left.message).job == job
    ledger(inbox.give_back, left.id)
    ledger(inbox.refuse, left.id, "so")
    ledger(inbox.remove, left.id)
    application.dispose()
