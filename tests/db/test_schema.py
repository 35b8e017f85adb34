"""The migrations make what the code expects, whichever process runs them, and however often."""

from functools import partial

import numpy as np
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, text

from db.engine import connect, transact
from db.schema import is_current, migrate
from db.tables import Base
from db.vectors import placing
from db.vectors.search import distances_to
from tests.db.test_frame import space
from tests.makers import Ledger, nearest, together


def test_columns_and_types_are_those_the_code_declares(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)
    # Constraints and indexes stand in the migrations alone.
    about_columns = [
        each for each in differences if isinstance(each, list) or "column" in each[0] or "table" in each[0]
    ]
    assert about_columns == []


def test_a_second_migration_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        assert is_current(connection)


def test_a_migration_takes_the_time_it_needs(empty_database_url: str) -> None:
    hurried = connect(empty_database_url, statement_limit=0.01)
    migrate(hurried)  # it goes through whole tables
    with hurried.connect() as connection:
        assert is_current(connection)
    hurried.dispose()


def test_two_migrations_at_once_both_succeed(empty_database_url: str) -> None:
    engine = connect(empty_database_url)
    together(lambda: migrate(engine), lambda: migrate(engine))
    with engine.connect() as connection:
        assert is_current(connection)
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    engine.dispose()


def test_an_empty_database_is_not_current(empty_database_url: str) -> None:
    engine = connect(empty_database_url)
    with engine.connect() as connection:
        assert not is_current(connection)
    engine.dispose()


def test_what_was_stored_before_the_words_changed_is_there_after_it(empty_database_url: str) -> None:
    """A backfill that was under way goes on: its batch is due for publishing, and its job is of the new kind."""
    engine = connect(empty_database_url)
    migrate(engine, to="0001")
    job = "5d1d4a52-0d5c-4a8f-9c9c-0d6a7e6f1b11"
    with engine.begin() as connection:
        for statement in (
            f"INSERT INTO jobs (id, kind, parameters, ended) VALUES ('{job}', 'fill', '{{}}', '2026-01-01')",
            f"INSERT INTO batches (job, state, digits, rung) VALUES ('{job}', 'queued', '{{7}}', now())",
            "SELECT open_space(3)",
            "INSERT INTO embeddings VALUES (3, 7, array_fill(0.5, ARRAY[128])::vector)",
        ):
            connection.execute(text(statement))
    migrate(engine)
    with engine.connect() as connection:
        (found,) = connection.execute(text("SELECT kind, ended_at::date::text AS day FROM jobs"))
        assert (found.kind, found.day) == ("backfill", "2026-01-01")
        assert connection.execute(text("SELECT published_at FROM batches")).scalars().all() == [None]
        assert connection.execute(text("SELECT digit FROM embeddings WHERE tower = 3")).scalars().all() == [7]
    with engine.begin() as connection:
        connection.execute(text("SELECT drop_partition(3)"))
        assert connection.execute(text("SELECT count(*) FROM embeddings")).scalar_one() == 0
    engine.dispose()


def test_vectors_of_a_version_without_cells_are_found_and_placed(empty_database_url: str) -> None:
    """Before any is placed, while some are, and after all are, the answers are those of brute force."""
    engine = connect(empty_database_url)
    migrate(engine, to="0003")
    vectors = space("flat", 3000, seed=1)
    rows = zip(range(1, 3001), vectors, strict=True)
    with engine.begin() as connection:
        connection.execute(
            text(f"""
                INSERT INTO towers (fingerprint, status, file, file_digest, recipe, settings, seed, data_digest,
                    versions, metrics, history, threshold)
                VALUES ('{"0" * 64}', 'live', '', '', 'quick', '{{}}', 0, '', '{{}}', '{{}}', '{{}}', 0.5)
            """)
        )
        connection.execute(text("SELECT create_partition(1)"))
        connection.execute(
            text(
                "INSERT INTO digits (id, key, collection, pixels, sha256, label, job) "
                "VALUES (:id, :id, :name, :pixels, '', :label, gen_random_uuid())"
            ),
            [
                {"id": id, "name": "even" if id % 2 == 0 else "odd", "pixels": bytes(784), "label": id % 3}
                for id in range(1, 3001)
            ],
        )
        connection.execute(
            text("INSERT INTO embeddings VALUES (1, :id, :vector)"),
            [{"id": id, "vector": str(vector.tolist())} for id, vector in rows],
        )
    migrate(engine)
    ledger: Ledger = partial(transact, engine)
    queries = space("flat", 5, seed=1)
    ids = np.arange(1, 3001)

    def check() -> None:
        for query in queries:
            distances = distances_to(query, vectors)
            for keep, filters in (
                (ids % 2 == 1, {"collections": ("odd",)}),
                (ids % 3 == 1, {"label": 1}),
                (ids > 0, {}),
            ):
                order = np.lexsort((ids[keep], distances[keep]))[:10]
                found = nearest(ledger, 1, query, k=10, **filters).neighbours
                assert [each.key for each in found] == [str(id) for id in ids[keep][order]]

    check()
    placed = [ledger(placing.place_some)]
    check()
    while placed[-1]:
        placed.append(ledger(placing.place_some))
    assert sum(placed) == 3000
    check()
    with engine.connect() as connection:
        right = connection.execute(text("SELECT count(*) FROM embeddings WHERE cell >= 0 AND label = digit % 3"))
        assert right.scalar_one() == 3000
    assert nearest(ledger, 1, queries[0], k=10).compared < 1000
    engine.dispose()
