"""A Twinvec for the tests of an application: the same client, answered from memory, without broker or workers.

What is faked is the way to the workers and back; all before it, arguments, limits and errors, is the client itself. A
picture's vector is a fixed projection of its pixels: what looks alike is near, and that is all that it promises.
"""

from __future__ import annotations

import io
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from twinvec_client.async_client import AsyncTwinvec
from twinvec_client.client import Twinvec
from twinvec_client.connection import Connection
from twinvec_client.contract import messages as wire
from twinvec_client.contract.answers import Action, JobStatus, Pause
from twinvec_client.contract.broker import LANES
from twinvec_client.contract.limits import DIMENSIONS, GLYPH_BYTES, SIDE
from twinvec_client.contract.packing import unpack
from twinvec_client.errors import (
    InvalidRequest,
    NotPausable,
    PictureRefused,
    TowerNotLive,
    TwinvecError,
    UnknownJob,
    UnknownKey,
)

TOWER = "fa" * 32  # the fingerprint of the one tower there is
THRESHOLD = 0.5

Reply = dict[str, Any]
M = TypeVar("M", bound=wire.Message)

_PROJECTION = np.random.default_rng(0).standard_normal((GLYPH_BYTES, DIMENSIONS)) / GLYPH_BYTES**0.5


@dataclass
class _Digit:
    id: int
    key: str
    collection: str
    pixels: bytes
    label: int | None
    attributes: str | None
    judged: dict[int, tuple[bool, str | None, str]] = field(default_factory=dict)  # by the other's id

    @property
    def vector(self) -> np.ndarray[Any, Any]:
        return _vector(self.pixels)

    def row(self, *, pictures: bool) -> Reply:
        picture = self.pixels if pictures else None
        return {
            "key": self.key,
            "collection": self.collection,
            "label": self.label,
            "attributes": self.attributes,
            "picture": picture,
        }


@dataclass
class _Job:
    status: JobStatus
    begun_with: bytes
    callback: dict[str, str] | None
    chunks: dict[int, bytes] = field(default_factory=dict)  # digests by seq
    failures: dict[tuple[str, str], Reply] = field(default_factory=dict)
    count: int | None = None  # of its chunks
    digits: dict[tuple[str, str], int] = field(default_factory=dict)  # ids by collection and key


class Memory(Connection):
    """What a fake has stored, and the way to it. Two fakes with one memory see the same.

    down: an error that whatever is asked then raises, as `BrokerUnavailable()`; None for none.
    called_back: (task, queue, status) of each callback, in order; none is called.
    """

    def __init__(self) -> None:
        super().__init__("redis://localhost:6379/0")
        self.down: TwinvecError | None = None
        self.called_back: list[tuple[str, str, Reply]] = []
        self._lock, self._ids = threading.RLock(), count(1)
        self._digits: dict[tuple[str, str], _Digit] = {}
        self._jobs: dict[str, _Job] = {}
        self._paused: dict[str, Pause] = {}  # by lane
        self._actions: list[Action] = []  # newest first
        self._answers: dict[type[wire.Message], Callable[[Any], Reply]] = {
            wire.Intake: self._take_in,
            wire.Express: self._take_in,
            wire.Receipts: self._receipts,
            wire.StatusOf: lambda asked: asdict(self._job(asked.job).status),
            wire.ListJobs: lambda asked: {"jobs": [asdict(job.status) for job in self._newest()[: asked.limit]]},
            wire.ShowOverview: self._overview,
            wire.PauseWork: self._pause,
            wire.ResumeWork: self._resume,
            wire.ListActions: lambda asked: {"actions": [asdict(each) for each in self._actions[: asked.limit]]},
            wire.UnfinishedJobs: lambda asked: {"jobs": []},
            wire.FailuresToRetry: self._to_retry,
            wire.FailuresOf: self._failures_of,
            wire.FailureOf: self._failure_of,
            wire.DoubtfulOf: self._doubtful_of,
            wire.Cancel: lambda asked: asdict(self._job(asked.job).status),
            wire.Nearest: self._nearest,
            wire.ListDigits: self._list_digits,
            wire.GetDigits: self._get_digits,
            wire.ListCollections: self._collections,
            wire.Annotate: self._annotate,
            wire.Delete: self._delete,
            wire.Judge: self._judge,
            wire.ListJudgements: self._judgements,
            wire.ListVectors: self._vectors,
            wire.GetVectors: self._vectors_of_keys,
            wire.VectorsOfJob: self._vectors_of_job,
            wire.ListTowers: self._towers,
            wire.ListDead: lambda asked: {"batches": []},
        }

    def answer(self, kind: type[M], with_: Callable[[M], Reply]) -> None:
        """Answer a kind of message in another way: for what the fake does not do, or does otherwise than a test wants.

        with_: of the message, as `twinvec_client.contract.messages` has it; what it answers is what a worker would.
        """
        self._answers[kind] = with_

    def ask(self, message: wire.Message, **_: Any) -> Reply:
        """Raises as `Connection.ask` does, and InvalidRequest where the fake does not do what is asked."""
        if self.down is not None:
            raise self.down
        try:
            read = type(message).read(message.write())  # as a worker would
        except wire.BadMessage as error:
            raise InvalidRequest(str(error)) from None
        answer = self._answers.get(type(message))
        if answer is None:
            raise InvalidRequest(f"the fake does not do {message.task}: give it an answer, by `memory.answer`")
        with self._lock:
            return answer(read)

    def send(self, message: wire.Message) -> str:
        self.ask(message)
        return ""

    def failure_of(self, id: str) -> str | None:
        return None

    def follow(self, job: str, tell: Callable[[], None]) -> AbstractContextManager[Any]:
        return nullcontext(SimpleNamespace(subscribed=True))

    def close(self) -> None:
        """What is stored stays."""

    def _take_in(self, chunk: wire.Intake) -> Reply:
        job = self._jobs.get(chunk.job)
        if job is None:
            callback = None if chunk.callback is None else chunk.callback.write()
            job = self._jobs[chunk.job] = _Job(_new_status(chunk), chunk.first, callback)
        if chunk.seq in job.chunks:
            return {"digest": job.chunks[chunk.seq]}
        if job.begun_with != chunk.first or (job.count is not None and chunk.seq >= job.count):
            return {"digest": b""}
        job.chunks[chunk.seq] = chunk.digest
        stored = dict.fromkeys(("succeeded", "unchanged", "failed"), 0)
        for become in self._store(chunk, job):
            stored[become] += 1
        before = asdict(job.status)
        counts = {name: before[name] + more for name, more in stored.items()}
        job.status = replace(job.status, accepted=before["accepted"] + len(chunk.keys), **counts)
        if chunk.total is not None:
            job.count = chunk.seq + 1
            job.status = replace(job.status, total=chunk.total)
        if job.count is not None and len(job.chunks) == job.count:
            job.status = replace(job.status, state="finished_with_failures" if job.failures else "finished")
            if job.callback is not None:
                self.called_back.append((job.callback["task"], job.callback["queue"], asdict(job.status)))
        return {"digest": chunk.digest}

    def _store(self, chunk: wire.Intake, job: _Job) -> Iterator[str]:
        """What became of each picture, as the name of the count that has it."""
        glyphs = unpack(chunk.glyphs, chunk.item_types.count(wire.GLYPH))
        pixels = iter([glyphs[at : at + GLYPH_BYTES] for at in range(0, len(glyphs), GLYPH_BYTES)])
        encoded, refused = iter(chunk.encoded), iter(chunk.refused)
        labels, attributes = chunk.labels or [None] * len(chunk.keys), chunk.attributes or [None] * len(chunk.keys)
        for key, kind, label, extra in zip(chunk.keys, chunk.item_types, labels, attributes, strict=True):
            sent: bytes | None = None
            try:
                if kind == wire.REFUSED:
                    reason, message = next(refused)
                    raise _Refused(reason, message)
                sent = next(pixels) if kind == wire.GLYPH else next(encoded)
                glyph = sent if kind == wire.GLYPH else _read(sent)
            except _Refused as error:
                job.failures[key, error.reason] = {
                    "key": key,
                    "reason": error.reason,
                    "message": str(error),
                    "attempts": 0,
                    "picture": sent,
                    "is_glyph": kind == wire.GLYPH,
                    "label": label,
                    "attributes": extra,
                }
                yield "failed"
                continue
            known = self._digits.get((chunk.collection, key))
            if known is not None and known.pixels == glyph:
                known.label = known.label if label is None else label
                known.attributes = known.attributes if extra is None else extra
                job.digits[chunk.collection, key] = known.id
                yield "unchanged"
            else:
                if known is not None:
                    self._forget(known)
                digit = _Digit(next(self._ids), key, chunk.collection, glyph, label, extra)
                self._digits[chunk.collection, key] = digit
                job.digits[chunk.collection, key] = digit.id
                yield "succeeded"

    def _receipts(self, asked: wire.Receipts) -> Reply:
        job = self._jobs.get(asked.job)
        accepted = [] if job is None else sorted((seq, it) for seq, it in job.chunks.items() if seq > asked.after)
        first = None if job is None else job.begun_with
        return {"accepted": accepted, "first": first, "backlog": 0, "backlog_limit": 1, "job_limit": 10**9}

    def _job(self, id: str) -> _Job:
        if id not in self._jobs:
            raise UnknownJob(f"no job has the id {id}")
        return self._jobs[id]

    def _newest(self) -> list[_Job]:
        return list(reversed(self._jobs.values()))

    def _overview(self, asked: wire.ShowOverview) -> Reply:
        """Lanes on which nothing waits, and no worker: what is sent is done at once."""
        idle = {"waiting": 0, "queued": None, "running": None, "rate": None, "oldest_wait": None, "listening": True}
        return {
            "at": _now(),
            "live_tower": TOWER,
            "backlog": 0,
            "rate": 0.0,
            "lanes": [{"name": lane, **idle, "paused": self._pause_of(lane)} for lane in LANES],
            "workers": [],
            "jobs": [asdict(job.status) for job in self._newest()[: asked.jobs]],
        }

    def _pause(self, asked: wire.PauseWork) -> Reply:
        """It is noted and told, and holds nothing back: a job has ended when it is sent."""
        if asked.job is not None or asked.paused_lane is None:
            raise NotPausable(f"job {self._job(asked.job or '').status.id} has ended: there is nothing left to pause")
        pause = Pause(asked.by, _now(), asked.why, asked.paused_lane, asked.drain, 0 if asked.drain else None)
        self._paused[asked.paused_lane] = pause
        self._note(asked.by, "drain" if asked.drain else "pause", f"lane {asked.paused_lane}")
        return {"pause": asdict(pause)}

    def _resume(self, asked: wire.ResumeWork) -> Reply:
        if asked.job is not None:
            self._job(asked.job)
        was = self._paused.pop(asked.paused_lane or "", None) is not None
        if was:
            self._note(asked.by, "resume", f"lane {asked.paused_lane}")
        return {"resumed": was}

    def _pause_of(self, lane: str) -> Reply | None:
        return asdict(self._paused[lane]) if lane in self._paused else None

    def _note(self, by: str | None, action: str, target: str) -> None:
        self._actions.insert(0, Action(_now(), by or "not said", action, target))

    def _to_retry(self, asked: wire.FailuresToRetry) -> Reply:
        rows = [
            {**row, "job": job.status.id, "collection": job.status.collection}
            for job in self._jobs.values()
            for row in job.failures.values()
            if row["picture"] is not None
            and asked.reason in (None, row["reason"])
            and (job.status.collection, row["key"]) not in self._digits
        ]
        names = sorted({row["collection"] for row in rows})
        page = [row for row in rows if row["collection"] == asked.collection]
        return {"collections": names if asked.collection is None else [], "failures": page, "after": None}

    def _failures_of(self, asked: wire.FailuresOf) -> Reply:
        rows = sorted(self._job(asked.job).failures.values(), key=lambda row: (row["key"], row["reason"]))
        page = [row if asked.pictures else {**row, "picture": None} for row in rows if row["key"] > asked.after]
        return {"failures": page[: asked.limit]}

    def _failure_of(self, asked: wire.FailureOf) -> Reply:
        rows = [row for (key, _), row in sorted(self._job(asked.job).failures.items()) if key == asked.key]
        if not rows:
            raise UnknownKey(f"{asked.key!r:.80} is not among the failures of job {asked.job}")
        return {"failures": rows}

    def _doubtful_of(self, asked: wire.DoubtfulOf) -> Reply:
        self._job(asked.job)
        return {"digits": []}

    def _nearest(self, asked: wire.Nearest) -> Reply:
        return {"answers": [self._answer(asked, query) for query in asked.queries]}

    def _answer(self, asked: wire.Nearest, query: wire.Query) -> Reply:
        vector, own, glyph = self._vector_of(query)
        wanted = None if asked.attributes is None else json.loads(asked.attributes)
        found = sorted(
            (float(np.linalg.norm(vector - digit.vector)), digit.id, digit)
            for digit in self._all(asked.collection)
            if digit is not own
            and asked.label in (None, digit.label)
            and (wanted is None or _contains(json.loads(digit.attributes or "null"), wanted))
        )
        near = [each for each in found if asked.max_distance is None or each[0] <= asked.max_distance]
        start = int(query.after or 0)
        page = near[start : start + asked.k]
        neighbours = [{**digit.row(pictures=asked.pictures), "distance": far} for far, _, digit in page]
        return {
            "tower": TOWER,
            "exact": True,
            "compared": len(found),
            "seconds": 0.0,
            "neighbours": neighbours,
            "next": str(start + asked.k) if len(near) > start + asked.k else None,
            "threshold": THRESHOLD,
            "match": _match(near) if asked.match else None,
            "glyph": glyph if asked.pictures else None,
        }

    def _vector_of(self, query: wire.Query) -> tuple[np.ndarray[Any, Any], _Digit | None, bytes | None]:
        """The vector of what is asked about, with the stored digit that it is, or the pixels of its picture."""
        if query.vector is not None:
            if query.tower not in (None, TOWER):
                raise TowerNotLive(f"the vector is of the tower {query.tower:.12}, and {TOWER:.12} is live")
            return np.array(query.vector), None, None
        if query.key is not None:
            (own, *others) = [*(each for each in self._all(query.collection) if each.key == query.key), None]
            if own is None or others[:-1]:
                held = "no stored digit has" if own is None else "several collections have"
                raise UnknownKey(f"{held} the key {query.key!r}")
            return own.vector, own, None
        try:
            glyph = query.glyph or _read(query.encoded or b"")
            return _vector(glyph), None, glyph
        except _Refused as error:
            raise PictureRefused(f"{error.reason}: {error}") from None

    def _all(self, collection: str | list[str] | None = None) -> list[_Digit]:
        """In the order in which they were stored."""
        names = [collection] if isinstance(collection, str) else collection
        found = (digit for digit in self._digits.values() if names is None or digit.collection in names)
        return sorted(found, key=lambda digit: digit.id)

    def _list_digits(self, asked: wire.ListDigits) -> Reply:
        found = [
            digit
            for digit in self._all(asked.collection)
            if digit.id > asked.after and asked.label in (None, digit.label)
        ]
        page = found[: asked.limit]
        more = len(found) > len(page)
        return {"digits": [each.row(pictures=asked.pictures) for each in page], "after": page[-1].id if more else None}

    def _get_digits(self, asked: wire.GetDigits) -> Reply:
        found = (self._digits.get((asked.collection, key)) for key in asked.keys)
        return {"digits": [digit.row(pictures=asked.pictures) for digit in found if digit is not None]}

    def _collections(self, asked: wire.ListCollections) -> Reply:
        names = sorted({digit.collection for digit in self._all()})
        held = {name: self._all(name) for name in names}
        rows = [
            {"name": name, "digits": len(some), "labelled": sum(each.label is not None for each in some)}
            for name, some in held.items()
        ]
        return {"collections": rows}

    def _annotate(self, asked: wire.Annotate) -> Reply:
        stored = []
        for at, key in enumerate(asked.keys):
            if (digit := self._digits.get((asked.collection, key))) is not None:
                stored.append(key)
                digit.label = digit.label if asked.labels is None else asked.labels[at]
                digit.attributes = digit.attributes if asked.attributes is None else asked.attributes[at]
        return {"keys": stored}

    def _delete(self, asked: wire.Delete) -> Reply:
        gone = [
            digit for digit in self._all(asked.collection) if asked.keys is None or digit.key in set(asked.keys)
        ]  # fmt: skip
        judgements = sum(map(self._forget, gone))
        pictures = 0
        for job in self._jobs.values():
            for row in job.failures.values() if job.status.collection == asked.collection else ():
                if row["picture"] is not None and (asked.keys is None or row["key"] in asked.keys):
                    row["picture"], pictures = None, pictures + 1
        counts = {"digits": len(gone), "vectors": len(gone), "judgements": judgements}
        return {**counts, "pictures": pictures, "left": 0, "towers": [], "trainings": []}

    def _forget(self, digit: _Digit) -> int:
        """How many judgements went with it."""
        del self._digits[digit.collection, digit.key]
        others = [each for each in self._digits.values() if each.judged.pop(digit.id, None) is not None]
        return len(others) + len(digit.judged)

    def _judge(self, asked: wire.Judge) -> Reply:
        left_out = []
        for at, (key, other, same) in enumerate(zip(asked.keys, asked.others, asked.same, strict=True)):
            pair = [self._digits.get((asked.collection, key)), self._digits.get((asked.other_collection, other))]
            digits = sorted((each for each in pair if each is not None), key=lambda digit: digit.id)
            if len(digits) < 2 or digits[0] is digits[1]:
                left_out.append(at)
            elif same is None:
                digits[0].judged.pop(digits[1].id, None)
            else:
                digits[0].judged[digits[1].id] = same, asked.by, _now()
        return {"left_out": left_out}

    def _judgements(self, asked: wire.ListJudgements) -> Reply:
        by_id = {digit.id: digit for digit in self._all()}
        rows = [
            {
                "key": digit.key,
                "collection": digit.collection,
                "other_key": by_id[other].key,
                "other_collection": by_id[other].collection,
                "same": same,
                "by": by,
                "at": at,
            }
            for digit in by_id.values()
            for other, (same, by, at) in digit.judged.items()
            if asked.collection in (None, digit.collection, by_id[other].collection)
        ]
        page = rows[asked.after : asked.after + asked.limit]
        end = asked.after + len(page)
        return {"judgements": page, "after": end if end < len(rows) else None}

    def _vectors(self, asked: wire.ListVectors) -> Reply:
        found = [digit for digit in self._all(asked.collection) if digit.id > asked.after]
        page = found[: asked.limit]
        return {
            **_with_vectors(page),
            "looked_at": len(page),
            "after": page[-1].id if len(found) > len(page) else None,
            "total": min(len(found), asked.count) if asked.count else None,
        }

    def _vectors_of_keys(self, asked: wire.GetVectors) -> Reply:
        found = (self._digits.get((asked.collection, key)) for key in asked.keys)
        return _with_vectors([digit for digit in found if digit is not None])

    def _vectors_of_job(self, asked: wire.VectorsOfJob) -> Reply:
        found = ((self._digits.get(place), id) for place, id in self._job(asked.job).digits.items())
        return {**_with_vectors([digit for digit, id in found if digit is not None and digit.id == id]), "after": None}

    def _towers(self, asked: wire.ListTowers) -> Reply:
        tower = {
            "id": 1,
            "fingerprint": TOWER,
            "status": "live",
            "recipe": "fake",
            "seed": 0,
            "metrics": {},
            "threshold": THRESHOLD,
            "created_at": _now(),
            "embedded": len(self._digits),
            "due": 0,
        }
        return {"towers": [tower]}


class FakeTwinvec(Twinvec):
    """A `Twinvec` that answers from memory. memory: another fake's, to see what that one has stored."""

    def __init__(self, *, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory
        super().__init__(connection=self.memory)


class FakeAsyncTwinvec(AsyncTwinvec):
    """An `AsyncTwinvec` that answers from memory."""

    def __init__(self, *, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory
        super().__init__(connection=self.memory)


def _with_vectors(digits: list[_Digit]) -> Reply:
    return {
        "tower": TOWER,
        "keys": [digit.key for digit in digits],
        "collections": [digit.collection for digit in digits],
        "labels": [digit.label for digit in digits],
        "vectors": np.array([digit.vector for digit in digits], "<f4").tobytes(),
    }


class _Refused(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _read(picture: bytes) -> bytes:
    """A file's bytes -> 784 bytes, light on black. Raises _Refused."""
    if not picture:
        raise _Refused("empty", "no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(picture)).convert("L")
    except Exception as error:  # Pillow raises of many kinds; the fake has one reason
        raise _Refused("not_a_picture", f"no picture: {error}") from None
    pixels = np.asarray(image.resize((SIDE, SIDE)), np.uint8)
    if pixels.min() == pixels.max():
        raise _Refused("blank", "no stroke stands out from the paper")
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return (255 - pixels if np.median(edge) > 127 else pixels).tobytes()


def _vector(pixels: bytes) -> np.ndarray[Any, Any]:
    vector: np.ndarray[Any, Any] = np.frombuffer(pixels, np.uint8) / 255 @ _PROJECTION
    return vector


def _contains(held: Any, wanted: Any) -> bool:
    """As PostgreSQL's `@>` has it, of objects and values."""
    if isinstance(wanted, dict):
        return isinstance(held, dict) and all(
            name in held and _contains(held[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(held, list) and all(any(_contains(each, value) for each in held) for value in wanted)
    return bool(held == wanted) and isinstance(held, bool) == isinstance(wanted, bool)


def _match(near: list[tuple[float, int, _Digit]]) -> Reply:
    labels = [digit.label for _, _, digit in near[:10] if digit.label is not None]
    matched = bool(near) and near[0][0] <= THRESHOLD
    label = max(labels, key=labels.count) if matched and labels else None
    share = None if label is None else labels.count(label) / len(labels)
    return {"matched": matched, "label": label, "probability": share, "voters": len(labels)}


def _new_status(chunk: wire.Intake) -> JobStatus:
    return JobStatus(
        id=chunk.job,
        kind="embed",
        collection=chunk.collection,
        state="receiving",
        total=None,
        accepted=0,
        succeeded=0,
        unchanged=0,
        failed=0,
        cancelled=0,
        created_at=_now(),
        seconds=0.0,
        message=None,
        progress=None,
        outcome=None,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()
