"""The face of the client: enqueue pictures, follow jobs, look up neighbours. What travels, and how, is elsewhere."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from twinvec_client.callback import Callback
from twinvec_client.chunks import Attributes, JobOptions, Labels
from twinvec_client.connection import Connection
from twinvec_client.contract.limits import DIMENSIONS, MAX_COLLECTION_CHARS, MAX_K, MAX_KEY_CHARS, is_name
from twinvec_client.contract.messages import (
    GLYPH,
    ListDead,
    ListJobs,
    ListTowers,
    Nearest,
    Query,
    Requeue,
    StartTraining,
    StatusOf,
)
from twinvec_client.delivery import Pace, deliver, new_job
from twinvec_client.errors import InvalidRequest, PictureRefused, UnknownJob
from twinvec_client.job import EmbedJob, TrainingJob
from twinvec_client.pictures import encode
from twinvec_client.results import Answer, DeadBatch, JobStatus, Tower

_QUERIES_A_REQUEST = 100


class Twinvec:
    """A client of one Twinvec installation.

    broker_url: `redis://` or `rediss://`, the same as the workers'; the certificate behind `rediss://` is checked,
    against the authorities in the file of `?ssl_ca_certs=` where that is given. answer_timeout: seconds to wait for a
    worker's answer. connection: used instead of one made of these two. Nothing is connected before the first call.
    """

    # How much is sent at a time, and how long is waited for it: see `Pace`.
    chunk = Pace.chunk
    window = Pace.window
    window_bytes = Pace.window_bytes
    resend_after = Pace.resend_after
    accept_timeout = Pace.accept_timeout
    outage = Pace.outage

    def __init__(
        self,
        broker_url: str = "redis://localhost:6379/0",
        *,
        answer_timeout: float = 30.0,
        connection: Connection | None = None,
    ) -> None:
        self._connection = Connection(broker_url, answer_timeout) if connection is None else connection

    @property
    def answer_timeout(self) -> float:
        return self._connection.answer_timeout

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
        Raises BrokerUnavailable, NoAnswer (no worker runs), IdempotencyConflict, InvalidRequest, and PicturesLost where
        the database was restored from a backup meanwhile.
        """
        _check_collection(collection)
        options = JobOptions(
            job=new_job(idempotency_key),
            collection=collection,
            labels=labels,
            attributes=attributes,
            normalise=normalise,
            callback=on_finish,
        )
        deliver(self._connection, pictures, options, pace=self._pace(), progress=progress)
        return self._embed_job(options.job, delivered=True)

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
            query = Query(key=key, collection=collection)
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
        request = StartTraining(job=new_job(), recipe=recipe, seed=seed, callback=on_finish)
        return TrainingJob(self._connection, self._connection.ask(request)["job"], self._pace())

    def towers(self) -> list[Tower]:
        """Every tower that was trained, newest first."""
        return [Tower.read(tower) for tower in self._connection.ask(ListTowers())["towers"]]

    def jobs(self, *, limit: int = 20) -> list[JobStatus]:
        """The latest jobs, newest first."""
        return [JobStatus.read(job) for job in self._connection.ask(ListJobs(limit=limit))["jobs"]]

    def dead_batches(self, *, limit: int = 100) -> list[DeadBatch]:
        """The batches that are not tried any more, newest first. What they hold is stored, and listed as failed."""
        return [DeadBatch.read(batch) for batch in self._connection.ask(ListDead(limit=limit))["batches"]]

    def requeue(self, batch: int) -> EmbedJob:
        """Try a dead batch again, once its cause is gone; its job, which goes on.

        Raises UnknownBatch, and NotRescuable where its job was cancelled or its tower is gone.
        """
        return self._embed_job(self._connection.ask(Requeue(batch=batch))["job"])

    def job(self, id: str) -> EmbedJob | TrainingJob:
        """The handle of a job that was started elsewhere. Raises UnknownJob."""
        try:
            id = str(uuid.UUID(id))
        except ValueError:
            raise UnknownJob(f"{id!r:.80} is not a job id") from None
        status = JobStatus.read(self._connection.ask(StatusOf(job=id)))
        return TrainingJob(self._connection, id, self._pace()) if status.kind == "train" else self._embed_job(id)

    def _pace(self) -> Pace:
        return Pace(**{field.name: getattr(self, field.name) for field in fields(Pace)})

    def _embed_job(self, id: str, *, delivered: bool = False) -> EmbedJob:
        return EmbedJob(self._connection, id, self._pace(), delivered=delivered)

    def _nearest(self, queries: list[Query], *, k: int, collection: str | None, normalise: bool) -> list[Answer]:
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
            raise InvalidRequest(f"k is {k!r:.40}: an integer from 1 to {MAX_K}")
        if collection is not None:
            _check_collection(collection)
        answers: list[Answer] = []
        for start in range(0, len(queries), _QUERIES_A_REQUEST):
            part = queries[start : start + _QUERIES_A_REQUEST]
            found = self._connection.ask(Nearest(queries=part, k=k, collection=collection, normalise=normalise))
            answers += [Answer.read(answer) for answer in found["answers"]]
        return answers


def _check_collection(collection: Any) -> None:
    if not is_name(collection, MAX_COLLECTION_CHARS):
        raise InvalidRequest(
            f"collection {collection!r:.80}: a string of 1 to {MAX_COLLECTION_CHARS} characters without NUL"
        )


def _picture_query(picture: Any) -> Query:
    kind, content = encode(picture)
    if isinstance(content, tuple):
        reason, message = content
        raise PictureRefused(f"{reason}: {message}")
    return Query(glyph=content) if kind == GLYPH else Query(encoded=content)


def _vector_query(vector: Any) -> Query:
    try:
        values = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"vector: {error}") from None
    if values.shape != (DIMENSIONS,):
        raise InvalidRequest(f"vector has shape {values.shape}: expected {DIMENSIONS} numbers")
    if not np.isfinite(values).all():
        raise InvalidRequest(f"vector holds NaN or infinity at {np.flatnonzero(~np.isfinite(values))[0]}")
    return Query(vector=values.tolist())
