"""Walks as the client makes them: page by page under one tower, and no more kept than was asked for."""

from typing import Any

import numpy as np
import pytest

from twinvec_client import InvalidRequest, Twinvec
from twinvec_client.contract.messages import FindDuplicates, FindSuspects, ListVectors, Message

TOWER = "ab" * 32


def neighbour(key: str, distance: float) -> dict[str, Any]:
    return {"key": key, "collection": "c", "distance": distance, "label": 1, "attributes": None, "picture": None}


class Store:
    """Answers as a worker does that stores digits 1 to `count`, of which it looks at 7 at most for a message.

    The label of digit n is wrong with probability n / count; digits n and n + 1 are n apart.
    """

    answer_timeout = 1.0

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[Any] = []

    def ask(self, message: Message) -> dict[str, Any]:
        self.asked.append(message)
        assert isinstance(message, FindSuspects | FindDuplicates | ListVectors)
        ids = range(message.after + 1, min(message.after + min(message.limit, 7), self.count) + 1)
        page: dict[str, Any] = {
            "tower": TOWER,
            "looked_at": len(ids),
            "after": ids[-1] if ids and ids[-1] < self.count else None,
            "total": min(self.count, message.count) if message.count else None,
        }
        if isinstance(message, FindSuspects):
            page["suspects"] = [self.suspect(at) for at in ids]
        elif isinstance(message, FindDuplicates):
            page["distance"] = 9.5 if message.distance is None else message.distance
            page["duplicates"] = [
                pair for at in ids for pair in self.pairs(at) if pair["other"]["distance"] <= page["distance"]
            ]
        else:
            page |= {"keys": [str(at) for at in ids], "collections": ["c"] * len(ids), "labels": [1] * len(ids)}
            page["vectors"] = np.repeat(np.array(ids, "<f4"), 128).tobytes()
        return page

    def suspect(self, at: int) -> dict[str, Any]:
        return {
            "key": str(at), "collection": "c", "label": 0, "elected": 1, "probability": at / self.count,
            "own_probability": 0.0, "neighbours": [neighbour("x", 0.1)], "picture": None,
        }  # fmt: skip

    def pairs(self, at: int) -> list[dict[str, Any]]:
        """Digit `at` with the one before and the one after it."""
        found = []
        for other in (at - 1, at + 1):
            if 1 <= other <= self.count:
                near = neighbour(str(other), float(min(at, other)))
                found.append({"key": str(at), "collection": "c", "label": 1, "other": near, "same_pixels": False})
        return found


def client(store: Store) -> Twinvec:
    return Twinvec(connection=store)  # type: ignore[arg-type]  # it answers as a connection does


def test_the_most_probable_suspects_of_all_pages_are_kept() -> None:
    store = Store(50)
    found = client(store).suspects(limit=3)
    assert [suspect.key for suspect in found] == ["50", "49", "48"]
    assert (found.tower, found.looked_at, found.complete) == (TOWER, 50, True)


def test_a_pair_is_listed_once_though_it_is_found_twice() -> None:
    found = client(Store(50)).duplicates(distance=4, limit=100)
    assert [{pair.key, pair.other.key} for pair in found] == [{str(at), str(at + 1)} for at in (1, 2, 3, 4)]
    assert [pair.distance for pair in found] == [1, 2, 3, 4]
    assert found.distance == 4
    nearest = client(Store(50)).duplicates(limit=2)
    assert ([pair.distance for pair in nearest], nearest.distance) == ([1, 2], 9.5)


def test_no_more_is_looked_at_than_was_asked_for() -> None:
    store = Store(50)
    found = client(store).suspects(most=10)
    assert (found.looked_at, found.complete) == (10, False)
    assert [suspect.key for suspect in found] == [str(at) for at in range(10, 0, -1)]
    assert client(Store(10)).suspects(most=10).complete is True


def test_later_pages_are_asked_of_the_tower_that_answered_first_and_count_nothing() -> None:
    for walk in (Twinvec.suspects, Twinvec.duplicates):
        store = Store(20)
        walk(client(store), progress=True)
        first, *later = store.asked
        assert (first.tower, first.after) == (None, 0)
        assert first.count > 0, "for the bar"
        assert later
        assert {(message.tower, message.count) for message in later} == {(TOWER, 0)}


def test_a_map_of_many_is_of_a_sample() -> None:
    store = Store(50)
    found = client(store).map(most=10)
    assert store.asked[-1].every == 5
    assert found.stored == 50
    assert [point.key for point in found.points] == [str(at) for at in range(1, 51)]  # the stand-in sends all
    assert found.explained == pytest.approx((1, 0))
    assert {message.tower for message in store.asked[1:]} == {TOWER}
    client(store).map(most=50)
    assert store.asked[-1].every == 1


def test_nothing_stored_has_nothing() -> None:
    assert client(Store(0)).map().points == []
    assert len(client(Store(0)).suspects()) == 0
    assert len(client(Store(0)).duplicates()) == 0


@pytest.mark.parametrize("fields", [{"limit": 0}, {"limit": 10**9}, {"most": 0}, {"most": "all"}, {"collection": ""}])
def test_what_is_out_of_its_limits_is_refused_before_anything_is_sent(fields: dict[str, Any]) -> None:
    store = Store(5)
    for walk in (Twinvec.suspects, Twinvec.duplicates):
        with pytest.raises(InvalidRequest):
            walk(client(store), **fields)
    with pytest.raises(InvalidRequest):
        client(store).duplicates(distance=float("nan"))
    with pytest.raises(InvalidRequest):
        client(store).map(most=0)
    assert store.asked == []
