"""What is stored: listed and read on the lane `query`, relabelled and deleted on `control`, a page at a time.

A message is bounded work, so that others come between two of them, but for the list of collections, which counts every
digit. It must not know towers.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from db import digits
from db.digits import Stored
from db.queue import actions
from db.queue import delete as deleting
from tasks.answering import InvalidRequest, answering
from tasks.intake import json_object
from twinvec_client.contract.messages import Annotate, Delete, GetDigits, ListCollections, ListDigits
from worker.app import app
from worker.runtime import Runtime, runtime

Reply = dict[str, Any]


@app.task(name=ListDigits.task, ignore_result=False)
@answering
def listed(**payload: Any) -> Reply:
    return list_digits(ListDigits.read(payload), runtime())


@app.task(name=GetDigits.task, ignore_result=False)
@answering
def get(**payload: Any) -> Reply:
    return get_digits(GetDigits.read(payload), runtime())


@app.task(name=ListCollections.task, ignore_result=False)
@answering
def collections(**payload: Any) -> Reply:
    ListCollections.read(payload)
    found = runtime().transact(digits.collections)
    return {"collections": [{"name": name, "digits": count, "labelled": labelled} for name, count, labelled in found]}


@app.task(name=Annotate.task, ignore_result=False)
@answering
def annotate(**payload: Any) -> Reply:
    return annotate_digits(Annotate.read(payload), runtime())


@app.task(name=Delete.task, ignore_result=False)
@answering
def delete(**payload: Any) -> Reply:
    return delete_digits(Delete.read(payload), runtime())


def list_digits(request: ListDigits, runtime: Runtime) -> Reply:
    """A page of what is stored."""
    found, end = runtime.transact(
        digits.stored_page,
        collection=request.collection,
        label=request.label,
        after=request.after,
        limit=request.limit,
        pictures=request.pictures,
    )
    return {"digits": [_sent(digit) for digit in found], "after": end}


def get_digits(request: GetDigits, runtime: Runtime) -> Reply:
    """Those of the keys that are stored."""
    found = runtime.transact(digits.with_keys, request.collection, request.keys, pictures=request.pictures)
    return {"digits": [_sent(digit) for digit in found]}


def annotate_digits(request: Annotate, runtime: Runtime) -> Reply:
    """Set labels and attributes; the keys that are stored. Raises InvalidRequest."""
    labels = {} if request.labels is None else dict(zip(request.keys, request.labels, strict=True))
    texts = {} if request.attributes is None else dict(zip(request.keys, request.attributes, strict=True))
    attributes = {key: None if text is None else _object(key, text) for key, text in texts.items()}
    return {"keys": runtime.transact_long(digits.annotate, request.collection, labels, attributes)}


def delete_digits(request: Delete, runtime: Runtime) -> Reply:
    """Delete some; what went, and how many a search finds afterwards."""

    def delete(session: Session) -> deleting.Deleted:
        gone = deleting.delete(session, request.collection, request.keys)
        if gone.digits:
            by, target = request.by or actions.NOT_SAID, f"collection {request.collection}"
            actions.record(session, by, "delete", target, {"digits": gone.digits, "all": request.keys is None})
        return gone

    gone = runtime.transact_long(delete)
    left = runtime.transact(deleting.remaining, request.collection, request.keys)
    answer = {name: count for name, count in gone._asdict().items() if name != "learners"}
    trainings = [str(job) for job in gone.learners.trainings]
    return {**answer, "left": left, "towers": gone.learners.towers, "trainings": trainings}


def _object(key: str, text: str) -> dict[str, Any]:
    """Raises InvalidRequest where it is no JSON object that SQL can store."""
    try:
        return json_object(text)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(f"attributes of {key!r:.80}: not a JSON object that SQL can store") from None


def _sent(digit: Stored) -> Reply:
    sent = digit._asdict()
    del sent["id"]
    return sent
