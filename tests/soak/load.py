"""An application at work for an hour: it sends digits again and again, asks, cancels, trains and is called back.

Its keys stay the same and its pixels change, so that what it stores has the same size at any time. It knows the client
alone, and of the broker the queue on which it is called.
"""

import base64
import io
import json
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import redis
from PIL import Image

from tests.chaos.corrupt import KINDS, corrupt_files
from tests.chaos.pictures import digests
from twinvec_client import Callback, EmbedJob, JobStatus, Twinvec
from twinvec_client.delivery import new_job
from twinvec_client.errors import BrokerUnavailable, DatabaseUnavailable, NoAnswer, NotEmbedded, UnknownJob, UnknownKey

DIGITS, DAMAGED, CANCELLED, ABANDONED = "digits", "damaged", "cancelled", "abandoned"  # collections
CALLBACK = Callback("application.embedded", queue="application")
EVERY = 2.0  # seconds between two jobs
DAMAGED_EVERY = 15  # jobs, of which one has files that cannot be read
SOUND = 76  # files of such a job that can
SHADES = 81  # that a digit comes in; set as MNIST's digits are, it is taken as it is
WAIT = 300.0  # seconds that a job may take
SHARE = 1 / 10  # of the full load, at which it works
REASONS = {f"bad/{kind}": reason for kind, (reason, _) in KINDS.items()}  # of the files that cannot be read, by key
IN_PASSING = (NoAnswer, BrokerUnavailable, DatabaseUnavailable)  # a worker died with the request

Array = np.ndarray[Any, Any]


class Gone(Exception):
    """The application that sends dies in the middle of its stream."""


class Load:
    """Threads that use the client until `stop`. digits: (n, 28, 28) uint8, one for each key.

    `problems` are sentences; `sent` has the SHA-256 of the pixels that were accepted last, by collection and key (of
    jobs that are cancelled or left no one knows which were stored); `damaged` are the jobs whose failures are REASONS.
    """

    def __init__(self, broker_url: str, digits: Array) -> None:
        self._url, self._digits = broker_url, digits
        self._broker = redis.Redis.from_url(broker_url)
        self._own = threading.local()
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._waiters = ThreadPoolExecutor(16, thread_name_prefix="waiter")
        self._left: dict[int, Future[None]] = {}  # jobs that were left half sent, by which keys they have
        self._passes = 0
        self._lock = threading.Lock()
        self.rate = 0.0  # digits a second
        self.sent: dict[str, dict[str, bytes]] = {DIGITS: {}, DAMAGED: {}, CANCELLED: {}, ABANDONED: {}}
        self.damaged: list[str] = []
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.look_ups: deque[float] = deque(maxlen=1000)  # seconds
        self.due: set[str] = set()  # jobs that have ended and are to be called back
        self.called: Counter[str] = Counter()
        self.towers: list[int] = []  # those that were trained

    def client(self) -> Twinvec:
        """This thread's."""
        if not hasattr(self._own, "client"):
            self._own.client = Twinvec(self._url)
        client: Twinvec = self._own.client
        return client

    def begin(self) -> float:
        """Store every digit, and send every digit again without a pause; digits a second."""
        self._whole_pass()
        start = time.monotonic()
        self._whole_pass()
        full = len(self._digits) / (time.monotonic() - start)
        self.rate = full * SHARE
        self._see_end(self._send(pictures := self._to_cancel(0), CANCELLED, "stored once"), len(pictures))
        return full

    def start(self, *, trainings: float, cancels: float) -> None:
        """Work at `rate`. trainings, cancels: seconds between two, or infinity. Jobs are left as often as cancelled."""
        for name, work in {
            "sender": self._send_all,
            "asker": self._ask_all,
            "called": self._take_calls,
            "canceller": lambda: self._repeat(cancels, self.cancel_one),
            "leaver": lambda: self._repeat(cancels, self.leave_one),
            "trainer": lambda: self._repeat(trainings, self.train),
        }.items():
            thread = threading.Thread(target=self._noting(work), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, within: float = 600) -> None:
        """Come to an end, with every job that was sent."""
        self._ending.set()
        deadline = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.problems.append(f"{thread.name} has not come back after {within:g} s")
        self._waiters.shutdown()
        self._take_calls_until(deadline)

    def train(self, seed: int) -> None:
        """Train a tower and see it live."""
        tower = self.client().train(recipe="quick", seed=seed).wait(timeout=WAIT).tower
        deadline = time.monotonic() + WAIT
        while self._status_of(tower) != "live":
            if time.monotonic() > deadline:
                self.problems.append(f"tower {tower} is {self._status_of(tower)} {WAIT:g} s after its training")
                return
            time.sleep(0.5)
        self.towers.append(tower)

    def cancel_one(self, number: int) -> None:
        """Send a large job and cancel it while it is sent and embedded."""
        key = f"cancelled {number}"
        sending = self._waiters.submit(self._send, self._to_cancel(number), CANCELLED, key, chunk=256)
        deadline = time.monotonic() + WAIT
        while not sending.done() and time.monotonic() < deadline:
            try:
                time.sleep(0.2)
                self.client().job(new_job(key, CANCELLED)).cancel()
                break
            except (UnknownJob, *IN_PASSING):
                continue
        job = sending.result(WAIT)
        job.wait(timeout=WAIT)
        status = self._status(job)
        accounted = status.succeeded + status.unchanged + status.failed + status.cancelled
        if status.state not in ("cancelled", "finished") or accounted != status.accepted:
            self.problems.append(f"a job that was cancelled is {status}")
        self._ended(status)
        self.counts[f"jobs {status.state}, of those to cancel"] += 1

    def _to_cancel(self, number: int) -> dict[str, Array]:
        glyphs = self._paled(number, 0, max(int(4 * self.rate), 200))
        return {f"cancelled/{at:05}": glyph for at, glyph in enumerate(glyphs)}

    def leave_one(self, number: int) -> None:
        """Send a part of a job, and never the rest; it must end, with what was accepted."""
        keys = number % 4  # other pixels under a key whose job goes on would supersede it
        if keys in self._left:
            self._left[keys].result()
        glyphs = self._paled(number, 0, 400)

        def stream() -> Iterator[tuple[str, Array]]:
            yield from ((f"gone/{keys}/{at:03}", glyph) for at, glyph in enumerate(glyphs))
            raise Gone

        client, key = self.client(), f"{ABANDONED} {number}"
        client.chunk = 100
        try:
            client.embed(stream(), collection=ABANDONED, idempotency_key=key, on_finish=CALLBACK)
        except Gone:
            self._left[keys] = self._waiters.submit(self._noting(partial(self._see_abandoned, new_job(key, ABANDONED))))

    def _see_abandoned(self, id: str) -> None:
        job = self._find(id)
        if job is None:
            self.counts["jobs of which no chunk arrived"] += 1
            return
        job.wait(timeout=WAIT)
        status = self._status(job)
        accounted = status.succeeded + status.unchanged + status.failed
        if status.state != "abandoned" or accounted != status.accepted:
            self.problems.append(f"a job whose client has gone is {status}")
        self._ended(status)
        self.counts["jobs abandoned"] += 1

    def _find(self, id: str) -> EmbedJob | None:
        """A job, once it is known; None where it is not after a while."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                job = self.client().job(id)
                assert isinstance(job, EmbedJob)
                return job
            except (UnknownJob, *IN_PASSING):
                time.sleep(0.5)
        return None

    def _send_all(self) -> None:
        """Blocks of digits, one after the other and from the first again, at the pace of `rate`."""
        block = max(int(self.rate * EVERY), 1)
        starts = range(0, len(self._digits), block)
        pending: dict[int, Future[None]] = {}
        begin, sent, turn = time.monotonic(), 0, 0
        damaged: Future[None] | None = None
        while not self._ending.is_set():
            first = starts[turn % len(starts)]
            if first in pending:
                pending[first].result()  # other pixels under a key whose job goes on would supersede it
            if first == 0:
                self._passes += 1
            glyphs = self._paled(self._passes, first, block)
            pictures = {f"{at:05}": glyph for at, glyph in enumerate(glyphs, first)}
            job = self._send(pictures, DIGITS, f"{DIGITS} {turn}")
            pending[first] = self._waiters.submit(self._noting(partial(self._see_end, job, len(pictures))))
            sent += len(pictures)
            turn += 1
            if turn % DAMAGED_EVERY == 1:
                if damaged is not None:
                    damaged.result()
                damaged = self._waiters.submit(self._noting(partial(self._send_damaged, turn)))
            self._ending.wait(max(0.0, begin + sent / self.rate - time.monotonic()))
        for waiting in pending.values():
            waiting.result()

    def _send_damaged(self, number: int) -> None:
        """Files, of which one of each kind cannot be read."""
        bad = {f"bad/{kind}": file for kind, file, _ in corrupt_files(len(KINDS), seed=number)}
        first = number * SOUND % (len(self._digits) - SOUND)
        glyphs = {f"sound/{at:02}": glyph for at, glyph in enumerate(self._digits[first : first + SOUND])}
        job = self._send({key: png(glyph) for key, glyph in glyphs.items()} | bad, DAMAGED, f"{DAMAGED} {number}")
        self.sent[DAMAGED].update(digests(glyphs))
        self.damaged.append(job.id)
        self._see_end(job, len(glyphs), len(bad))
        kept = {failure.key: failure for failure in job.failures(pictures=True)}
        if {key: failure.reason for key, failure in kept.items()} != REASONS:
            self.problems.append(f"job {job.id} lists the failures {sorted(kept)}")
        if {key: failure.picture for key, failure in kept.items()} != bad:
            self.problems.append(f"job {job.id} has not kept what was sent")

    def _see_end(self, job: EmbedJob, count: int, failing: int = 0) -> None:
        """Wait for a job; every picture of it must be embedded, but for those that must fail."""
        job.wait(timeout=WAIT)
        status = self._status(job)
        if (status.succeeded + status.unchanged, status.failed, status.cancelled) != (count, failing, 0):
            self.problems.append(f"of {count} pictures and {failing} that must fail: {status}")
        self._ended(status)
        self.counts["digits embedded"] += status.succeeded
        self.counts["digits unchanged"] += status.unchanged
        self.counts["failures"] += status.failed
        self.counts["jobs finished"] += 1

    def _whole_pass(self) -> None:
        """Send every digit, without a pause, and wait until all are embedded."""
        self._passes += 1
        glyphs = self._paled(self._passes, 0, len(self._digits))
        pictures = {f"{at:05}": glyph for at, glyph in enumerate(glyphs)}
        job = self._send(pictures, DIGITS, f"pass {self._passes}")
        self._see_end(job, len(pictures))

    def _send(self, pictures: dict[str, Any], collection: str, key: str, *, chunk: int = Twinvec.chunk) -> EmbedJob:
        """Send a job, again under its key where no answer came."""
        client = self.client()
        client.chunk = chunk
        for last in (False,) * 10 + (True,):
            try:
                # Not normalised: the oracle knows what was sent.
                job = client.embed(
                    pictures, collection=collection, idempotency_key=key, normalise=False, on_finish=CALLBACK
                )
                break
            except IN_PASSING as error:
                self.counts[f"jobs sent again after {type(error).__name__}"] += 1
                if last:
                    raise
        if collection == DIGITS:
            self.sent[collection].update(digests(pictures))
        self.counts["digits sent"] += len(pictures)
        return job

    def _paled(self, number: int, first: int, count: int) -> Array:
        """Digits from `first` on, other pixels for every number than for the one before."""
        digits = self._digits[first : first + count]
        return digits - (digits > 100) * np.uint8(number * 7 % SHADES)

    def _ask_all(self) -> None:
        client, random = self.client(), np.random.default_rng(1)
        for number in self._turns(0.5):
            at = int(random.integers(len(self._digits)))
            start = time.monotonic()
            try:
                if number % 20 == 0:
                    client.nearest_many(list(self._digits[at : at + 64]), k=5)
                elif number % 2:
                    client.nearest(key=f"{at:05}", collection=DIGITS, k=5)
                else:
                    client.nearest(self._digits[at], k=5)
                    self.look_ups.append(time.monotonic() - start)
                if number % 10 == 0:
                    client.jobs(limit=20)
                self.counts["queries"] += 1
            except (NotEmbedded, UnknownKey):  # its digit is being replaced
                self.counts["queries for a digit that is being replaced"] += 1
            except IN_PASSING as error:
                self.counts[f"queries that ended with {type(error).__name__}"] += 1

    def _take_calls(self) -> None:
        while not self._ending.is_set():
            self._take_call()

    def _take_calls_until(self, deadline: float) -> None:
        """Take calls until every job that has ended was called back."""
        while self.due - set(self.called) and time.monotonic() < deadline:
            self._take_call()
        if missing := self.due - set(self.called):
            self.problems.append(f"{len(missing)} jobs were never called back: {sorted(missing)[:5]}")
        self.counts["jobs called back"] = len(self.called)
        self.counts["calls beyond one for each job"] = self.called.total() - len(self.called)

    def _take_call(self) -> None:
        try:
            found: Any = self._broker.brpop([CALLBACK.queue], timeout=1)
        except redis.RedisError:
            time.sleep(0.5)
            return
        if found is None:
            return
        outcome = json.loads(base64.b64decode(json.loads(found[1])["body"]))[0][0]
        self.called[outcome["id"]] += 1

    def _status(self, job: EmbedJob) -> JobStatus:
        """Where a job stands, asked again where the worker died that was to answer."""
        while True:
            try:
                return job.status()
            except IN_PASSING as error:
                self.counts[f"requests that ended with {type(error).__name__}"] += 1

    def _ended(self, status: JobStatus) -> None:
        with self._lock:
            self.due.add(status.id)

    def _status_of(self, tower: int) -> str:
        try:
            return next(str(each.status) for each in self.client().towers() if each.id == tower)
        except IN_PASSING:
            return "unknown"

    def _repeat(self, every: float, work: Callable[[int], None]) -> None:
        for number in self._turns(every):
            try:
                work(number)
            except IN_PASSING as error:
                self.counts[f"requests that ended with {type(error).__name__}"] += 1

    def _turns(self, every: float) -> Iterator[int]:
        """1, 2, 3, ..., one every so many seconds, until the end."""
        number = 0
        while not self._ending.wait(None if every == math.inf else every):
            number += 1
            yield number

    def _noting(self, work: Callable[[], None]) -> Callable[[], None]:
        """The same; what it raises is a problem."""

        def noting() -> None:
            try:
                work()
            except Exception as error:
                self.problems.append(f"{threading.current_thread().name}: {type(error).__name__}: {error}")

        return noting


def png(glyph: Array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(glyph).save(file, "PNG")
    return file.getvalue()
