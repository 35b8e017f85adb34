"""The handle an application holds: enqueue pictures, follow jobs, look up neighbours."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence, Sized
from contextlib import suppress
from dataclasses import replace
from typing import Any

import celery.exceptions
import kombu.exceptions
import numpy as np
import redis.exceptions
from celery import Celery

from twinvec_client import bars
from twinvec_client.callback import Callback
from twinvec_client.chunks import Attributes, Labels, chunks
from twinvec_client.contract.broker import KEY_PREFIX, SERIALIZER, safe_url
from twinvec_client.contract.limits import MAX_CHUNK_ITEMS, MAX_COLLECTION_CHARS, MAX_K, MAX_KEY_CHARS, is_name
from twinvec_client.contract.messages import (
    GLYPH,
    REFUSED,
    Intake,
    ListDead,
    ListJobs,
    ListTowers,
    Message,
    Nearest,
    Receipts,
    Requeue,
    StartTraining,
    StatusOf,
)
from twinvec_client.errors import (
    BrokerUnavailable,
    IdempotencyConflict,
    InvalidRequest,
    NoAnswer,
    PictureRefused,
    UnknownJob,
    revive,
)
from twinvec_client.job import EmbedJob, TrainingJob
from twinvec_client.outage import TRANSIENT, Outage
from twinvec_client.pictures import encode
from twinvec_client.results import Answer, DeadBatch, JobStatus, Tower

_DOWN = (
    kombu.exceptions.OperationalError,
    redis.exceptions.RedisError,
    RuntimeError,  # how Celery's result backend says that it gave up
)
_RETRY_POLICY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}  # with a broker
_QUERIES_A_REQUEST = 100
FEW = 100  # pictures that are sent without asking first whether anybody is there: it would take as long as sending them
_JOBS = uuid.UUID("6f0e9c62-8a0b-5ad0-9e1c-2f5c1f0d7a11")  # the namespace of idempotency keys


class Twinvec:
    """A client of one Twinvec installation.

    broker_url: `redis://` or `rediss://`, the same as the workers'; the certificate behind `rediss://` is checked,
    against the authorities in the file of `?ssl_ca_certs=` where that is given. answer_timeout: seconds to wait for a
    worker's answer. Nothing is connected before the first call.
    """

    chunk = MAX_CHUNK_ITEMS  # pictures sent at a time, and embedded as a batch
    window = 16  # chunks sent and not yet accepted: bounds the memory here and in Redis
    window_bytes = 16 * 2**20  # of them, before more wait: chunks of large pictures are larger
    resend_after = 20.0  # seconds without acceptance before a chunk is sent again, doubled each time
    accept_timeout = 180.0  # seconds without any acceptance before the client gives up
    outage = 60.0  # seconds that broker or database may be away while a call is under way

    def __init__(self, broker_url: str = "redis://localhost:6379/0", *, answer_timeout: float = 30.0) -> None:
        self.answer_timeout = answer_timeout
        try:
            broker_url = safe_url(broker_url)
        except ValueError as error:
            raise InvalidRequest(f"broker_url: {error}") from None
        self._app = Celery("twinvec-client", broker=broker_url, backend=broker_url, set_as_current=False)
        transport = {
            "global_keyprefix": KEY_PREFIX,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "visibility_timeout": 600,
            **_RETRY_POLICY,
        }
        self._app.conf.update(
            task_serializer=SERIALIZER,
            result_serializer=SERIALIZER,
            accept_content=[SERIALIZER],
            broker_transport_options=transport,
            result_backend_transport_options={
                "global_keyprefix": KEY_PREFIX,
                "retry_policy": _RETRY_POLICY,
            },
            redis_socket_connect_timeout=3,
            redis_socket_timeout=10,
            task_publish_retry=False,
        )

    def embed(
        self,
        pictures: Any,
        *,
        collection: str = "default",
        labels: Labels = None,
        attributes: Attributes = None,
        idempotency_key: str | None = None,
        normalise: bool = True,
        on_finish: Callback | None = None,
        progress: bool = False,
    ) -> EmbedJob:
        """Send pictures to be stored and embedded; returns once every one of them stands in SQL.

        pictures: a mapping of key to picture, (key, picture) pairs, or paths (each its own key); any length, read
        once, in constant memory. A picture is encoded bytes, a path, an array ((h, w) or (h, w, channels) of uint8,
        bool, or floats in 0..1), a PIL image, or a `Digit` that carries its own label. 28x28 uint8 arrays are taken
        as they are; all else is normalised as MNIST was made, unless `normalise` is False.
        labels, attributes: by key, a mapping or a function. collection: the keys' namespace; a key sent again with
        other pixels replaces the digit, with the same pixels it is `unchanged`.
        idempotency_key: the same key with the same pictures is the same job, however often it is sent.
        on_finish: a Celery task of yours that is told when the last picture is accounted for.
        progress: show a bar of what is accepted.

        A picture that cannot be taken becomes one of the job's failures; the rest goes on.
        Raises BrokerUnavailable, NoAnswer (no worker runs), IdempotencyConflict, InvalidRequest.
        """
        _check_collection(collection)
        job = str(uuid.uuid5(_JOBS, idempotency_key) if idempotency_key is not None else uuid.uuid4())
        stream = chunks(
            pictures,
            job=job,
            collection=collection,
            labels=labels,
            attributes=attributes,
            normalise=normalise,
            callback=None if on_finish is None else on_finish.write(),
            most=self.chunk,
        )
        try:
            total = len(pictures) if isinstance(pictures, Sized) else None
            _Delivery(self, job).run(stream, show=progress, total=total)
        except BaseException as error:
            error.add_note(
                f"Job {job} keeps what was accepted. Send the same pictures with the same idempotency_key to go on, "
                f"or cancel it."
            )
            raise
        return EmbedJob(self, job)

    def nearest(
        self,
        picture: Any = None,
        *,
        key: str | None = None,
        vector: Any = None,
        k: int = 5,
        collection: str | None = None,
        normalise: bool = True,
    ) -> Answer:
        """The k nearest stored digits of a picture, of a stored digit (itself left out), or of a 128-d vector.

        collection: search this one only, and look the key up there; None searches all.
        Raises NoTower, UnknownKey, NotEmbedded, PictureRefused, InvalidRequest, BrokerUnavailable, NoAnswer.
        """
        given = [name for name, value in (("picture", picture), ("key", key), ("vector", vector)) if value is not None]
        if len(given) != 1:
            raise InvalidRequest(f"give one of picture, key and vector; got {' and '.join(given) or 'none'}")
        if key is not None and not is_name(key, MAX_KEY_CHARS):
            raise InvalidRequest(f"key {key!r:.80}: a string of 1 to {MAX_KEY_CHARS} characters without NUL")
        if key is not None:
            query = {"key": key, "collection": collection}
        else:
            query = _picture_query(picture) if picture is not None else _vector_query(vector)
        return self._nearest([query], k=k, collection=collection, normalise=normalise)[0]

    def nearest_many(
        self, pictures: Sequence[Any], *, k: int = 5, collection: str | None = None, normalise: bool = True
    ) -> list[Answer]:
        """As `nearest`, of many pictures in one request; answers in the order of the pictures."""
        queries = [_picture_query(picture) for picture in pictures]
        return self._nearest(queries, k=k, collection=collection, normalise=normalise) if queries else []

    def train(self, *, recipe: str = "default", seed: int = 0, on_finish: Callback | None = None) -> TrainingJob:
        """Start a training on a worker, by a recipe: `notebook`, `quick`, `default` or `conv`.

        on_finish: a Celery task of yours that is told of its end.
        Raises TrainingRunning while another goes on, InvalidRequest.
        """
        callback = None if on_finish is None else on_finish.write()
        request = StartTraining(job=str(uuid.uuid4()), recipe=recipe, seed=seed, callback=callback)
        return TrainingJob(self, self.ask(request)["job"])

    def towers(self) -> list[Tower]:
        """Every tower that was trained, newest first."""
        return [Tower.read(tower) for tower in self.ask(ListTowers())["towers"]]

    def jobs(self, *, limit: int = 20) -> list[JobStatus]:
        """The latest jobs, newest first."""
        return [JobStatus.read(job) for job in self.ask(ListJobs(limit=limit))["jobs"]]

    def dead_batches(self, *, limit: int = 100) -> list[DeadBatch]:
        """The batches that nobody tries any more, newest first. What they hold is stored, and listed as failed."""
        return [DeadBatch.read(batch) for batch in self.ask(ListDead(limit=limit))["batches"]]

    def requeue(self, batch: int) -> EmbedJob:
        """Try a dead batch again, once what killed it is gone; its job, which goes on.

        Raises UnknownBatch, and NotRescuable where its job was cancelled or its tower is gone.
        """
        return EmbedJob(self, self.ask(Requeue(batch=batch))["job"])

    def job(self, id: str) -> EmbedJob | TrainingJob:
        """The handle of a job that was started elsewhere. Raises UnknownJob."""
        try:
            id = str(uuid.UUID(id))
        except ValueError:
            raise UnknownJob(f"{id!r:.80} is no job id") from None
        status = JobStatus.read(self.ask(StatusOf(job=id)))
        return (TrainingJob if status.kind == "train" else EmbedJob)(self, id)

    def ask(self, message: Message, *, timeout: float | None = None) -> dict[str, Any]:
        """Send a message and wait for its answer. Raises what the worker refused it with."""
        seconds = self.answer_timeout if timeout is None else timeout
        result = None
        try:
            result = self._app.send_task(message.task, kwargs=message.write(), queue=message.lane)
            answer = result.get(timeout=seconds, interval=0.005, propagate=False)
        except celery.exceptions.TimeoutError:
            raise NoAnswer(
                f"no worker answered on the lane `{message.lane}` within {seconds:g} s: is one running on this broker?"
            ) from None
        except _DOWN as error:
            raise self._broker_down(error) from error
        finally:
            if result is not None:
                _let_go(result)
        if not isinstance(answer, dict):  # an exception: whoever worked on it died of it
            raise NoAnswer(f"no worker answered on the lane `{message.lane}`: {answer}")
        if "error" in answer:
            raise revive(answer["error"], answer["message"])
        return answer

    def send(self, message: Message) -> str:
        """Send a message that nobody answers; its id. Raises BrokerUnavailable."""
        id = str(uuid.uuid4())
        try:
            self._app.send_task(
                message.task, kwargs=message.write(), queue=message.lane, task_id=id, ignore_result=True
            )
        except _DOWN as error:
            raise self._broker_down(error) from error
        return id

    def failure_of(self, id: str) -> str | None:
        """What the message `id` has failed with in the last minute, in a line; None where nobody said so."""
        found = None
        with suppress(*_DOWN):
            found = self._app.backend.get_task_meta(id)
        if found is None or found["status"] != "FAILURE":
            return None
        return next(iter(str(found["result"]).strip().splitlines()), None)

    def _nearest(
        self, queries: list[dict[str, Any]], *, k: int, collection: str | None, normalise: bool
    ) -> list[Answer]:
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
            raise InvalidRequest(f"k is {k!r:.40}: an integer from 1 to {MAX_K}")
        if collection is not None:
            _check_collection(collection)
        answers: list[Answer] = []
        for start in range(0, len(queries), _QUERIES_A_REQUEST):
            part = queries[start : start + _QUERIES_A_REQUEST]
            found = self.ask(Nearest(queries=part, k=k, collection=collection, normalise=normalise))
            answers += [Answer.read(answer) for answer in found["answers"]]
        return answers

    def _broker_down(self, error: Exception) -> BrokerUnavailable:
        url = self._app.connection_for_write().as_uri()  # the password is masked
        cause = error.__cause__ or error.__context__ or error
        said = str(cause).strip().rstrip(".")
        if any(isinstance(each, redis.exceptions.OutOfMemoryError) for each in (error, cause)):
            return BrokerUnavailable(f"the broker at {url} is full: {said}")
        return BrokerUnavailable(f"no broker at {url}: {said}")


def _check_collection(collection: Any) -> None:
    if not is_name(collection, MAX_COLLECTION_CHARS):
        raise InvalidRequest(
            f"collection {collection!r:.80}: a string of 1 to {MAX_COLLECTION_CHARS} characters without NUL"
        )


def _let_go(result: Any) -> None:
    """Forget an answer that came or never will; left to the garbage collector, it complains on a lost connection."""
    with suppress(Exception):
        result.backend.remove_pending_result(result)
    result.backend = None


def _picture_query(picture: Any) -> dict[str, Any]:
    kind, content = encode(picture)
    if kind == REFUSED:
        reason, message = content
        raise PictureRefused(f"{reason!s}: {message!s}")
    return {"glyph" if kind == GLYPH else "encoded": content}


def _vector_query(vector: Any) -> dict[str, Any]:
    try:
        values = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"vector: {error}") from None
    if values.shape != (128,):
        raise InvalidRequest(f"vector has shape {values.shape}: expected 128 numbers")
    if not np.isfinite(values).all():
        raise InvalidRequest(f"vector holds NaN or infinity at {np.flatnonzero(~np.isfinite(values))[0]}")
    return {"vector": values.tolist()}


class _Delivery:
    """Sends chunks, keeps each until it is accepted, and sends it again if that does not come."""

    def __init__(self, client: Twinvec, job: str) -> None:
        self.client, self.job = client, job
        self.waiting: dict[int, _Sent] = {}  # by seq, in the order they were sent
        self.last_sent = -1
        self.messages: deque[str] = deque(maxlen=client.window)  # ids of those that were sent last, newest first
        self.most: int | None = None  # pictures a job may have; known with the first receipts
        self.pause = 0.02  # seconds between two requests for receipts; grows while none come
        self.room = True  # whether the backlog of accepted and not yet embedded digits is below its limit
        self.outage = Outage(client.outage)
        self.heard = time.monotonic()  # when a chunk was last accepted, or none was due

    def run(self, stream: Iterator[Intake], *, show: bool, total: int | None) -> None:
        with bars.bar(show, "send", total=total) as bar:
            if total is None or total > FEW:
                self._collect(bar)  # whether anybody is there, before the stream is touched
                self._check(total or 0)
            sent = 0
            for chunk in stream:
                sent += len(chunk.keys)
                self._check(sent)
                self.last_sent = chunk.seq
                if total is not None and sent == total <= FEW:
                    if self._hand_over(chunk):
                        bar.advance(sent)
                        continue
                    chunk = replace(chunk, resent=True)
                self._send(chunk)
                self.waiting[chunk.seq] = _Sent(chunk, self.client.resend_after)
                if self._is_full():
                    self._make_room(bar)
            while self.waiting:
                self._collect(bar)

    def _hand_over(self, chunk: Intake) -> bool:
        """Send a small job's last chunk and wait for its acceptance; False where nobody tells in time.

        One answer instead of requests for receipts. Raises where there is no broker, or no database behind it.
        """
        try:
            answer = self.client.ask(chunk, timeout=self.client.resend_after)
        except NoAnswer:  # it may have been accepted, or have killed whoever took it
            return False
        except TRANSIENT as error:
            self.outage.endure(error)
            return False
        self.outage.over()
        self._compare(chunk, answer["digest"])
        return True

    def _make_room(self, bar: bars.Bar) -> None:
        """Wait until a quarter of the window is free: asked after every chunk, workers would do little but answer."""
        window, size = self.client.window * 3 // 4, self.client.window_bytes * 3 // 4
        while len(self.waiting) > window or self._waiting_bytes() > size or not self.room:
            self._collect(bar)

    def _is_full(self) -> bool:
        client = self.client
        return len(self.waiting) >= client.window or self._waiting_bytes() > client.window_bytes or not self.room

    def _waiting_bytes(self) -> int:
        return sum(sent.size for sent in self.waiting.values())

    def _check(self, count: int) -> None:
        if self.most is not None and count > self.most:
            raise InvalidRequest(
                f"{count:,} pictures in one job: at most {self.most:,} are taken, so send several jobs"
            )

    def _collect(self, bar: bars.Bar) -> None:
        """Read receipts; with none, wait a moment and send again what has waited too long."""
        accepted_before = min(self.waiting, default=self.last_sent + 1) - 1
        try:
            answer = self.client.ask(Receipts(job=self.job, after=accepted_before), timeout=self.outage.timeout)
        except TRANSIENT as error:
            self.outage.endure(error)
            return
        self.outage.over()
        self.room, self.most = answer["backlog"] < answer["backlog_limit"], answer["job_limit"]
        accepted = 0
        for seq, digest in answer["accepted"]:
            sent = self.waiting.pop(seq, None)
            if sent is None:
                continue
            self._compare(sent.chunk, digest)
            accepted += len(sent.chunk.keys)
        bar.advance(accepted)
        if accepted or not self.waiting:
            self.heard = time.monotonic()
        elif time.monotonic() - self.heard > self.client.accept_timeout:
            raise NoAnswer(f"no chunk was accepted for {self.client.accept_timeout:g} s: {self._why()}")
        if not self.room:
            time.sleep(0.25)
        elif self.waiting:
            self.pause = 0.02 if accepted else min(self.pause * 1.5, 0.1)
            time.sleep(self.pause)
        for sent in self.waiting.values():
            if sent.overdue():
                self._send(replace(sent.chunk, resent=True))

    def _compare(self, chunk: Intake, accepted: bytes) -> None:
        if chunk.digest != accepted:
            raise IdempotencyConflict(
                f"chunk {chunk.seq} of job {self.job} was accepted before with other pictures, keys or labels"
            )

    def _send(self, chunk: Intake) -> None:
        """Send a chunk; what a broker that restarts does not take is sent again when it is overdue."""
        try:
            self.messages.appendleft(self.client.send(chunk))
        except TRANSIENT as error:
            self.outage.endure(error)

    def _why(self) -> str:
        """What keeps chunks from being accepted, as far as anybody told."""
        failure = next(filter(None, map(self.client.failure_of, self.messages)), None)
        return "does a worker run on the lane `intake`?" if failure is None else f"the worker says: {failure}"


class _Sent:
    def __init__(self, chunk: Intake, timeout: float) -> None:
        self.chunk, self.timeout, self.since = chunk, timeout, time.monotonic()
        self.size = len(chunk.glyphs) + sum(map(len, chunk.encoded))  # bytes, about

    def overdue(self) -> bool:
        """Whether to send it again; asked once, it waits twice as long the next time."""
        if time.monotonic() - self.since < self.timeout:
            return False
        self.since, self.timeout = time.monotonic(), self.timeout * 2
        return True
