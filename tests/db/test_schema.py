"""The migrations make what the code expects, whoever runs them and however often."""

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
