"""Handles of jobs: what a caller can ask of work that goes on elsewhere. Must not know the face of the client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from twinvec_client import bars, steering, vectors
from twinvec_client.asker import asker
from twinvec_client.chunks import JobOptions
from twinvec_client.connection import Connection
from twinvec_client.contract.messages import Cancel, DoubtfulOf, FailureOf, FailuresOf, StatusOf, StopTraining
from twinvec_client.delivery import Pace, deliver, new_job, require_all
from twinvec_client.errors import InvalidRequest, TrainingFailed
from twinvec_client.fields import key_refusal
from twinvec_client.pictures import Digit
from twinvec_client.results import DoubtfulDigit, EmbedOutcome, Failure, JobStatus, Pause, TrainingOutcome
from twinvec_client.vectors import Vectors
from twinvec_client.watch import SUBSCRIBING, Ended, Watch

_PAGE = 500  # failures a request
_GAVE_WAY = ("superseded", "duplicate_key")


class _Job:
    def __init__(self, connection: Connection, id: str, pace: Pace, ended: JobStatus | None = None) -> None:
        self._connection, self._pace = connection, pace
        self._ended = None if ended is None else Ended(ended)
        self.id = id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def status(self) -> JobStatus:
        """Where the job stands now, counted in SQL. Raises UnknownJob."""
        return JobStatus.read(self._connection.ask(StatusOf(job=self.id)))

    def cancel(self) -> JobStatus:
        """Stop the job: what is done stays, what has not begun never will. A finished job is left as it is."""
        return JobStatus.read(self._connection.ask(Cancel(job=self.id, by=asker())))

    def pause(self, *, why: str | None = None) -> Pause:
        """Hold back what has not begun of the job until it is resumed. Raises UnknownJob, NotPausable."""
        return steering.pause(self._connection, lane=None, job=self.id, why=why)

    def resume(self) -> bool:
        """Let the job go on; whether it was paused. Raises UnknownJob."""
        return steering.resume(self._connection, lane=None, job=self.id)

    def follow(self, *, timeout: float | None = None) -> Iterator[JobStatus]:
        """The job's status now, and again whenever it has changed (its seconds alone do not count); ends with the
        final one.

        It is asked for when workers announce that the job has got on, and every second where they do not. A restart
        of broker, database or workers is waited out. timeout: seconds; raises NotReady after it. Raises UnknownJob.
        """
        if self._ended is not None and (status := self._ended.take()) is not None:
            yield status
            return
        watch, told = Watch(self.id, self._pace, timeout), threading.Event()
        with self._connection.follow(self.id, told.set) as follower:
            told.wait(SUBSCRIBING)
            while True:
                told.clear()
                status = watch.read(self._connection)
                if status is not None:
                    yield status
                    if status.final:
                        return
                told.wait(watch.pause(subscribed=follower.subscribed))
                time.sleep(watch.gap())


class EmbedJob(_Job):
    """A bulk embedding job. delivered: whether all its pictures were accepted, as `embed` has seen. ended: how it
    ended, where `embed` has seen that as well."""

    def __init__(
        self,
        connection: Connection,
        id: str,
        pace: Pace,
        *,
        delivered: bool = False,
        ended: JobStatus | None = None,
    ) -> None:
        super().__init__(connection, id, pace, ended)
        self._delivered = delivered

    def wait(self, *, timeout: float | None = None, progress: bool = False) -> EmbedOutcome:
        """Wait until every picture is embedded, unchanged, failed or cancelled.

        While no tower is live nothing can be embedded, and this waits on. A job whose sender has gone ends as
        `abandoned`; sent again under its idempotency key, it goes on. timeout: seconds; raises NotReady after it.
        Raises PicturesLost or UnknownJob where the database was restored meanwhile and no longer has all of it.
        """
        with bars.bar(progress, "embed") as bar:
            for status in self.follow(timeout=timeout):
                bar.embedding(status)
                if self._delivered:
                    require_all(self.id, status.state)
        return embed_outcome(status)

    def failures(self, *, pictures: bool = False, after: str = "") -> Iterator[Failure]:
        """The pictures that were not embedded, by key, fetched page by page; with what was sent, if asked for.

        after: those after this key.
        """
        while True:
            request = FailuresOf(job=self.id, after=after, limit=_PAGE, pictures=pictures)
            page = self._connection.ask(request)["failures"]
            yield from map(Failure.read, page)
            if not page or (len(page) < _PAGE and not pictures):  # with pictures, a page is cut by its bytes as well
                return
            after = page[-1]["key"]

    def failures_of(self, key: str) -> list[Failure]:
        """The failures of one key, one for each reason, with what was sent. Raises UnknownKey where it did not fail."""
        if (refusal := key_refusal(key)) is not None:
            raise InvalidRequest(refusal[1])
        return list(map(Failure.read, self._connection.ask(FailureOf(job=self.id, key=key))["failures"]))

    def doubtful(self, *, pictures: bool = False) -> Iterator[DoubtfulDigit]:
        """The digits that this job stored though they look like none, by key; with their pixels, if asked for.

        Pictures that were made into 28x28 pixels are asked about, not pixels that are taken as they were sent. About
        one in forty that are read well is doubtful.
        """
        after = ""
        while True:
            request = DoubtfulOf(job=self.id, after=after, limit=_PAGE, pictures=pictures)
            page = self._connection.ask(request)["digits"]
            yield from map(DoubtfulDigit.read, page)
            if len(page) < _PAGE:
                return
            after = page[-1]["key"]

    def vectors(self) -> Vectors:
        """The vectors of the job's digits under the live tower, those that were `unchanged` among them, each key once.

        What is not embedded yet is left out, and so is what failed, or was deleted or replaced since. They are fetched
        page by page. Raises UnknownJob, NoTower, TowerNotLive (it was retired meanwhile: ask again).
        """
        return vectors.of_job(self._connection, self.id)

    def retry(self, *, normalise: bool = True, progress: bool = False) -> EmbedJob:
        """Send again, as a new job, just the pictures that failed; this job keeps its list.

        What the client could not read or send is not kept anywhere, so it is left out, and so is what the workers no
        longer keep, or had no room for (docs/reliability.md). So is a picture that gave way
        to another under its key (`superseded`, `duplicate_key`): it would take that one's place. Raises as `embed`
        does.
        """
        again = (
            (failure.key, Digit(_sent(failure), failure.label, failure.attributes))
            for failure in self.failures(pictures=True)
            if failure.picture is not None and failure.reason not in _GAVE_WAY
        )
        collection = self.status().collection or "default"
        options = JobOptions(job=new_job(), collection=collection, normalise=normalise)
        ended = deliver(self._connection, again, options, pace=self._pace, progress=progress)
        return EmbedJob(self._connection, options.job, self._pace, delivered=True, ended=ended)


class TrainingJob(_Job):
    """A training on a worker."""

    def stop(self) -> JobStatus:
        """End the training early: the tower is what it has learnt best so far. `cancel` keeps none.

        It stops within seconds; `wait` returns its tower. Raises InvalidRequest before it has begun, and where a
        retraining has made its tower.
        """
        return JobStatus.read(self._connection.ask(StopTraining(job=self.id)))

    def wait(
        self,
        *,
        timeout: float | None = None,
        progress: bool = False,
        on_status: Callable[[JobStatus], None] | None = None,
    ) -> TrainingOutcome:
        """Wait until the tower is stored, of a retraining until it is live or rejected.

        Raises TrainingFailed where there is no tower, and NotReady after `timeout` seconds.

        on_status: called with every status that `follow` gives.
        """
        with bars.bar(progress, "train") as bar:
            for status in self.follow(timeout=timeout):
                bar.training(status)
                if on_status is not None:
                    on_status(status)
        return training_outcome(status)


def embed_outcome(status: JobStatus) -> EmbedOutcome:
    """Of a bulk job's final status."""
    return EmbedOutcome(
        state=status.state,
        succeeded=status.succeeded,
        unchanged=status.unchanged,
        failed=status.failed,
        cancelled=status.cancelled,
        doubtful=status.doubtful,
        seconds=status.seconds,
    )


def training_outcome(status: JobStatus) -> TrainingOutcome:
    """Of a training's final status. Raises TrainingFailed."""
    if status.outcome is None:
        raise TrainingFailed(f"training {status.id} {status.state}: {status.message or 'no reason was recorded'}")
    return TrainingOutcome(**status.outcome, seconds=status.seconds)


def _sent(failure: Failure) -> Any:
    """A kept picture, as it was sent."""
    if failure.is_glyph:
        return np.frombuffer(failure.picture or b"", np.uint8).reshape(28, 28)
    return failure.picture
