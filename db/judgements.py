"""Judged pairs: whether two stored digits show the same, as somebody said, and who and when.

A judgement stands until it is made anew, taken back, or one of its digits goes. It must not know towers or vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from db.tables import Digit
from db.tables import Judgement as Row


class Judgement(NamedTuple):
    """Ids of two digits, the lower one first, and whether they show the same."""

    first: int
    second: int
    same: bool


class Said(NamedTuple):
    """Of two digits, by (collection, key), whether they show the same; None takes back what was said of them."""

    one: tuple[str, str]
    other: tuple[str, str]
    same: bool | None


class Listed(NamedTuple):
    """A judgement as it is listed."""

    id: int
    key: str
    collection: str
    other_key: str
    other_collection: str
    same: bool
    judged_by: str | None
    judged_at: datetime


_FIRST, _SECOND = aliased(Digit), aliased(Digit)


def record(session: Session, said: Sequence[Said], *, judged_by: str | None = None) -> list[int]:
    """Keep what was said, in place of what was before; of a pair that comes twice, the last.

    The positions of the pairs that are not kept: one of their digits is not stored, or both are the same one.
    """
    ids = _locked(session, {name for each in said for name in (each.one, each.other)})
    kept: dict[tuple[int, int], bool | None] = {}
    left_out = []
    for at, each in enumerate(said):
        one, other = ids.get(each.one), ids.get(each.other)
        if one is None or other is None or one == other:
            left_out.append(at)
        else:
            pair = (min(one, other), max(one, other))
            kept.pop(pair, None)
            kept[pair] = each.same
    _write(session, sorted(kept.items()), judged_by)
    return left_out


def pairs(session: Session) -> list[Judgement]:
    """All of them, in the order of their ids."""
    rows = session.execute(select(Row.first, Row.second, Row.same).order_by(Row.id))
    return [Judgement(*row) for row in rows]


def page(session: Session, *, collection: str | None, after: int, limit: int) -> list[Listed]:
    """The next judgements by id after an id, of pairs with a digit in a collection if it is given."""
    query = (
        select(
            Row.id,
            _FIRST.key,
            _FIRST.collection,
            _SECOND.key,
            _SECOND.collection,
            Row.same,
            Row.judged_by,
            Row.judged_at,
        )
        .join(_FIRST, _FIRST.id == Row.first)
        .join(_SECOND, _SECOND.id == Row.second)
        .where(Row.id > after)
    )
    if collection is not None:
        query = query.where(or_(_FIRST.collection == collection, _SECOND.collection == collection))
    return [Listed._make(row) for row in session.execute(query.order_by(Row.id).limit(limit))]


def of_digits(session: Session, ids: Sequence[int]) -> int:
    """How many judgements name one of these digits."""
    return int(session.execute(select(func.count()).select_from(Row).where(_names(ids))).scalar_one())


def _names(ids: Sequence[int]) -> ColumnElement[bool]:
    return or_(Row.first == func.any(list(ids)), Row.second == func.any(list(ids)))


def _locked(session: Session, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The ids of the digits that are stored, none of which is deleted before commit."""
    keys: dict[str, list[str]] = {}
    for collection, key in names:
        keys.setdefault(collection, []).append(key)
    those = or_(*(_in(collection, some) for collection, some in keys.items()))
    query = select(Digit.id, Digit.collection, Digit.key).where(those).order_by(Digit.id)
    rows = session.execute(query.with_for_update(read=True, key_share=True)).all()
    return {(row.collection, row.key): row.id for row in rows}


def _in(collection: str, keys: list[str]) -> ColumnElement[bool]:
    return (Digit.collection == collection) & (Digit.key == func.any(keys))


def _write(session: Session, judged: list[tuple[tuple[int, int], bool | None]], judged_by: str | None) -> None:
    """In the order of the pairs, so that two at once do not wait for each other."""
    for (first, second), same in judged:
        if same is None:
            session.execute(delete(Row).where(Row.first == first, Row.second == second))
    values = [
        {"first": first, "second": second, "same": same, "judged_by": judged_by}
        for (first, second), same in judged
        if same is not None
    ]
    if values:
        new = insert(Row).values(values)
        changed = {name: new.excluded[name] for name in ("same", "judged_by", "judged_at")}
        session.execute(new.on_conflict_do_update(index_elements=["first", "second"], set_=changed))
