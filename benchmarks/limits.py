"""What the machine can do: the same rows and bytes, moved by nothing but the database, or multiplied by NumPy."""

from functools import partial
from typing import Any

import numpy as np
import psycopg

from benchmarks.meter import Meter
from db.queue.leases import Lease

Postgres = psycopg.Connection[Any]
COLUMNS = {
    "digits": ("id", "key", "collection", "pixels", "sha256", "label", "attributes", "job"),
    "embeddings": ("tower", "digit", "vector"),
}


def settle(postgres: Postgres) -> None:
    """Have the database write what it owes the disk, so that no stage pays for the one before."""
    postgres.execute("CHECKPOINT")


def copy_again(postgres: Postgres, meter: Meter, leases: list[Lease]) -> None:
    """Read each batch's rows, and write them as PostgreSQL would, in one go, into the emptied tables."""
    ranges = [(lease.digits[0], lease.digits[-1]) for lease in leases]
    meter.each("read_pixels_limit", partial(received, postgres), ranges)
    tables = {}
    for name, key in (("digits", "id"), ("embeddings", "digit")):
        query = f"SELECT {', '.join(COLUMNS[name])} FROM {name} WHERE {key} BETWEEN {{}} AND {{}} ORDER BY {key}"
        tables[name] = [copied_out(postgres, query.format(*ids)) for ids in ranges]
    postgres.execute("TRUNCATE digits, embeddings, judgements")
    for name, rows in tables.items():
        settle(postgres)
        meter.each(f"copy_{name}_limit", partial(copy_in, postgres, f"{name} ({', '.join(COLUMNS[name])})"), rows)


def received(postgres: Postgres, ids: tuple[int, int]) -> None:
    """The rows as they come, without a look at them."""
    with postgres.cursor(binary=True) as cursor:
        cursor.execute("SELECT id, pixels FROM digits WHERE id BETWEEN %s AND %s ORDER BY id", ids)


def copied_out(postgres: Postgres, query: str) -> bytes:
    with postgres.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)") as copy:
        return b"".join(copy)


def copy_in(postgres: Postgres, into: str, rows: bytes) -> None:
    with postgres.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(rows)


def multiply(matrices: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    for matrix in matrices:
        rows = rows @ matrix
    return rows
