"""Judged pairs: sent, listed, and looked for where a judgement would tell most. It must not know how they are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from twinvec_client import stored
from twinvec_client.connection import Connection
from twinvec_client.contract.answers import Judgement, StoredDigit, Tower
from twinvec_client.contract.limits import MAX_NAME_CHARS, MAX_PAGE, is_name
from twinvec_client.contract.messages import Judge, ListJudgements
from twinvec_client.errors import InvalidRequest, TowerNotLive
from twinvec_client.fields import key_refusal, read_integer
from twinvec_client.results import PairToJudge
from twinvec_client.review import MOST_LISTED, Sample, sample

MOST_COMPARED = 20_000  # digits, each with each
_ROWS = 512  # of a matrix of distances at a time: 41 MB
_A_DIGIT = 2  # pairs that name one digit at most, or an odd one would be in all

Place = tuple[str, str]  # collection, key
Array = np.ndarray[Any, Any]


def judge(
    connection: Connection,
    pairs: Iterable[tuple[str, str, bool | None]],
    *,
    collection: str,
    other_collection: str,
    by: str | None,
) -> list[tuple[str, str]]:
    """See `Twinvec.judge_many`."""
    if by is not None and not is_name(by, MAX_NAME_CHARS):
        raise InvalidRequest(f"by is {by!r:.80}: a string of 1 to {MAX_NAME_CHARS} characters without NUL")
    left_out = list[tuple[str, str]]()
    rest = iter(pairs)
    while some := [_checked(each, collection == other_collection) for each in islice(rest, MAX_PAGE)]:
        request = Judge(
            collection=collection,
            other_collection=other_collection,
            keys=[one for one, _, _ in some],
            others=[other for _, other, _ in some],
            same=[same for _, _, same in some],
            by=by,
        )
        left_out += [some[at][:2] for at in connection.ask(request)["left_out"]]
    return left_out


def judgements(connection: Connection, *, collection: str | None) -> Iterator[Judgement]:
    """See `Twinvec.judgements`."""
    after: int | None = 0
    while after is not None:
        page = connection.ask(ListJudgements(collection=collection, after=after, limit=MAX_PAGE))
        yield from map(Judgement.read, page["judgements"])
        after = page["after"]


def propose(
    connection: Connection,
    *,
    collection: str | None,
    limit: int,
    most: int,
    towers: Sequence[Tower],
    progress: bool,
) -> list[PairToJudge]:
    """See `Twinvec.pairs_to_judge`."""
    limit, most = read_integer("limit", limit, MOST_LISTED), read_integer("most", most, MOST_COMPARED)
    found = sample(connection, collection=collection, most=most, progress=progress)
    threshold = next((tower.threshold for tower in towers if tower.fingerprint == found.tower), None)
    if threshold is None:
        raise TowerNotLive("another tower went live meanwhile: ask again")
    judged = {
        frozenset({(each.collection, each.key), (each.other_collection, each.other_key)})
        for each in judgements(connection, collection=collection)
    }
    places = list(zip(found.collections, found.keys, strict=True))
    chosen, taken = list[_Near](), Counter[int]()
    for near in _worth(found, threshold, 8 * limit):
        if len(chosen) == limit:
            break
        is_new = frozenset({places[near.one], places[near.other]}) not in judged
        if is_new and max(taken[near.one], taken[near.other]) < _A_DIGIT:
            chosen.append(near)
            taken.update((near.one, near.other))
    digits = _read(connection, {places[at] for near in chosen for at in (near.one, near.other)})
    return [
        PairToJudge(
            digits[places[near.one]],
            digits[places[near.other]],
            near.distance,
            "labels differ" if near.differ else "near the threshold",
        )
        for near in chosen
        if {places[near.one], places[near.other]} <= digits.keys()  # else it was deleted meanwhile
    ]


class _Near(NamedTuple):
    """Two digits of a sample, by position. order: the lower, the more their judgement tells."""

    order: float
    distance: float
    one: int
    other: int
    differ: bool


def _worth(found: Sample, threshold: float, most: int) -> Iterator[_Near]:
    """The pairs that are worth most, of either kind in turn: the nearest of two labels, those at the threshold."""
    labels = np.array([-1 if label is None else label for label in found.labels], np.int64)
    far = threshold + 2 * float(np.sqrt(np.square(found.vectors).sum(axis=1)).max(initial=0))  # farther than any pair
    kinds: tuple[list[_Near], list[_Near]] = ([], [])
    for start in range(0, len(labels), _ROWS):
        rows = slice(start, start + _ROWS)
        distances = _distances(found.vectors[rows], found.vectors)
        later = np.arange(len(labels)) > np.arange(start, start + len(distances))[:, None]
        known = (labels[rows, None] >= 0) & (labels >= 0)
        differ = known & (labels[rows, None] != labels)
        off = np.abs(distances - threshold) + far * known  # those that no label answers come first
        kinds[0].extend(_least(distances, distances, later & differ, start, most, True))
        kinds[1].extend(_least(off, distances, later & ~differ, start, most, False))
    ordered = [sorted(kind)[:most] for kind in kinds]
    for at in range(max(map(len, ordered))):
        yield from (kind[at] for kind in ordered if at < len(kind))


def _least(order: Array, distances: Array, wanted: Array, start: int, most: int, differ: bool) -> Iterator[_Near]:
    ones, others = np.nonzero(wanted)
    values = order[ones, others]
    if len(values) > most:
        kept = np.argpartition(values, most)[:most]
        ones, others, values = ones[kept], others[kept], values[kept]
    for one, other, value in zip(ones.tolist(), others.tolist(), values.tolist(), strict=True):
        yield _Near(value, float(distances[one, other]), start + one, other, differ)


def _distances(some: Array, vectors: Array) -> Array:
    """(m, d), (n, d) float32 -> (m, n) Euclidean distances; by the binomial formula, so about: good for an order."""
    squares = np.square(some).sum(axis=1)[:, None] + np.square(vectors).sum(axis=1) - 2 * some @ vectors.T
    distances: Array = np.sqrt(np.maximum(squares, 0))
    return distances


def _read(connection: Connection, places: set[Place]) -> dict[Place, StoredDigit]:
    """Those that are stored, with their pixels."""
    found = {}
    for collection in {collection for collection, _ in places}:
        keys = [key for of, key in places if of == collection]
        for digit in stored.get(connection, keys, collection=collection, pictures=True):
            found[digit.collection, digit.key] = digit
    return found


def _checked(pair: Any, one_collection: bool) -> tuple[str, str, bool | None]:
    """Raises InvalidRequest where it is not (key, key, same)."""
    if not isinstance(pair, tuple | list) or len(pair) != 3:
        raise InvalidRequest(f"{pair!r:.80}: a pair is (key, other key, whether they show the same)")
    one, other, same = pair
    for key in (one, other):
        if (refusal := key_refusal(key)) is not None:
            raise InvalidRequest(refusal[1])
    if one_collection and one == other:
        raise InvalidRequest(f"{one!r:.80}: a pair is of two digits")
    if same is not None and not isinstance(same, bool | np.bool_):
        raise InvalidRequest(f"same is {same!r:.40}: True, False, or None to take back what was said")
    return one, other, None if same is None else bool(same)
