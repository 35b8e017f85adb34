"""Pages of failed pictures have room for some bytes: every picture is on one of them, and no page is large."""

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.queue import failures, retrying
from db.queue.failures import FailedItem
from tests.makers import Ledger, send

ROOM = 100

sizes = st.lists(st.sampled_from([None, 1, 40, 60, ROOM, ROOM + 1, 250]), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes, st.integers(1, 12))
def test_every_failed_picture_is_on_one_page_and_none_is_larger_than_one_picture_has_to_be(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, sizes: list[int | None], limit: int
) -> None:
    monkeypatch.setattr(failures, "PAGE_BYTES", ROOM)
    job, collection = uuid.uuid4(), str(uuid.uuid4())
    pictures = {f"{at:02}": None if size is None else bytes(size) for at, size in enumerate(sizes)}
    refused = [FailedItem(key, "damaged", "it ends in the middle", picture) for key, picture in pictures.items()]
    send(ledger, failures=refused, job=job, collection=collection)

    pages, after = [], ""
    while page := ledger(failures.page, job, after=after, limit=limit, pictures=True):
        pages.append([each.picture for each in page])
        after = page[-1].key
    assert [picture for page in pages for picture in page] == list(pictures.values())

    again, place = [], None
    while True:
        found = ledger(retrying.page, collection, reason=None, since=None, after=place, limit=limit)
        again.append([each.picture for each in found.failures])
        if (place := found.after) is None:
            break
    assert sorted(len(picture) for page in again for picture in page) == sorted(filter(None, sizes))

    for page in [*pages, *again]:
        assert len(page) <= limit
        assert len(page) < 2 or sum(len(picture or b"") for picture in page) <= ROOM
