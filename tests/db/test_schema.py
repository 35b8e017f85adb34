"""The migrations make what the code expects, whichever process runs them, and however often."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, text

from db.engine import connect
from db.schema import is_current, migrate
from db.tables import Base
from tests.makers import together


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
