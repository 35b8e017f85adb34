"""Take a chunk of pictures in: read each one, store what can be read, list what cannot, ring for the batch."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

from db.failures import FailedItem
from db.submit import Item, Submission, submit
from tasks.answering import job_id
from training.pictures import PictureError, read_picture
from twinvec_client.messages import (
    ENCODED,
    GLYPH,
    GLYPH_BYTES,
    MAX_ATTRIBUTES_BYTES,
    MAX_CHUNK_ITEMS,
    MAX_KEY_CHARS,
    MAX_LABEL,
    NUL_ESCAPE,
    REFUSED,
    BadMessage,
    Intake,
)
from worker.app import app
from worker.bell import ring
from worker.runtime import Runtime, runtime

log = logging.getLogger(__name__)


@app.task(name=Intake.task, throws=(BadMessage,))
def intake(**payload: Any) -> None:
    take_in(Intake.read(payload), runtime())


def take_in(chunk: Intake, runtime: Runtime) -> None:
    """Store a chunk, once. Raises BadMessage where it is not what a client sends; nothing is stored then."""
    check(chunk)
    start = time.perf_counter()
    items, failures = read(chunk)
    decoded = time.perf_counter()
    submission = Submission(
        job=job_id(chunk.job),
        seq=chunk.seq,
        collection=chunk.collection,
        items=items,
        failures=failures,
        digest=chunk.digest,
        total=chunk.total,
        seconds={"decode": decoded - start},
    )
    batch = runtime.transact(lambda session: submit(session, submission))
    log.info(
        "took in chunk %d of job %s: %d pictures, %d refused, decoded in %.3f s, stored in %.3f s",
        chunk.seq,
        chunk.job,
        len(items),
        len(failures),
        decoded - start,
        time.perf_counter() - decoded,
    )
    if batch is not None:
        ring([(batch, "embed")])


def check(chunk: Intake) -> None:
    """Whoever may write to the broker may send anything: believe no field."""
    count = len(chunk.keys)
    kinds = chunk.kinds
    if not isinstance(chunk.seq, int) or chunk.seq < 0 or count > MAX_CHUNK_ITEMS or len(kinds) != count:
        raise BadMessage(f"chunk {chunk.seq!r} with {count} keys and {len(kinds)} kinds")
    expected = {
        GLYPH: len(chunk.glyphs) // GLYPH_BYTES,
        ENCODED: len(chunk.encoded),
        REFUSED: len(chunk.refused),
    }
    if any(kinds.count(kind) != held for kind, held in expected.items()) or len(chunk.glyphs) % GLYPH_BYTES:
        raise BadMessage(f"chunk {chunk.seq} holds {expected} pictures, and its kinds say otherwise")
    if sum(expected.values()) != count:
        raise BadMessage(f"chunk {chunk.seq} has kinds this version does not know")
    for name, values in (("labels", chunk.labels), ("attributes", chunk.attributes)):
        if values is not None and len(values) != count:
            raise BadMessage(f"chunk {chunk.seq} has {len(values)} {name} for {count} keys")
    for text in (chunk.collection, *chunk.keys):
        if not isinstance(text, str) or not 0 < len(text) <= MAX_KEY_CHARS or "\0" in text:
            raise BadMessage(f"chunk {chunk.seq} has the key or collection {text!r:.80}")
    for label in chunk.labels or ():
        if label is not None and not (isinstance(label, int) and 0 <= label < MAX_LABEL):
            raise BadMessage(f"chunk {chunk.seq} has the label {label!r:.80}")
    for extra in chunk.attributes or ():
        if extra is not None and (len(extra) > MAX_ATTRIBUTES_BYTES or NUL_ESCAPE in extra):
            raise BadMessage(f"chunk {chunk.seq} has the attributes {extra!r:.80}")


def read(chunk: Intake) -> tuple[list[Item], list[FailedItem]]:
    """A chunk's pictures as glyphs, in order, and those that are no pictures. A bad one costs only itself."""
    items: list[Item] = []
    failures: list[FailedItem] = []
    labels, attributes = chunk.labels or [None] * len(chunk.keys), attributes_of(chunk)
    glyphs = glyphs_of(chunk.glyphs)
    encoded, refused = iter(chunk.encoded), iter(chunk.refused)
    for key, kind, label, extra in zip(chunk.keys, chunk.kinds, labels, attributes, strict=True):
        if kind == GLYPH:
            items.append(Item(key, next(glyphs), label, extra))
        elif kind == ENCODED:
            picture = next(encoded)
            try:
                items.append(Item(key, read_picture(picture, normalise=chunk.normalise).tobytes(), label, extra))
            except PictureError as error:
                failures.append(FailedItem(key, error.reason, str(error), picture))
        else:
            reason, message = next(refused)
            failures.append(FailedItem(key, str(reason), str(message), None))
    return items, failures


def attributes_of(chunk: Intake) -> list[dict[str, Any] | None]:
    try:
        return [
            None if text is None else dict(json.loads(text)) for text in chunk.attributes or [None] * len(chunk.keys)
        ]
    except (TypeError, ValueError) as error:
        raise BadMessage(f"chunk {chunk.seq} has attributes that are no JSON objects: {error}") from error


def glyphs_of(blob: bytes) -> Iterator[bytes]:
    return (blob[at : at + GLYPH_BYTES] for at in range(0, len(blob), GLYPH_BYTES))
