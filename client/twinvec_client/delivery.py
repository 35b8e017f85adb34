"""Delivers a stream of pictures as a job: each chunk is kept until it is accepted, and sent again if that takes long.

Knows when chunks are sent and accepted; how a stream is cut into them is `chunks`' affair.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from twinvec_client import bars
from twinvec_client.chunks import JobOptions, chunks
from twinvec_client.connection import Connection
from twinvec_client.contract.answers import Pause
from twinvec_client.contract.limits import MAX_CHUNK_ITEMS
from twinvec_client.contract.messages import Express, Intake, Receipts, StatusOf
from twinvec_client.errors import IdempotencyConflict, InvalidRequest, NoAnswer, Paused, PicturesLost
from twinvec_client.outage import TRANSIENT, Outage
from twinvec_client.results import JobStatus

log = logging.getLogger(__name__)

SOON, LATE = 0.02, 0.5  # seconds between two requests for receipts, at least and at most
FEW = 100  # pictures that are sent without asking first whether a worker answers: that would take as long as sending
_JOBS = uuid.UUID("6f0e9c62-8a0b-5ad0-9e1c-2f5c1f0d7a11")  # the namespace of idempotency keys


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How much is sent at a time, and how long is waited for it.

    chunk: pictures sent at a time, and embedded as a batch. window: chunks sent and not yet accepted, which bounds
    the memory here and in Redis. window_bytes: of them, before more wait, because chunks of large pictures are larger.
    resend_after: seconds without acceptance before a chunk is sent again, doubled each time. accept_timeout: seconds
    without any acceptance before the client gives up. outage: seconds that broker or database may be away while a
    call is under way. pause_timeout: seconds that it waits while an operator has paused the taking in of pictures.
    """

    chunk: int = MAX_CHUNK_ITEMS
    window: int = 16
    window_bytes: int = 16 * 2**20
    resend_after: float = 20.0
    accept_timeout: float = 180.0
    outage: float = 60.0
    pause_timeout: float = 3600.0


def new_job(idempotency_key: str | None = None, collection: str = "default") -> str:
    """A job's id: the same for the same key in the same collection, else a random one."""
    if idempotency_key is None:
        return str(uuid.uuid4())
    return str(uuid.uuid5(_JOBS, f"{collection}\0{idempotency_key}"))  # a collection's name has no NUL


def deliver(
    connection: Connection, pictures: Any, options: JobOptions, *, pace: Pace, progress: bool = False
) -> JobStatus | None:
    """Send a job's pictures; returns once every one of them stands in SQL: how the job ended, where it has by then.

    Raises BrokerUnavailable, NoAnswer, Paused, DatabaseUnavailable, IdempotencyConflict, InvalidRequest, PicturesLost,
    and what the stream itself raises.
    """
    total = len(pictures) if isinstance(pictures, Sized) else None
    try:
        stream = chunks(pictures, options, most=pace.chunk)
        with bars.bar(progress, "send", total=total) as bar:
            delivery = _Delivery(connection, options.job, pace, bar)
            delivery.run(stream, total)
            return delivery.ended
    except BaseException as error:
        error.add_note(
            f"Job {options.job} keeps what was accepted. Send the same pictures with the same idempotency_key to go "
            f"on, or cancel it."
        )
        raise


def require_all(job: str, state: str) -> None:
    """Raises PicturesLost where a job of which all was accepted is said to be still received."""
    if state in ("receiving", "abandoned"):
        raise PicturesLost(
            f"job {job}: pictures that were accepted are no longer stored, as after the database was restored from an "
            f"older backup; send all of them again under the same idempotency key"
        )


class Window:
    """The chunks that were sent and are not yet accepted, oldest first, and whether more may follow.

    chunks, size: how many of them, and bytes of them, may be under way.
    """

    def __init__(self, chunks: int, size: int) -> None:
        self.chunks, self.size = chunks, size
        self.backlogged = False  # whether the workers' backlog of digits to embed is full
        self.paused = False  # whether no chunk is taken in until an operator resumes that
        self._sent: dict[int, _Sent] = {}  # by seq

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def first(self) -> int | None:
        """The lowest seq under way."""
        return min(self._sent, default=None)

    @property
    def is_full(self) -> bool:
        return len(self) >= self.chunks or self._bytes() > self.size or self.backlogged or self.paused

    @property
    def has_room(self) -> bool:
        """Whether a quarter is free: with receipts asked for after every chunk, workers would do little but answer."""
        few = len(self) <= self.chunks * 3 // 4 and self._bytes() <= self.size * 3 // 4
        return few and not self.backlogged and not self.paused

    @property
    def awaited(self) -> int:
        """How many chunks are worth a request for receipts: those that make room, or half of the last ones."""
        return max(len(self) - self.chunks * 3 // 4, 1) if self.is_full else (len(self) + 1) // 2

    def add(self, chunk: Intake, resend_after: float) -> None:
        self._sent[chunk.seq] = _Sent(chunk, resend_after)

    def remove(self, seq: int) -> Intake | None:
        """The chunk that was accepted; None where it is not under way."""
        sent = self._sent.pop(seq, None)
        return None if sent is None else sent.chunk

    def rest(self) -> None:
        """Count the time of chunks under way from now: before, none could be accepted."""
        for sent in self._sent.values():
            sent.since = time.monotonic()

    def overdue(self) -> list[Intake]:
        """The chunks to send again now; each then waits twice as long as before."""
        return [sent.chunk for sent in self._sent.values() if sent.overdue()]

    def _bytes(self) -> int:
        return sum(sent.size for sent in self._sent.values())


class _Sent:
    def __init__(self, chunk: Intake, timeout: float) -> None:
        self.chunk, self.timeout, self.since = chunk, timeout, time.monotonic()
        self.size = len(chunk.glyphs) + sum(map(len, chunk.encoded))  # bytes, about

    def overdue(self) -> bool:
        if time.monotonic() - self.since < self.timeout:
            return False
        self.since, self.timeout = time.monotonic(), self.timeout * 2
        return True


class _Delivery:
    """One job under way."""

    def __init__(self, connection: Connection, job: str, pace: Pace, bar: bars.Bar) -> None:
        self.connection, self.job, self.pace, self.bar = connection, job, pace, bar
        self.window = Window(pace.window, pace.window_bytes)
        self.last_sent = -1
        self.last: int | None = None  # the seq of the last chunk, once it is known
        self.messages: deque[str] = deque(maxlen=pace.window)  # ids of those that were sent last, newest first
        self.most: int | None = None  # pictures a job may have; known with the first receipts
        self.pause = SOON  # seconds between two requests for receipts; grows while none come
        self.each = 0.0  # seconds from one accepted chunk to the next, lately
        self.outage = Outage(pace.outage)
        self.accepted_at = time.monotonic()  # when a chunk was last accepted, or none was due
        self.known: dict[int, bytes] = {}  # digests of chunks that were accepted before they were sent here
        self.first: bytes | None = None  # the digest of this stream's first chunk
        self.paused_since: float | None = None  # since when the workers say that they take nothing in
        self.backlog: tuple[int, float] | None = None  # the least that it was while full, and since when
        self.ended: JobStatus | None = None  # how a small job did, where the answer says it
        self.begun_with: bytes | None = None  # that of the stream which the job was begun with, where a receipt says it

    def run(self, stream: Iterator[Intake], total: int | None) -> None:
        if total is None or total > FEW:
            self._collect()  # whether a worker answers, before the stream is touched
            self._check(total or 0)
        sent = 0
        for chunk in stream:
            sent += len(chunk.keys)
            self._check(sent)
            self.last_sent, self.first = chunk.seq, chunk.first
            self._check_stream(chunk.seq if chunk.total is not None else None)
            if chunk.seq in self.known:  # by an earlier call under the same idempotency key
                self._compare(chunk, self.known.pop(chunk.seq))
                self.bar.advance(len(chunk.keys))
                if not self.known:
                    self._collect()  # receipts come page by page
                continue
            if total is not None and sent == total <= FEW:
                if self._hand_over(chunk):
                    self.bar.advance(sent)
                    continue
                chunk = replace(chunk, resent=True)
            self._send(chunk)
            self.window.add(chunk, self.pace.resend_after)
            if self.window.is_full:
                while not self.window.has_room:
                    self._collect()
        while self.window:
            self._collect()
        if self.last_sent > 0:
            self._require_all()

    def _require_all(self) -> None:
        """Raises PicturesLost where a database that was restored meanwhile has not all that it had accepted."""
        while True:
            try:
                status = self.connection.ask(StatusOf(job=self.job), timeout=self.outage.timeout)
            except TRANSIENT as error:
                self.outage.endure(error)
            else:
                return require_all(self.job, status["state"])

    def _check(self, count: int) -> None:
        if self.most is not None and count > self.most:
            raise InvalidRequest(
                f"{count:,} pictures in one job: at most {self.most:,} are taken, so send several jobs"
            )

    def _hand_over(self, chunk: Intake) -> bool:
        """Send a small job's last chunk and wait for its acceptance; False where no answer comes in time.

        One answer instead of requests for receipts. Raises where there is no broker, or no database behind it.
        """
        try:
            answer = self.connection.ask(Express.of(chunk) or chunk, timeout=self.pace.resend_after)
        except Paused as paused:  # it is sent as a chunk among others, which waits
            self._wait_for_resume(str(paused))
            return False
        except NoAnswer:  # it may have been accepted, or have ended the process that took it
            return False
        except TRANSIENT as error:
            self.outage.endure(error)
            return False
        self.outage.over()
        self._compare(chunk, answer["digest"])
        if (status := answer.get("status")) is not None:  # which a worker of a version before does not say
            self.ended = JobStatus.read(status)
        return True

    def _send(self, chunk: Intake) -> None:
        """Send a chunk; what a broker that restarts does not take is sent again when it is overdue."""
        try:
            self.messages.appendleft(self.connection.send(chunk))
        except TRANSIENT as error:
            self.outage.endure(error)

    def _collect(self) -> None:
        """Read receipts; with none, wait a moment and send again what has waited too long."""
        first = self.window.first
        accepted_before = (self.last_sent + 1 if first is None else first) - 1
        try:
            answer = self.connection.ask(Receipts(job=self.job, after=accepted_before), timeout=self.outage.timeout)
        except TRANSIENT as error:
            self.outage.endure(error)
            return
        self.outage.over()
        self.window.backlogged = answer["backlog"] >= answer["backlog_limit"]
        self.most = answer["job_limit"]
        self.begun_with = answer.get("first")  # which a worker of a version before does not say
        waiting = len(self.window)
        accepted = sum(self._accept(seq, digest) for seq, digest in answer["accepted"])
        if came := waiting - len(self.window):
            self.each = (time.monotonic() - self.accepted_at) / came
        self._check_stream()
        self.bar.advance(accepted)
        self._watch_backlog(answer["backlog"])
        paused = answer.get("paused")  # which a worker of a version before does not say
        self._wait_for_resume(None if paused is None else str(Pause.read(paused)))
        if accepted or not self.window or self.window.paused:
            self.accepted_at = time.monotonic()
        elif time.monotonic() - self.accepted_at > self.pace.accept_timeout:
            raise NoAnswer(f"no chunk was accepted for {self.pace.accept_timeout:g} s: {self._why()}")
        self._wait(accepted)
        for chunk in self.window.overdue():
            self._send(replace(chunk, resent=True))

    def _watch_backlog(self, backlog: int) -> None:
        """Say that the backlog is full. Raises NoAnswer where nothing of it is embedded for too long."""
        now = time.monotonic()
        if not self.window.backlogged:
            self.backlog = None
            return
        if self.backlog is None:
            log.warning("job %s waits: %s digits are to be embedded first, the most that may wait", self.job, backlog)
        if self.backlog is None or backlog < self.backlog[0]:
            self.backlog = (backlog, now)
        elif now - self.backlog[1] > self.pace.accept_timeout:
            raise NoAnswer(
                f"{backlog:,} digits wait to be embedded, the most that may, and none was for "
                f"{self.pace.accept_timeout:g} s: is a tower live, and does a worker run on the lane `embed`?"
            )

    def _wait_for_resume(self, said: str | None) -> None:
        """Note that the taking in of pictures is paused, or goes on. Raises Paused where that lasts too long."""
        self.window.paused = said is not None
        if said is None:
            if self.paused_since is not None:
                self.bar.note(None)
            self.paused_since = None
            return
        self.window.rest()
        if self.paused_since is None:
            self.paused_since = time.monotonic()
            log.warning("job %s waits: %s", self.job, said)
            self.bar.note(said)
        if time.monotonic() - self.paused_since > self.pace.pause_timeout:
            raise Paused(f"no picture is taken in for {self.pace.pause_timeout:g} s: {said}")

    def _accept(self, seq: int, digest: bytes) -> int:
        """How many pictures a receipt accepts."""
        chunk = self.window.remove(seq)
        if chunk is None:
            if seq > self.last_sent:
                self.known[seq] = digest
            return 0
        self._compare(chunk, digest)
        return len(chunk.keys)

    def _compare(self, chunk: Intake, accepted: bytes) -> None:
        if not accepted:
            raise IdempotencyConflict(f"job {self.job} was begun with other pictures, keys or labels, or with more")
        if chunk.digest != accepted:
            raise IdempotencyConflict(
                f"chunk {chunk.seq} of job {self.job} was accepted before with other pictures, keys or labels"
            )

    def _check_stream(self, last: int | None = None) -> None:
        """Raises IdempotencyConflict where the job was begun with other pictures, or has some beyond the last chunk."""
        self.last = self.last if last is None else last
        if None not in (self.first, self.begun_with) and self.first != self.begun_with:
            raise IdempotencyConflict(f"job {self.job} was begun with other pictures, keys or labels")
        if self.last is not None and any(seq > self.last for seq in self.known):
            raise IdempotencyConflict(f"job {self.job} was sent more pictures before than these")

    def _wait(self, accepted: int) -> None:
        if self.window.backlogged or self.window.paused:
            time.sleep(0.25)
        elif self.window:
            # Each request costs workers as much as a hundred pictures.
            pause = self.each * self.window.awaited if accepted else self.pause * 1.5
            self.pause = min(max(pause, SOON), LATE)
            time.sleep(self.pause)

    def _why(self) -> str:
        """What keeps chunks from being accepted, as far as a worker said it."""
        failure = next(filter(None, map(self.connection.failure_of, self.messages)), None)
        return "does a worker run on the lane `intake`?" if failure is None else f"the worker says: {failure}"
