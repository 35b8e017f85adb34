"""Walks through the store: suspects, pairs and vectors are those of a slow look at everything, page by page."""

import json
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from sqlalchemy import text

from db.errors import NoTower, TowerNotLive
from db.vectors import walk
from tasks import review
from tasks.answering import InvalidRequest
from tasks.query import look_up
from tasks.review import find_duplicates, find_suspects, list_vectors
from tests.makers import embed, glyph, item, picked, register, send
from training.fit.vote import VOTERS, VoteRule
from twinvec_client.contract.messages import FindDuplicates, FindSuspects, ListVectors, Nearest
from worker.runtime import Runtime

RULE = VoteRule(bandwidth=200.0, prior=1e-3, classes=10)
NEAR = 100.0  # the calibrated distance of duplicates
USUAL = 300.0  # the calibrated distance of nearly all
CALIBRATION = {
    "nearest_distance": [NEAR, 200.0, USUAL],
    "vote": {"bandwidth": RULE.bandwidth, "prior": RULE.prior, "classes": RULE.classes},
}
THRESHOLD = 600.0  # digits of one group are within it, those of two are not
GROUPS, SIZE = 3, 12
LABELS: dict[str, int | None] = {f"{group}/{at}": group for group in range(GROUPS) for at in range(SIZE)}
LABELS |= {"0/3": 2, "1/4": None}  # a wrong one, and none


def pixels(key: str) -> bytes:
    """Digits of a group differ in the first pixels that the stand-in tower picks; 0/0 and 0/1 are the same."""
    group, at = map(int, key.split("/"))
    made = np.frombuffer(glyph(group), np.uint8).copy()
    made[((np.arange(128) * 6 + 1) % 784)[: at // 2 if group == 0 and at < 2 else at + 1]] ^= 64
    return made.tobytes()


def collection(key: str) -> str:
    return "even" if int(key.split("/")[1]) % 2 == 0 else "odd"


def store(runtime: Runtime, *, calibrated: bool = True) -> int:
    tower = register(runtime.transact)
    calibration = json.dumps({"calibration": CALIBRATION} if calibrated else {})
    update = "UPDATE towers SET threshold = :threshold, metrics = metrics || CAST(:more AS jsonb)"
    runtime.transact(lambda session: session.execute(text(update), {"threshold": THRESHOLD, "more": calibration}))
    for name in ("even", "odd"):
        some = [item(key, 0, LABELS[key])._replace(pixels=pixels(key)) for key in LABELS if collection(key) == name]
        embed(runtime.transact, send(runtime.transact, *some, collection=name))
    return tower


@pytest.fixture
def tower(runtime: Runtime) -> int:
    """A live tower with the digits of LABELS."""
    return store(runtime)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends where its digits do, however slow this machine is."""
    monkeypatch.setattr(review, "SECONDS", 1000.0)


def distances(key: str) -> list[tuple[float, str]]:
    """(distance, other key), nearest first, by brute force."""
    vectors = {other: picked(1, np.frombuffer(pixels(other), np.uint8))[0].astype(np.float64) for other in LABELS}
    return sorted((float(np.linalg.norm(vectors[key] - vectors[other])), other) for other in LABELS if other != key)


def slow_suspects() -> dict[str, int]:
    """Key -> the label that is elected."""
    found = {}
    for key, own in LABELS.items():
        voters = [(distance, LABELS[other]) for distance, other in distances(key)[:VOTERS]]
        weights = [0.0] * 10
        for distance, label in voters:
            if label is not None:
                weights[label] += float(np.exp(-distance / RULE.bandwidth))
        elected = int(np.argmax(weights))
        if own is not None and elected != own:
            found[key] = elected
    return found


def walked(
    runtime: Runtime, find: Any, kind: Any, *, limit: int = 1000, count: int = 0, **fields: Any
) -> Iterator[Any]:
    """The answers of a walk's pages, each as a message that came over the wire."""
    after: int | None = 0
    while after is not None:
        payload = {"collection": None, "tower": None, "after": after, "limit": limit, "count": count, **fields}
        answer = find(kind.read(msgpack.unpackb(msgpack.packb(payload))), runtime)
        yield answer
        assert answer["after"] is None or answer["after"] > after
        after = answer["after"]


def suspects(runtime: Runtime, **fields: Any) -> list[dict[str, Any]]:
    pages = walked(runtime, find_suspects, FindSuspects, **{"pictures": False, **fields})
    return [suspect for page in pages for suspect in page["suspects"]]


def pairs(runtime: Runtime, **fields: Any) -> list[dict[str, Any]]:
    pages = walked(runtime, find_duplicates, FindDuplicates, **{"pictures": False, "distance": None, **fields})
    return [pair for page in pages for pair in page["duplicates"]]


def test_suspects_are_the_labels_that_the_neighbours_outvote(runtime: Runtime, tower: int) -> None:
    found = suspects(runtime)
    assert {suspect["key"]: suspect["elected"] for suspect in found} == slow_suspects() == {"0/3": 0}
    (suspect,) = found
    assert (suspect["label"], suspect["collection"], suspect["picture"]) == (2, "odd", None)
    assert suspect["own_probability"] < 0.01
    assert 0.9 < suspect["probability"] < 1
    assert [near["key"] for near in suspect["neighbours"]][:2] == [key for _, key in distances("0/3")[:2]]


@pytest.mark.parametrize("limit", [1, 5, 17])
def test_pages_of_any_size_find_the_same(runtime: Runtime, tower: int, limit: int) -> None:
    assert suspects(runtime, limit=limit) == suspects(runtime)
    assert pairs(runtime, limit=limit) == pairs(runtime)
    pages = list(walked(runtime, find_suspects, FindSuspects, limit=limit, pictures=False))
    assert sum(page["looked_at"] for page in pages) == len([label for label in LABELS.values() if label is not None])


def test_a_page_passes_so_many_digits_and_may_be_empty(
    runtime: Runtime, tower: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, of_odd = suspects(runtime), pairs(runtime, collection="odd")
    monkeypatch.setattr(walk, "PASSED", 3)
    assert (suspects(runtime), pairs(runtime, collection="odd")) == (whole, of_odd)
    pages = list(walked(runtime, find_suspects, FindSuspects, pictures=False, collection="none"))
    assert len(pages) >= len(LABELS) // 3 > 1
    assert not any(page["looked_at"] for page in pages)


def test_a_page_that_takes_long_ends_early_and_goes_on_with_the_next(
    runtime: Runtime, tower: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = suspects(runtime)
    monkeypatch.setattr(review, "SECONDS", 0.0)
    pages = list(walked(runtime, find_suspects, FindSuspects, pictures=False))
    whole_pages, rest = divmod(35, review.TOGETHER)
    assert [page["looked_at"] for page in pages] == [review.TOGETHER] * whole_pages + [rest]
    assert [suspect for page in pages for suspect in page["suspects"]] == whole


def test_a_collection_limits_what_is_looked_at_and_not_who_votes(runtime: Runtime, tower: int) -> None:
    assert [suspect["key"] for suspect in suspects(runtime, collection="odd")] == ["0/3"]
    assert suspects(runtime, collection="even") == []
    (suspect,) = suspects(runtime, collection="odd")
    assert {near["collection"] for near in suspect["neighbours"]} == {"even", "odd"}


def test_what_is_to_be_looked_at_is_counted_so_far_as_is_asked(runtime: Runtime, tower: int, unhurried: None) -> None:
    (page,) = walked(runtime, find_suspects, FindSuspects, pictures=False, count=1000)
    assert page["total"] == 35
    (page,) = walked(runtime, find_suspects, FindSuspects, pictures=False, count=10)
    assert page["total"] == 10
    (page,) = walked(runtime, find_suspects, FindSuspects, pictures=False, count=0)
    assert page["total"] is None


def test_pairs_are_those_of_a_brute_force_search(runtime: Runtime, tower: int) -> None:
    for distance in (0.0, NEAR, 70.0):
        expected = {
            (key, other): apart
            for key in LABELS
            for apart, other in distances(key)[: review.TWINS]
            if apart <= distance
        }
        found = {(pair["key"], pair["other"]["key"]): pair for pair in pairs(runtime, distance=distance)}
        assert found.keys() == expected.keys()
        for both, apart in expected.items():
            assert found[both]["other"]["distance"] == pytest.approx(apart, rel=1e-6)
            assert found[both]["same_pixels"] == (set(both) == {"0/0", "0/1"})
    assert len(found) > 2


def test_the_distance_of_pairs_is_the_towers_unless_one_is_given(runtime: Runtime, tower: int) -> None:
    assert pairs(runtime) == pairs(runtime, distance=NEAR) != pairs(runtime, distance=0.0)


def test_pictures_come_where_they_are_asked_for(runtime: Runtime, tower: int) -> None:
    for found, other in (
        (suspects(runtime, pictures=True)[0], "neighbours"),
        (pairs(runtime, pictures=True)[0], "other"),
    ):
        assert found["picture"] == pixels(found["key"])
        first = found[other] if other == "other" else found[other][0]
        assert first["picture"] == pixels(first["key"])
    assert pairs(runtime)[0]["other"]["picture"] is None


def test_vectors_are_those_that_are_stored(runtime: Runtime, tower: int) -> None:
    pages = list(walked(runtime, list_vectors, ListVectors, limit=7, every=1))
    keys = [key for page in pages for key in page["keys"]]
    assert sorted(keys) == sorted(LABELS)
    numbers = np.frombuffer(b"".join(page["vectors"] for page in pages), "<f4").reshape(-1, 128)
    for key, found in zip(keys, numbers, strict=True):
        assert np.array_equal(found, picked(1, np.frombuffer(pixels(key), np.uint8))[0])
    assert [label for page in pages for label in page["labels"]] == [LABELS[key] for key in keys]
    assert {name for page in pages for name in page["collections"]} == {"even", "odd"}


def test_a_sample_is_a_part_and_the_same_each_time(runtime: Runtime, tower: int) -> None:
    def sampled(every: int, limit: int) -> list[str]:
        return [
            key for page in walked(runtime, list_vectors, ListVectors, limit=limit, every=every) for key in page["keys"]
        ]

    assert 0 < len(sampled(3, 100)) < len(LABELS) / 2
    assert sampled(3, 100) == sampled(3, 2)
    assert set(sampled(6, 100)) <= set(sampled(3, 100))


def test_digits_without_a_vector_are_passed_over(runtime: Runtime, tower: int) -> None:
    send(runtime.transact, item("due", 1, 7))
    assert "due" not in [key for page in walked(runtime, list_vectors, ListVectors, every=1) for key in page["keys"]]


@pytest.mark.parametrize(
    ("find", "kind", "fields"),
    [
        (find_suspects, FindSuspects, {"pictures": False}),
        (find_duplicates, FindDuplicates, {"pictures": False, "distance": 1.0}),
        (list_vectors, ListVectors, {"every": 1}),
    ],
)
def test_a_walk_is_of_one_tower(
    runtime: Runtime, unhurried: None, find: Any, kind: Any, fields: dict[str, Any]
) -> None:
    with pytest.raises(NoTower):
        next(walked(runtime, find, kind, **fields))
    store(runtime)
    (page,) = walked(runtime, find, kind, **fields)
    assert list(walked(runtime, find, kind, **fields, tower=page["tower"])) == [page]
    with pytest.raises(TowerNotLive):
        next(walked(runtime, find, kind, **fields, tower="0" * 64))


def test_a_tower_without_calibration_has_no_distance_of_its_own(runtime: Runtime) -> None:
    store(runtime, calibrated=False)
    with pytest.raises(InvalidRequest, match="give a distance"):
        pairs(runtime)
    (suspect,) = suspects(runtime)
    assert (suspect["key"], suspect["elected"]) == ("0/3", 0)
    assert (suspect["probability"], suspect["own_probability"]) == (None, None)


def matched(runtime: Runtime, query: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The whole answer to one query with `match`."""
    payload = {
        "queries": [query], "k": 5, "collection": None, "label": None, "attributes": None, "max_distance": None,
        "match": True, "pictures": False, "normalise": False, **fields,
    }  # fmt: skip
    (answer,) = look_up(Nearest.read(msgpack.unpackb(msgpack.packb(payload))), runtime)["answers"]
    return dict(answer)


def test_a_match_is_the_vote_of_the_nearest_however_many_are_asked_for(runtime: Runtime, tower: int) -> None:
    answer = matched(runtime, {"key": "1/0"}, k=1)
    voters = [(distance, LABELS[other]) for distance, other in distances("1/0")[:VOTERS]]
    weight = sum(np.exp(-distance / RULE.bandwidth) for distance, label in voters if label is not None)
    assert {label for _, label in voters} == {1, None}
    found = answer["match"]
    assert (found["matched"], found["label"], found["voters"]) == (True, 1, VOTERS - 1)
    assert found["probability"] == pytest.approx((weight + RULE.prior) / (weight + 10 * RULE.prior))
    assert (answer["threshold"], answer["usual"]) == (THRESHOLD, USUAL)
    assert matched(runtime, {"key": "1/0"}, k=100)["match"] == found
    after = matched(runtime, {"key": "1/0", "after": answer["next"]}, k=100)
    assert (after["match"], after["neighbours"][0]["key"]) == (found, distances("1/0")[1][1])


def test_nothing_matches_beyond_the_threshold(runtime: Runtime, tower: int) -> None:
    stranger = matched(runtime, {"glyph": glyph(77)})
    assert stranger["neighbours"][0]["distance"] > THRESHOLD
    assert stranger["match"] == {"matched": False, "label": None, "probability": None, "voters": VOTERS}
    assert matched(runtime, {"key": "1/0"}, max_distance=1.0)["match"]["matched"] is False
    assert matched(runtime, {"key": "1/0"}, collection="none such")["match"]["matched"] is False


def test_without_labels_there_is_a_match_and_no_label(runtime: Runtime, tower: int) -> None:
    apart, _ = distances("1/5")[0]
    found = matched(runtime, {"key": "1/5"}, max_distance=apart)["match"]  # 1/4 or 1/6
    assert found["matched"] is True
    only = matched(runtime, {"glyph": pixels("1/4")}, max_distance=0.0)["match"]
    assert only == {"matched": True, "label": None, "probability": None, "voters": 0}


def test_a_tower_without_calibration_votes_without_a_probability(runtime: Runtime) -> None:
    store(runtime, calibrated=False)
    answer = matched(runtime, {"key": "1/0"})
    found = answer["match"]
    assert (found["matched"], found["label"], found["probability"]) == (True, 1, None)
    assert (answer["threshold"], answer["usual"]) == (THRESHOLD, None)


def test_a_match_is_only_where_it_is_asked_for(runtime: Runtime, tower: int) -> None:
    assert matched(runtime, {"key": "1/0"}, match=False)["match"] is None
