"""Reads, relabels and deletes what is stored, a page at a time. It must not know how a page is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from twinvec_client.asker import asker
from twinvec_client.connection import Connection
from twinvec_client.contract.answers import StoredDigit
from twinvec_client.contract.limits import MAX_PAGE
from twinvec_client.contract.messages import Annotate, Delete, GetDigits, ListDigits
from twinvec_client.errors import InvalidRequest
from twinvec_client.fields import Refusal, key_refusal, read_integer, read_label, write_attributes
from twinvec_client.results import Deleted, DigitsPage

_PICTURES_A_PAGE = 500

T = TypeVar("T")


def digits(
    connection: Connection, *, collection: str | None, label: int | None, pictures: bool
) -> Iterator[StoredDigit]:
    """See `Twinvec.digits`."""
    wanted = None if label is None else _accepted(*read_label(label))
    after: int | None = 0
    while after is not None:
        page = connection.ask(
            ListDigits(
                collection=collection,
                label=wanted,
                after=after,
                limit=_PICTURES_A_PAGE if pictures else MAX_PAGE,
                pictures=pictures,
            )
        )
        yield from map(StoredDigit.read, page["digits"])
        after = page["after"]


def page(
    connection: Connection, *, collection: str | None, label: int | None, after: int, limit: int, pictures: bool
) -> DigitsPage:
    """See `Twinvec.digits_page`."""
    request = ListDigits(
        collection=collection,
        label=None if label is None else _accepted(*read_label(label)),
        after=after,
        limit=read_integer("limit", limit, _PICTURES_A_PAGE),
        pictures=pictures,
    )
    found = connection.ask(request)
    return DigitsPage(list(map(StoredDigit.read, found["digits"])), found["after"])


def get(connection: Connection, keys: Iterable[str], *, collection: str, pictures: bool) -> Iterator[StoredDigit]:
    """See `Twinvec.get_many`."""
    for some in parts(keys, _PICTURES_A_PAGE if pictures else MAX_PAGE):
        page = connection.ask(GetDigits(collection=collection, keys=some, pictures=pictures))
        yield from map(StoredDigit.read, page["digits"])


def label(connection: Connection, labels: Mapping[str, int | None], *, collection: str) -> list[str]:
    """See `Twinvec.label`."""

    def change(some: list[str]) -> list[str]:
        values = [_accepted(*read_label(labels[key])) for key in some]
        return _annotated(connection, Annotate(collection=collection, keys=some, labels=values, attributes=None))

    return _each(labels, change)


def set_attributes(
    connection: Connection, attributes: Mapping[str, dict[str, Any] | None], *, collection: str
) -> list[str]:
    """See `Twinvec.set_attributes`."""

    def change(some: list[str]) -> list[str]:
        values = [_accepted(*write_attributes(attributes[key])) for key in some]
        return _annotated(connection, Annotate(collection=collection, keys=some, labels=None, attributes=values))

    return _each(attributes, change)


def delete(connection: Connection, keys: Iterable[str], *, collection: str) -> Deleted:
    """See `Twinvec.delete`."""
    total = Deleted(0, 0, 0, 0)
    for some in parts(keys, MAX_PAGE):
        total += Deleted.read(connection.ask(Delete(collection=collection, keys=some, by=asker())))
    return total


def delete_collection(connection: Connection, *, collection: str) -> Deleted:
    """See `Twinvec.delete_collection`."""
    total = Deleted(0, 0, 0, 0)
    while True:
        gone = Deleted.read(connection.ask(Delete(collection=collection, keys=None, by=asker())))
        total = replace(total + gone, left=gone.left)
        if not gone.digits:  # the last one, which forgets the pictures of all failures, finds none
            return total


def _annotated(connection: Connection, request: Annotate) -> list[str]:
    stored: list[str] = connection.ask(request)["keys"]
    return stored


def _each(given: Mapping[str, Any], change: Callable[[list[str]], list[str]]) -> list[str]:
    """Change all of them, some at a time; the keys that were not stored."""
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"a {type(given).__name__}: give a mapping of keys to what each is to have")
    stored = {key for some in parts(given, MAX_PAGE) for key in change(some)}
    return [key for key in given if key not in stored]


def parts(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    """Raises InvalidRequest where one is no key."""
    if isinstance(keys, str | bytes):
        raise InvalidRequest(f"keys is {keys!r:.80}: give several, in a list")
    rest = iter(keys)
    while some := list(islice(rest, size)):
        for key in some:
            if (refusal := key_refusal(key)) is not None:
                raise InvalidRequest(refusal[1])
        yield some


def _accepted(value: T, refusal: Refusal | None) -> T:
    if refusal is not None:
        raise InvalidRequest(refusal[1])
    return value
