"""The face of the client: enqueue pictures, follow jobs, look up neighbours. What travels, and how, is elsewhere."""

from __future__ import annotations

import math
import re
import secrets
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, NamedTuple, Self

import numpy as np

from twinvec_client import judging, review, steering, stored
from twinvec_client import vectors as reading
from twinvec_client.asker import asker
from twinvec_client.callback import Callback
from twinvec_client.chunks import Attributes, JobOptions, Labels, Paired
from twinvec_client.connection import Connection
from twinvec_client.contract.broker import PREFIX
from twinvec_client.contract.limits import (
    DIMENSIONS,
    MAX_CHUNK_BYTES,
    MAX_COLLECTION_CHARS,
    MAX_COLLECTIONS,
    MAX_K,
    MAX_KEY_CHARS,
    MAX_PRIORITY,
    MAX_STARTER_CHARS,
    MAX_TOWER,
    is_name,
)
from twinvec_client.contract.messages import (
    GLYPH,
    JudgeAgain,
    ListActions,
    ListCollections,
    ListDead,
    ListJobs,
    ListTowers,
    Nearest,
    Promote,
    Query,
    Requeue,
    Retire,
    Retrain,
    RollBack,
    ShowBackfill,
    ShowOverview,
    ShowSchedule,
    StartTraining,
    StatusOf,
)
from twinvec_client.contract.reasons import Reason
from twinvec_client.contract.states import JobKind, JobState, PausableLane, TrainingData
from twinvec_client.delivery import Pace, deliver, new_job
from twinvec_client.errors import InvalidRequest, NoTower, PictureRefused, UnknownJob, UnknownKey
from twinvec_client.fields import read_distance, read_integer, read_label, write_attributes
from twinvec_client.job import EmbedJob, TrainingJob
from twinvec_client.pictures import encode
from twinvec_client.results import (
    Action,
    Answer,
    Backfills,
    Collection,
    DeadBatch,
    Deleted,
    DigitsPage,
    Duplicates,
    JobStatus,
    Judgement,
    Map,
    Overview,
    PairToJudge,
    Pause,
    Schedule,
    StoredDigit,
    Suspects,
    Tower,
    TowerChange,
)
from twinvec_client.vectors import Vectors

_QUERIES_A_REQUEST = 100
_NEIGHBOURS_A_REQUEST = 5_000  # some 100 bytes each, with attributes up to 4 kB more; others wait for them meanwhile
_FINGERPRINT = re.compile("[0-9a-f]{64}")


class Twinvec:
    """A client of one Twinvec installation.

    broker_url: `redis://` or `rediss://`, the same as the workers'; the certificate behind `rediss://` is checked,
    against the authorities in the file of `?ssl_ca_certs=` where that is given. prefix: as the workers' TWINVEC_PREFIX.
    answer_timeout: seconds to wait for a worker's answer. installation: the id of the one that is meant, as `twinvec
    doctor` says it; any other refuses what is asked and sent, with OtherInstallation. None: the first that answers is
    meant from then on. connection: used instead of one made of these four. Nothing is connected before the first call.

    Threads may share one. `with Twinvec(...) as tv` closes its connections at the end. For asyncio there is
    `AsyncTwinvec`.
    """

    # How much is sent at a time, and how long is waited for it: see `Pace`.
    chunk = Pace.chunk
    window = Pace.window
    window_bytes = Pace.window_bytes
    resend_after = Pace.resend_after
    accept_timeout = Pace.accept_timeout
    outage = Pace.outage
    pause_timeout = Pace.pause_timeout

    def __init__(
        self,
        broker_url: str = "redis://localhost:6379/0",
        *,
        prefix: str = PREFIX,
        answer_timeout: float = 30.0,
        installation: str | None = None,
        connection: Connection | None = None,
    ) -> None:
        if connection is None:
            connection = Connection(broker_url, answer_timeout, prefix=prefix, installation=installation)
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open to the broker. A later call opens it again."""
        self._connection.close()

    @property
    def answer_timeout(self) -> float:
        return self._connection.answer_timeout

    def embed(
        self,
        pictures: Any,
        *,
        keys: Sequence[str] | None = None,
        collection: str = "default",
        labels: Labels = None,
        attributes: Attributes = None,
        idempotency_key: str | None = None,
        normalise: bool = True,
        priority: int = 1,
        on_finish: Callback | None = None,
        progress: bool = False,
    ) -> EmbedJob:
        """Send pictures to be stored and embedded; returns once every one of them stands in SQL.

        pictures: a mapping of key to picture, (key, picture) pairs, or paths (each its own key); any length, read
        once, in constant memory. A picture is encoded bytes, a path, an array ((h, w) or (h, w, channels) of uint8,
        bool, or floats in 0..1), a PIL image, or a `Digit` that carries its own label. What is 28x28 and set as
        MNIST's digits are (light on black, up to full levels, in 20x20 and centred by mass) is taken as it is, an
        array of any dtype as well as a file; all else is normalised as MNIST was made, or becomes a failure. An
        array of integers holds levels in 0..255; with 0 and 1 alone it is black and white. With `normalise` False
        pictures are resized at most, and arrays of 28x28 taken as they are.
        keys: of an array of pictures, (n, 28, 28) or with channels, or of a list of them: one for each, in its order.
        labels, attributes: by key, a mapping or a function; labels beside `keys` also one for each.
        collection: the keys' namespace; a key sent again with other pixels replaces the digit, with the same pixels it
        is `unchanged`. Of a key that one stream repeats with other pixels the last are kept, and the others are
        failures (`duplicate_key`).
        idempotency_key: the same key with the same pictures is the same job of the collection, however often it is
        sent; what was accepted of it before is not sent again. With other pictures it is refused.
        priority: 1 to 100; jobs that wait take turns, and one of priority 2 gets twice as many as one of 1.
        on_finish: a Celery task of yours that is told when the last picture is accounted for.
        progress: show a bar of what is accepted.

        A picture that cannot be taken becomes one of the job's failures; the rest goes on.
        Raises BrokerUnavailable, NoAnswer (no worker runs), Paused (by an operator, for longer than `pause_timeout`),
        IdempotencyConflict, InvalidRequest, and PicturesLost where the database was restored from a backup meanwhile.
        """
        _check_collection(collection)
        if keys is not None:
            pictures = Paired(pictures, keys, labels)
            labels = pictures.by_key
        options = JobOptions(
            job=new_job(idempotency_key, collection),
            collection=str.__str__(collection),
            labels=labels,
            attributes=attributes,
            normalise=normalise,
            callback=on_finish,
            priority=read_integer("priority", priority, MAX_PRIORITY),
        )
        ended = deliver(self._connection, pictures, options, pace=self._pace(), progress=progress)
        return self._embed_job(options.job, delivered=True, ended=ended)

    def nearest(
        self,
        picture: Any = None,
        *,
        key: str | None = None,
        vector: Any = None,
        tower: str | None = None,
        after: str | None = None,
        k: int = 5,
        collection: str | Sequence[str] | None = None,
        label: int | None = None,
        attributes: dict[str, Any] | None = None,
        max_distance: float | None = None,
        match: bool = False,
        pictures: bool = False,
        normalise: bool = True,
    ) -> Answer:
        """The k nearest stored digits of a picture, of a stored digit (itself left out), or of a 128-d vector.

        tower: of a vector, the fingerprint of the tower that made it (`Answer.tower`, `Tower.fingerprint`), in whose
        space it is looked up while that tower stands. after: `next` of an earlier answer to the same query: what
        follows it, under the same tower.
        collection, label, attributes: search these only: digits of the collection, or one of several, where a key is
        looked up too; of the label; whose attributes contain these. max_distance: none farther. There are always k
        neighbours where so many are stored. pictures: with their pixels. match: with the label that the nearest elect
        and its probability, or that nothing is within the tower's threshold; `max_distance` makes that stricter.
        Raises NoTower, TowerNotLive, UnknownKey, NotEmbedded, PictureRefused, InvalidRequest, BrokerUnavailable,
        NoAnswer.
        """
        query = _query(picture, key, vector, collection, tower=tower, after=after)
        filters = _Filters(collection, label, attributes, max_distance)
        return self._nearest([query], filters, k=k, match=match, pictures=pictures, normalise=normalise)[0]

    def nearest_many(
        self,
        pictures: Sequence[Any] | None = None,
        *,
        keys: Sequence[str] | None = None,
        vectors: Any = None,
        tower: str | None = None,
        k: int = 5,
        collection: str | Sequence[str] | None = None,
        label: int | None = None,
        attributes: dict[str, Any] | None = None,
        max_distance: float | None = None,
        match: bool = False,
        normalise: bool = True,
    ) -> list[Answer]:
        """As `nearest`, of many pictures, keys or vectors at once; answers in their order."""
        given = {"pictures": pictures, "keys": keys, "vectors": vectors}
        (each,) = _one_of(given)
        queries = (  # read as they are sent: pictures may be large, and many
            _query(
                one if each == "pictures" else None,
                one if each == "keys" else None,
                one if each == "vectors" else None,
                collection,
                tower=tower,
            )
            for one in given[each]
        )
        filters = _Filters(collection, label, attributes, max_distance)
        return self._nearest(queries, filters, k=k, match=match, pictures=False, normalise=normalise)

    def suspects(
        self,
        *,
        collection: str | None = None,
        limit: int = 100,
        most: int | None = None,
        pictures: bool = False,
        progress: bool = False,
    ) -> Suspects:
        """The stored labels that most probably are wrong: their digits' nearest neighbours elect another.

        collection: look at the labels of this one; the neighbours that vote are of any. limit: how many to return.
        most: digits to look at, in the order in which they were stored; None for all. pictures: with pixels. progress:
        show a bar. It asks for a page at a time, each of a fraction of a second, so that other look-ups come between.
        Raises NoTower, TowerNotLive (it was retired meanwhile), InvalidRequest.
        """
        _check_collection_or_none(collection)
        return review.suspects(
            self._connection, collection=collection, limit=limit, most=most, pictures=pictures, progress=progress
        )

    def duplicates(
        self,
        *,
        distance: float | None = None,
        collection: str | None = None,
        limit: int = 100,
        most: int | None = None,
        pictures: bool = False,
        progress: bool = False,
    ) -> Duplicates:
        """The nearest pairs of stored digits that are no farther apart than a distance.

        distance: None for the tower's own, within which one of a thousand held-out images had a training image. A
        tower draws digits that look alike together, so that a pair may be two pictures all the same: `same_pixels` says
        which are one. Of each digit the nearest 10 are taken. The rest is as of `suspects`, whose digits have a label.
        Raises NoTower, TowerNotLive, InvalidRequest.
        """
        _check_collection_or_none(collection)
        return review.duplicates(
            self._connection,
            distance=distance,
            collection=collection,
            limit=limit,
            most=most,
            pictures=pictures,
            progress=progress,
        )

    def map(self, *, collection: str | None = None, most: int = 20_000, progress: bool = False) -> Map:
        """Where stored vectors lie on a plane, by their first two principal components.

        most: points, about; of more digits, a sample, always the same one. progress: show a bar.
        Raises NoTower, TowerNotLive, InvalidRequest.
        """
        _check_collection_or_none(collection)
        return review.project_collection(self._connection, collection=collection, most=most, progress=progress)

    def collections(self) -> list[Collection]:
        """The collections, by name, with how many digits each has: all are counted, and many take long."""
        return [Collection.read(each) for each in self._connection.ask(ListCollections())["collections"]]

    def digits(
        self, *, collection: str | None = None, label: int | None = None, pictures: bool = False
    ) -> Iterator[StoredDigit]:
        """What is stored, in the order in which it was, page by page; of one collection and with one label, if given.

        pictures: with pixels. Raises InvalidRequest.
        """
        _check_collection_or_none(collection)
        return stored.digits(self._connection, collection=collection, label=label, pictures=pictures)

    def digits_page(
        self,
        *,
        collection: str | None = None,
        label: int | None = None,
        after: int = 0,
        limit: int = 100,
        pictures: bool = False,
    ) -> DigitsPage:
        """As `digits`, at most `limit` of them, up to 500, for what shows a page at a time. after: `after` of the page
        before. Raises InvalidRequest.
        """
        _check_collection_or_none(collection)
        return stored.page(
            self._connection, collection=collection, label=label, after=after, limit=limit, pictures=pictures
        )

    def get(self, key: str, *, collection: str = "default") -> StoredDigit:
        """One stored digit, with its pixels. Raises UnknownKey, InvalidRequest."""
        for digit in self.get_many([key], collection=collection, pictures=True):
            return digit
        raise UnknownKey(f"no digit of the collection {collection!r} has the key {key!r}")

    def get_many(
        self, keys: Iterable[str], *, collection: str = "default", pictures: bool = False
    ) -> Iterator[StoredDigit]:
        """The stored digits with these keys, in their order; those that are not stored are left out.

        Raises InvalidRequest.
        """
        _check_collection(collection)
        return stored.get(self._connection, keys, collection=collection, pictures=pictures)

    def vectors(self, keys: Iterable[str], *, collection: str = "default") -> Vectors:
        """The vectors of stored digits, by their keys and in the order of these, each once, under the live tower.

        What is not stored or not embedded is left out: compare the lengths. They are fetched page by page.
        Raises NoTower, TowerNotLive (it was retired meanwhile: ask again), InvalidRequest.
        """
        _check_collection(collection)
        return reading.of_keys(self._connection, keys, collection=collection)

    def vector_pages(self, *, collection: str | None = None, progress: bool = False) -> Iterator[Vectors]:
        """All stored vectors, in the order in which their digits were stored, 1,000 or fewer at a time.

        collection: of this one alone. progress: show a bar. Memory is that of a page; `twinvec export` writes them to a
        file faster. Raises NoTower, TowerNotLive (it was retired meanwhile), InvalidRequest.
        """
        _check_collection_or_none(collection)
        return review.vector_pages(self._connection, collection=collection, progress=progress)

    def label(self, labels: Mapping[str, int | None], *, collection: str = "default") -> list[str]:
        """Give stored digits other labels, by key, None for none; the keys that are not stored. No pixels are sent.

        Searches by the new label find them at once. Raises InvalidRequest.
        """
        _check_collection(collection)
        return stored.label(self._connection, labels, collection=collection)

    def set_attributes(
        self, attributes: Mapping[str, dict[str, Any] | None], *, collection: str = "default"
    ) -> list[str]:
        """Give stored digits other attributes, by key, in place of those before; the keys that are not stored.

        Raises InvalidRequest.
        """
        _check_collection(collection)
        return stored.set_attributes(self._connection, attributes, collection=collection)

    def delete(self, keys: Iterable[str], *, collection: str = "default") -> Deleted:
        """Delete digits: pixels, vectors under every tower, judgements, and what failures kept under these keys.

        Some are deleted in one transaction, the next ones in another. It is safe beside running jobs: one that waits
        for such a digit lists it as `deleted`, and nothing brings it back but who sends it again. Verified by a search.
        Raises InvalidRequest.
        """
        _check_collection(collection)
        return stored.delete(self._connection, keys, collection=collection)

    def delete_collection(self, collection: str) -> Deleted:
        """As `delete`, of all digits of a collection."""
        _check_collection(collection)
        return stored.delete_collection(self._connection, collection=collection)

    def judge(
        self,
        one: str,
        other: str,
        *,
        same: bool | None,
        collection: str = "default",
        other_collection: str | None = None,
        by: str | None = None,
    ) -> None:
        """Say whether two stored digits show the same, by their keys; `same` None takes back what was said of them.

        Trainings learn from it, and no tower goes live that gets it wrong where the one before had it right. It is of
        the pixels that are stored now, and goes with either digit. other_collection: the other's, where it is not the
        same. by: who says so, up to 255 characters. Raises UnknownKey, InvalidRequest.
        """
        said = [(one, other, same)]
        if self.judge_many(said, collection=collection, other_collection=other_collection, by=by):
            places = sorted({collection, other_collection or collection})
            raise UnknownKey(f"{one!r:.80} and {other!r:.80} are not two digits of {' and '.join(map(repr, places))}")

    def judge_many(
        self,
        pairs: Iterable[tuple[str, str, bool | None]],
        *,
        collection: str = "default",
        other_collection: str | None = None,
        by: str | None = None,
    ) -> list[tuple[str, str]]:
        """As `judge`, of (one, other, same) each; the pairs of which a digit is not stored. Raises InvalidRequest."""
        _check_collection(collection)
        _check_collection_or_none(other_collection)
        return judging.judge(
            self._connection,
            pairs,
            collection=collection,
            other_collection=collection if other_collection is None else other_collection,
            by=by,
        )

    def judgements(self, *, collection: str | None = None) -> Iterator[Judgement]:
        """What was said of pairs, page by page, in the order in which each was first judged.

        collection: of pairs with a digit in this one. Raises InvalidRequest.
        """
        _check_collection_or_none(collection)
        return judging.judgements(self._connection, collection=collection)

    def pairs_to_judge(
        self, *, collection: str | None = None, limit: int = 20, most: int = 3000, progress: bool = False
    ) -> list[PairToJudge]:
        """Pairs that are worth judging, with pixels: near each other with two labels, or about the threshold apart.

        They are looked for among `most` stored digits, always the same ones; pairs that were judged are left out, and a
        digit is in two at most. Raises NoTower, TowerNotLive, InvalidRequest.
        """
        _check_collection_or_none(collection)
        return judging.propose(
            self._connection, collection=collection, limit=limit, most=most, towers=self.towers(), progress=progress
        )

    def train(
        self,
        *,
        recipe: str = "default",
        seed: int = 0,
        on_finish: Callback | None = None,
        started_by: str | None = None,
    ) -> TrainingJob:
        """Start a training on a worker, by a recipe: `notebook`, `quick`, `default`, `conv` or `best`.

        on_finish: a Celery task of yours that is told of its end. started_by: who asks, to be kept with the tower.
        Raises TrainingRunning while another goes on, InvalidRequest.
        """
        request = StartTraining(
            job=new_job(), recipe=recipe, seed=seed, callback=on_finish, started_by=_starter(started_by)
        )
        return TrainingJob(self._connection, self._connection.ask(request)["job"], self._pace())

    def retrain(
        self,
        *,
        data: TrainingData = "both",
        recipe: str = "default",
        seed: int | None = None,
        on_finish: Callback | None = None,
        started_by: str | None = None,
    ) -> TrainingJob:
        """Train a tower, embed what is stored under it, and let it go live where it is no worse: one job.

        It ends when the tower is live or rejected; `status().stage` says how far it is. A worker that dies is followed
        by another, which goes on from the last epoch. data: `mnist`, `stored` digits that have a label, or `both`;
        those that are held out, to judge towers, are never trained on. seed: drawn where it is None. on_finish,
        started_by: as of `train`. Raises TrainingRunning while another goes on, InvalidRequest.
        """
        drawn = secrets.randbelow(2**32) if seed is None else seed
        request = Retrain(
            job=new_job(), recipe=recipe, seed=drawn, data=data, callback=on_finish, started_by=_starter(started_by)
        )
        return TrainingJob(self._connection, self._connection.ask(request)["job"], self._pace())

    def schedule(self) -> Schedule:
        """When towers are retrained by themselves, and what came of it last."""
        return Schedule.read(self._connection.ask(ShowSchedule())["schedule"])

    def towers(self) -> list[Tower]:
        """Every tower that was trained, newest first."""
        return [Tower.read(tower) for tower in self._connection.ask(ListTowers())["towers"]]

    def backfill(self) -> Backfills:
        """How far stored digits are embedded under the candidate, or another tower that lacks some, with rate and time
        left; and what it would take under a new tower: how many, how long, how much disk. It starts nothing."""
        return Backfills.read(self._connection.ask(ShowBackfill()))

    def promote(self, tower: int, *, force: bool = False) -> TowerChange:
        """Let a tower go live, by its id: the candidate where it passed its judging, or the previous one.

        A retired tower becomes a candidate again: it is backfilled and judged first. force: whatever its verdict says,
        which is on record then; a rejected tower needs it. No tower goes live under which a digit lacks its vector.
        Raises UnknownTower, NotPromotable.
        """
        return TowerChange.read(self._connection.ask(Promote(tower=_tower(tower), force=bool(force), by=asker())))

    def rollback(self, *, at_once: bool = False) -> TowerChange:
        """Let the tower that was live before go live again, with its vectors and its threshold.

        Digits that lack a vector under it are embedded first. at_once: it goes live now, and these are not found until
        they are embedded. Raises NotPromotable where there is none to go back to, NoTower.
        """
        live = next((tower.id for tower in self.towers() if tower.status == "live"), None)
        if live is None:
            raise NoTower
        request = RollBack(leaving=live, at_once=bool(at_once), by=asker())
        return TowerChange.read(self._connection.ask(request))

    def retire(self, tower: int) -> TowerChange:
        """Retire the previous tower, or reject the candidate, by its id; its vectors are dropped.

        Raises UnknownTower, NotRetirable where it is live.
        """
        return TowerChange.read(self._connection.ask(Retire(tower=_tower(tower), by=asker())))

    def judge_tower(self, tower: int) -> TowerChange:
        """Have the candidate judged, by its id, whether it was before or not: `towers` shows its verdict then.

        Raises UnknownTower, NotPromotable where it is no candidate.
        """
        return TowerChange.read(self._connection.ask(JudgeAgain(tower=_tower(tower))))

    def jobs(self, *, limit: int = 20) -> list[JobStatus]:
        """The latest jobs, newest first."""
        return [JobStatus.read(job) for job in self._connection.ask(ListJobs(limit=limit))["jobs"]]

    def overview(self, *, jobs: int = 10) -> Overview:
        """What goes on: lanes and how much waits on each, workers and what they are at, the newest jobs and all those
        under way, the backlog and the rate. It is cheap enough to be asked every second.

        jobs: how many of the newest to list, beside those under way.
        """
        return Overview.read(self._connection.ask(ShowOverview(jobs=jobs)))

    def pause(self, *, lane: PausableLane | None = None, job: str | None = None, why: str | None = None) -> Pause:
        """Hold back what waits on a lane, or of a job by its id, until it is resumed; what is worked on is finished.

        lane: `intake` (senders wait), `embed`, `backfill` or `train`. It stands in SQL, outlasts every restart, and is
        seen by all workers within 5 s. why: told wherever the pause is, as is who asked.
        Raises UnknownJob, NotPausable (it has ended), InvalidRequest.
        """
        return steering.pause(self._connection, lane=lane, job=job, why=why)

    def drain(self, lane: PausableLane, *, why: str | None = None) -> Pause:
        """As `pause` of a lane, but what waits there now is worked on as well; nothing that comes later is.

        It does not wait for that: `left` says how much there is, and so does the lane in an `overview`.
        """
        return steering.pause(self._connection, lane=lane, job=None, why=why, drain=True)

    def resume(self, *, lane: PausableLane | None = None, job: str | None = None) -> bool:
        """Let a lane, or a job, go on; whether it was paused. Raises UnknownJob, InvalidRequest."""
        return steering.resume(self._connection, lane=lane, job=job)

    def actions(self, *, limit: int = 100) -> list[Action]:
        """Who asked for what, newest first: pauses, cancelled and deleted things, trainings, towers that went live."""
        return [Action.read(each) for each in self._connection.ask(ListActions(limit=limit))["actions"]]

    def unfinished_jobs(
        self,
        *,
        collection: str | None = None,
        kind: JobKind | None = None,
        state: JobState | None = None,
        since: float | timedelta | None = None,
    ) -> list[JobStatus]:
        """The newest jobs that have not ended, newest first, 1,000 at most.

        collection, kind, state: of these alone. since: opened within so many seconds. Raises InvalidRequest.
        """
        return steering.unfinished(self._connection, collection=collection, kind=kind, state=state, since=since)

    def cancel_jobs(
        self,
        *,
        collection: str | None = None,
        kind: JobKind | None = None,
        state: JobState | None = None,
        since: float | timedelta | None = None,
    ) -> list[JobStatus]:
        """Cancel all jobs that `unfinished_jobs` finds, with the same arguments; what became of each.

        Without any it is every job that has not ended. Raises InvalidRequest.
        """
        return steering.cancel(self._connection, collection=collection, kind=kind, state=state, since=since)

    def retry_failures(
        self,
        *,
        since: float | timedelta | None = None,
        reason: Reason | None = None,
        collection: str | None = None,
        normalise: bool = True,
        progress: bool = False,
    ) -> list[EmbedJob]:
        """Send failed pictures of all jobs again, those of each collection as one new job; those jobs.

        since: that failed within so many seconds. reason: for this one. Left out is what was not kept, and what
        `EmbedJob.retry` leaves out; also a key that got a picture since. Raises as `embed` does.
        """
        jobs = steering.retry(
            self._connection,
            collection=collection,
            reason=reason,
            since=since,
            normalise=normalise,
            pace=self._pace(),
            progress=progress,
        )
        return [self._embed_job(id, delivered=True) for id in jobs]

    def dead_batches(self, *, limit: int = 100) -> list[DeadBatch]:
        """The batches that are not tried any more, newest first. What they hold is stored, and listed as failed."""
        return [DeadBatch.read(batch) for batch in self._connection.ask(ListDead(limit=limit))["batches"]]

    def requeue(self, batch: int) -> EmbedJob:
        """Try a dead batch again, once its cause is gone; its job, which goes on.

        Raises UnknownBatch, and NotRescuable where its job was cancelled or its tower is gone.
        """
        return self._embed_job(self._connection.ask(Requeue(batch=batch, by=asker()))["job"])

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

    def _embed_job(self, id: str, *, delivered: bool = False, ended: JobStatus | None = None) -> EmbedJob:
        return EmbedJob(self._connection, id, self._pace(), delivered=delivered, ended=ended)

    def _nearest(
        self, queries: Iterable[Query], filters: _Filters, *, k: int, match: bool, pictures: bool, normalise: bool
    ) -> list[Answer]:
        k = read_integer("k", k, MAX_K)
        limits = filters.checked()
        answers: list[Answer] = []
        for part in _requests(queries, k):
            request = Nearest(queries=part, k=k, **limits, match=match, pictures=pictures, normalise=normalise)
            answers += [Answer.read(answer) for answer in self._connection.ask(request)["answers"]]
        return answers


class _Filters(NamedTuple):
    """What limits a search, as callers give it."""

    collection: str | Sequence[str] | None
    label: int | None
    attributes: dict[str, Any] | None
    max_distance: float | None

    def checked(self) -> dict[str, Any]:
        """As fields of the message. Raises InvalidRequest."""
        label, refused = read_label(self.label)
        attributes, unread = write_attributes(self.attributes)
        if refused or unread:
            raise InvalidRequest("label: " + refused[1] if refused else "attributes: " + (unread or ("", ""))[1])
        return {
            "collection": _collections(self.collection),
            "label": label,
            "attributes": attributes,
            "max_distance": None if self.max_distance == math.inf else read_distance("max_distance", self.max_distance),
        }


def _starter(name: str | None) -> str | None:
    if name is not None and not is_name(name, MAX_STARTER_CHARS):
        raise InvalidRequest(f"started_by {name!r:.80}: a string of 1 to {MAX_STARTER_CHARS} characters without NUL")
    return name


def _tower(id: Any) -> int:
    """Raises InvalidRequest."""
    return read_integer("tower", id, MAX_TOWER)


def _collections(collection: str | Sequence[str] | None) -> str | list[str] | None:
    """One collection, or a list of several, as it travels."""
    if collection is None or isinstance(collection, str):
        if collection is not None:
            _check_collection(collection)
        return collection
    names = list(collection) if isinstance(collection, Iterable) else [collection]
    if not 1 <= len(names) <= MAX_COLLECTIONS:
        raise InvalidRequest(f"{len(names)} collections: 1 to {MAX_COLLECTIONS}")
    for name in names:
        _check_collection(name)
    return names


def _check_collection_or_none(collection: Any) -> None:
    if collection is not None:
        _check_collection(collection)


def _check_collection(collection: Any) -> None:
    if not is_name(collection, MAX_COLLECTION_CHARS):
        raise InvalidRequest(
            f"collection {collection!r:.80}: a string of 1 to {MAX_COLLECTION_CHARS} characters without NUL"
        )


def _one_of(given: dict[str, Any]) -> list[str]:
    """The one name that has a value. Raises InvalidRequest."""
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        *most, last = given
        raise InvalidRequest(f"give one of {', '.join(most)} and {last}; got {' and '.join(names) or 'none'}")
    return names


def _query(
    picture: Any, key: Any, vector: Any, collection: Any, *, tower: str | None = None, after: str | None = None
) -> Query:
    """One of a picture, a key and a vector. Raises InvalidRequest, PictureRefused."""
    _one_of({"picture": picture, "key": key, "vector": vector})
    if (vector is None) != (tower is None) or (tower is not None and not _FINGERPRINT.fullmatch(str(tower))):
        raise InvalidRequest("tower: of a vector, the fingerprint, 64 hexadecimal digits, of the tower that made it")
    if after is not None and not isinstance(after, str):
        raise InvalidRequest(f"after is {after!r:.40}: the `next` of an answer")
    if key is not None:
        if not is_name(key, MAX_KEY_CHARS):
            raise InvalidRequest(f"key {key!r:.80}: a string of 1 to {MAX_KEY_CHARS} characters without NUL")
        return Query(key=key, collection=_collections(collection), after=after)
    if picture is not None:
        return _picture_query(picture, after)
    return Query(vector=_vector(vector), tower=tower, after=after)


def _requests(queries: Iterable[Query], k: int) -> Iterator[list[Query]]:
    """The queries of each request: cut by count, by bytes, and by how many neighbours are answered."""
    most = max(1, min(_QUERIES_A_REQUEST, _NEIGHBOURS_A_REQUEST // k))
    part, size = list[Query](), 0
    for query in queries:
        weight = len(query.encoded or query.glyph or b"")
        if part and (len(part) == most or size + weight > MAX_CHUNK_BYTES):
            yield part
            part, size = [], 0
        part.append(query)
        size += weight
    if part:
        yield part


def _picture_query(picture: Any, after: str | None) -> Query:
    kind, content = encode(picture)
    if isinstance(content, tuple):
        reason, message = content
        raise PictureRefused(f"{reason}: {message}")
    return Query(glyph=content, after=after) if kind == GLYPH else Query(encoded=content, after=after)


def _vector(vector: Any) -> list[float]:
    try:
        values = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"vector: {error}") from None
    if values.shape != (DIMENSIONS,):
        raise InvalidRequest(f"vector has shape {values.shape}: expected {DIMENSIONS} numbers")
    if not np.isfinite(values).all():
        raise InvalidRequest(f"vector holds NaN or infinity at {np.flatnonzero(~np.isfinite(values))[0]}")
    numbers: list[float] = values.tolist()
    return numbers
