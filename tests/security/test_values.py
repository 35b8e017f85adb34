"""What a caller names is a value in SQL, whatever it looks like there."""

import pytest
from sqlalchemy import text

from db import digits
from tests.makers import Ledger, batch_of, embed, item, nearest, register, vector

HOSTILE = [
    "'; DROP TABLE digits; --",
    '"; DELETE FROM embeddings; --',
    "%s %(key)s :key $1 {0}",
    "\\N",  # what COPY reads as NULL
    "a\tb\nc\\.\n",  # its columns, its rows and its end
    "E'\\\\047 OR 1=1'",
]


@pytest.mark.parametrize("collection", HOSTILE)
def test_keys_and_collections_are_values(ledger: Ledger, collection: str) -> None:
    tower = register(ledger)
    batch = batch_of(ledger, *(item(key, seed) for seed, key in enumerate(HOSTILE)), collection=collection)
    assert embed(ledger, batch) == len(HOSTILE)
    stored = ledger(lambda session: session.execute(text("SELECT key, collection FROM digits ORDER BY id")).all())
    assert [tuple(row) for row in stored] == [(key, collection) for key in HOSTILE]
    assert len(ledger(digits.find_all, [(key, [collection]) for key in HOSTILE])) == len(HOSTILE)
    found = nearest(ledger, tower, vector(tower, 3), k=1, collections=(collection,))
    assert found.neighbours[0].key == HOSTILE[3]
