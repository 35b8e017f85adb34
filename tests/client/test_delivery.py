"""A client and a worker over a broker that loses, repeats and shuffles: every picture is accepted once."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from io import BytesIO
from typing import Any

import msgpack
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from db.queue import jobs, rescue
from db.states import JobKind
from tasks.answering import answering
from tasks.embed import embed
from tasks.intake import take_in
from tasks.jobs import end_job, failures_of, receipts_of
from tasks.query import look_up
from tests.makers import Ledger, counts, failures, glyph, register, stored, trained, vector, vectors
from twinvec_client import (
    Digit,
    IdempotencyConflict,
    InvalidRequest,
    Neighbour,
    NoAnswer,
    NotEmbedded,
    NoTower,
    PictureRefused,
    PicturesLost,
    TowerNotLive,
    Twinvec,
    UnknownJob,
    UnknownKey,
)
from twinvec_client.connection import Connection
from twinvec_client.contract.messages import Cancel, Express, FailuresOf, Intake, Message, Nearest, Receipts, StatusOf
from twinvec_client.delivery import new_job
from twinvec_client.errors import revive
from twinvec_client.notices import Follower
from worker.runtime import Runtime

WORK: dict[type[Message], Callable[[Any, Runtime], dict[str, Any]]] = {
    Intake: lambda chunk, runtime: {"digest": take_in(chunk, runtime)},
    Express: lambda job, runtime: {"digest": take_in(job, runtime)},
    Receipts: receipts_of,
    FailuresOf: failures_of,
    Cancel: end_job,
    Nearest: look_up,
    StatusOf: lambda request, runtime: asdict(runtime.transact(jobs.status, uuid.UUID(request.job))),
}


def over_the_wire(message: Any) -> Any:
    return msgpack.unpackb(msgpack.packb(message))


class Direct(Connection):
    """Its broker and worker are a function call, and its luck is `deliver`: chunk -> times it arrives."""

    answer_timeout, installation = 30.0, None

    def __init__(self, runtime: Runtime, deliver: Callable[[Intake], int] = lambda chunk: 1) -> None:
        self.runtime, self.deliver = runtime, deliver
        self.sent: list[int] = []
        self.failures: dict[str, str] = {}  # by message

    def send(self, message: Message) -> str:
        assert isinstance(message, Intake)
        self.sent.append(message.seq)
        for _ in range(self.deliver(message)):
            take_in(Intake.read(over_the_wire(message.write())), self.runtime)
        return f"chunk {message.seq}"

    def failure_of(self, id: str) -> str | None:
        return self.failures.get(id)

    def ask(self, message: Message, **options: Any) -> dict[str, Any]:
        request = type(message).read(over_the_wire(message.write()))
        answer: dict[str, Any] = over_the_wire(answering(WORK[type(message)])(request, self.runtime))
        if "error" in answer:
            raise revive(answer["error"], answer["message"])
        return answer

    def follow(self, job: str, tell: Callable[[], None]) -> AbstractContextManager[Follower]:
        """Nothing is announced."""
        return nullcontext(Follower(job, tell))

    def close(self) -> None:
        """Nothing is open."""

    def work(self) -> None:
        """Embed all that is queued."""
        while due := self.runtime.transact(rescue.take_due, JobKind.EMBED, republish_after=0, in_flight=64):
            for batch, _ in due:
                embed(batch, self.runtime)


def client_of(direct: Direct) -> Twinvec:
    """An impatient client over it."""
    client = Twinvec(connection=direct)
    client.resend_after, client.accept_timeout = 0.01, 5.0
    return client


def picture(seed: int) -> np.ndarray[Any, Any]:
    return np.frombuffer(glyph(seed), np.uint8).reshape(28, 28)


def png(seed: int) -> bytes:
    file = BytesIO()
    Image.fromarray(picture(seed)).save(file, "PNG")
    return file.getvalue()


def stream(count: int) -> Iterator[tuple[str, Any]]:
    return ((f"key {at:03}", picture(at)) for at in range(count))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten pictures a chunk."""
    monkeypatch.setattr(Twinvec, "chunk", 10)


@pytest.fixture
def ledger(runtime: Runtime) -> Ledger:
    """The runtime's."""
    return runtime.transact


def test_every_picture_is_embedded_and_its_vector_is_its_own(
    runtime: Runtime, ledger: Ledger, small_chunks: None
) -> None:
    tower = register(ledger)
    direct = Direct(runtime)
    job = client_of(direct).embed(stream(205), labels=lambda key: int(key[-1]))
    direct.work()
    outcome = job.wait(timeout=5)
    assert (outcome.state, outcome.succeeded) == ("finished", 205)
    found = vectors(ledger, tower)
    for at in (0, 9, 10, 204):
        assert found[f"key {at:03}"] == pytest.approx(runtime.towers[tower](picture(at))[0])
    assert direct.sent == list(range(21))


@pytest.mark.parametrize("seed", range(3))
def test_chunks_that_are_lost_or_repeated_are_accepted_once(
    runtime: Runtime, ledger: Ledger, small_chunks: None, seed: int
) -> None:
    luck = np.random.default_rng(seed)
    client = client_of(Direct(runtime, lambda chunk: int(luck.integers(0, 3))))
    job = client.embed(stream(205))
    assert counts(ledger, uuid.UUID(job.id)) == {"accepted": 205}
    assert {key: pixels for key, pixels in stored(ledger).items()} == {
        key: pixels.tobytes() for key, pixels in stream(205)
    }


def test_the_client_gives_up_where_nothing_is_ever_accepted(runtime: Runtime) -> None:
    client = client_of(Direct(runtime, lambda chunk: 0))
    client.accept_timeout = 0.1
    with pytest.raises(NoAnswer, match="intake"):
        client.embed(stream(1))


def test_the_client_that_gives_up_says_what_kept_its_chunks_from_being_accepted(runtime: Runtime) -> None:
    direct = Direct(runtime, lambda chunk: 0)
    client = client_of(direct)
    client.accept_timeout = 0.1
    direct.failures = {"chunk 0": "No space left on device"}
    with pytest.raises(NoAnswer, match="No space left on device"):
        client.embed(stream(1))


@pytest.mark.parametrize("counted", [True, False])
def test_a_job_of_too_many_pictures_is_refused(
    runtime: Runtime, small_chunks: None, monkeypatch: pytest.MonkeyPatch, counted: bool
) -> None:
    monkeypatch.setattr("twinvec_client.delivery.FEW", 0)
    runtime.settings = runtime.settings.model_copy(update={"job_pictures": 20})
    direct = Direct(runtime)
    client = client_of(direct)
    with pytest.raises(InvalidRequest, match="at most 20"):
        client.embed(dict(stream(21)) if counted else stream(21))
    assert direct.sent == ([] if counted else [0, 1])
    client.embed(stream(20))


def test_the_same_pictures_under_the_same_idempotency_key_are_the_same_job(
    runtime: Runtime, ledger: Ledger, small_chunks: None
) -> None:
    register(ledger)
    direct = Direct(runtime)
    client = client_of(direct)
    first = client.embed(stream(25), idempotency_key="monday")
    direct.work()
    again = client.embed(stream(25), idempotency_key="monday")
    assert again.id == first.id
    assert counts(ledger, uuid.UUID(first.id)) == {"accepted": 25, "succeeded": 25}
    assert client.embed(stream(25), idempotency_key="tuesday").id != first.id


@pytest.mark.parametrize("count", [5, 20, 24, 26, 30, 31, 99])
def test_other_pictures_under_a_used_idempotency_key_are_refused_and_change_nothing(
    runtime: Runtime, ledger: Ledger, small_chunks: None, count: int
) -> None:
    client = client_of(Direct(runtime))
    job = client.embed(stream(25), idempotency_key="monday")
    before = client.embed(stream(25), idempotency_key="monday").status()
    with pytest.raises(IdempotencyConflict):
        client.embed(stream(count), idempotency_key="monday")
    after = job.status()
    assert (after.total, after.accepted, after.state) == (before.total, before.accepted, before.state)
    assert len(stored(ledger)) == 25


@pytest.mark.parametrize("counted", [True, False])
def test_other_pictures_leave_a_job_alone_that_was_half_sent_under_the_same_key(
    runtime: Runtime, ledger: Ledger, small_chunks: None, counted: bool
) -> None:
    """Another application's: nothing of them is stored, whatever of the first one's chunks has come."""
    others = {f"other {at}": picture(1000 + at) for at in range(99)}
    half_send(Direct(runtime), 35)
    with pytest.raises(IdempotencyConflict, match="begun with other pictures"):
        client_of(Direct(runtime)).embed(others if counted else iter(others.items()), idempotency_key="monday")
    assert len(stored(ledger)) == 30
    job = client_of(Direct(runtime)).embed(stream(47), idempotency_key="monday")
    assert counts(ledger, uuid.UUID(job.id)) == {"accepted": 47}


def test_of_two_that_send_under_one_key_at_once_one_alone_is_stored(
    runtime: Runtime, ledger: Ledger, small_chunks: None
) -> None:
    """Each had asked for receipts before the other sent, and their chunks come in turn."""

    class Unasked(Direct):
        def ask(self, message: Message, **options: Any) -> dict[str, Any]:
            answer = super().ask(message)
            return answer | {"accepted": [], "first": None} if isinstance(message, Receipts) else answer

    def both() -> Iterator[tuple[str, Any]]:
        for at, mine in enumerate(stream(60)):
            if at == 20:
                with pytest.raises((IdempotencyConflict, NoAnswer)):
                    impatient.embed(((f"other {key}", drawn) for key, drawn in stream(60)), idempotency_key="monday")
            yield mine

    impatient = client_of(Unasked(runtime))
    impatient.accept_timeout = 0.05
    client_of(Direct(runtime)).embed(both(), idempotency_key="monday")
    assert set(stored(ledger)) == {key for key, _ in stream(60)}


def test_the_same_key_in_another_collection_is_another_job(runtime: Runtime, ledger: Ledger) -> None:
    client = client_of(Direct(runtime))
    jobs = {client.embed(stream(3), collection=name, idempotency_key="monday").id for name in ("a", "b", "default")}
    assert len(jobs) == 3


def test_what_was_accepted_before_is_not_sent_again(runtime: Runtime, ledger: Ledger, small_chunks: None) -> None:
    half_send(Direct(runtime), 35)
    direct = Direct(runtime)
    job = client_of(direct).embed(stream(47), idempotency_key="monday")
    assert direct.sent == [3, 4]
    assert counts(ledger, uuid.UUID(job.id)) == {"accepted": 47}


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("count", [8, 12, 20])
def test_a_shorter_stream_where_a_chunk_was_lost_is_refused_and_changes_nothing(
    runtime: Runtime, ledger: Ledger, small_chunks: None, count: int, counted: bool
) -> None:
    """Its end would be before a chunk that was accepted: the job could neither end nor go on."""
    job = half_send(Direct(runtime, lambda chunk: int(chunk.seq != 1)), 35)
    pictures = stream(count)
    with pytest.raises(IdempotencyConflict):
        client_of(Direct(runtime)).embed(dict(pictures) if counted else pictures, idempotency_key="monday")
    assert runtime.transact(jobs.status, job).total is None
    again = client_of(Direct(runtime)).embed(stream(35), idempotency_key="monday")
    assert counts(ledger, uuid.UUID(again.id)) == {"accepted": 35}


def half_send(direct: Direct, count: int) -> uuid.UUID:
    """Send whole chunks of a stream under the key `monday`, and go; the job's id."""

    def broken() -> Iterator[tuple[str, Any]]:
        yield from stream(count)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        client_of(direct).embed(broken(), idempotency_key="monday")
    return uuid.UUID(new_job("monday"))


def test_a_stream_that_breaks_off_can_be_sent_again(runtime: Runtime, ledger: Ledger, small_chunks: None) -> None:
    def broken() -> Iterator[tuple[str, Any]]:
        yield from stream(35)
        raise ConnectionResetError("the scanner is gone")

    client = client_of(Direct(runtime))
    with pytest.raises(ConnectionResetError) as broke_off:
        client.embed(broken(), idempotency_key="monday")
    assert "idempotency_key" in broke_off.value.__notes__[0]
    job = client.embed(stream(47), idempotency_key="monday")
    assert counts(ledger, uuid.UUID(job.id)) == {"accepted": 47}


def test_the_client_waits_while_the_backlog_is_full(runtime: Runtime, ledger: Ledger, small_chunks: None) -> None:
    register(ledger)
    runtime.settings = runtime.settings.model_copy(update={"backlog": 40})
    deepest = full = 0

    class Watched(Direct):
        """Its worker embeds when the backlog was found full three times."""

        def ask(self, message: Message, **options: Any) -> dict[str, Any]:
            nonlocal deepest, full
            answer = super().ask(message)
            if not isinstance(message, Receipts):
                return answer
            deepest = max(deepest, answer["backlog"])
            full += answer["backlog"] >= answer["backlog_limit"]
            if full == 3:
                full = 0
                self.work()
            return answer

    client = client_of(Watched(runtime))
    client.window = 1
    client.embed(stream(105))
    assert 40 <= deepest <= 50


def test_the_client_gives_up_where_a_full_backlog_does_not_shrink(
    runtime: Runtime, ledger: Ledger, small_chunks: None
) -> None:
    runtime.settings = runtime.settings.model_copy(update={"backlog": 40})  # and no tower is live
    client = client_of(Direct(runtime))
    client.window = 1
    client.accept_timeout = 0.6
    with pytest.raises(NoAnswer, match=r"\d+ digits wait to be embedded, .* is a tower live") as gave_up:
        client.embed(stream(105))
    assert "keeps what was accepted" in gave_up.value.__notes__[0]


def test_large_pictures_wait_while_many_bytes_are_under_way(runtime: Runtime, ledger: Ledger) -> None:
    under_way: dict[int, int] = {}

    class Weighing(Direct):
        most = 0

        def send(self, message: Message) -> str:
            assert isinstance(message, Intake)
            under_way[message.seq] = sum(map(len, message.encoded))
            Weighing.most = max(Weighing.most, sum(under_way.values()))
            return super().send(message)

        def ask(self, message: Message, **options: Any) -> dict[str, Any]:
            answer = super().ask(message)
            for seq, _ in answer["accepted"] if isinstance(message, Receipts) else []:
                under_way.pop(seq, None)
            return answer

    client = client_of(Weighing(runtime))
    client.chunk, client.window_bytes = 1, 5_000
    job = client.embed((f"key {seed}", png(seed)) for seed in range(40))
    assert counts(ledger, uuid.UUID(job.id)) == {"accepted": 40}
    assert 4_000 < Weighing.most <= 5_000 + 2 * len(png(0))


def test_a_retry_leaves_out_what_gave_way_to_another_picture(runtime: Runtime, ledger: Ledger) -> None:
    client = client_of(Direct(runtime))
    first = client.embed({"a": picture(1), "b": b"no picture"})
    client.embed({"a": picture(2)})
    assert failures(ledger, uuid.UUID(first.id)) == {"a": "superseded", "b": "not_a_picture"}
    again = first.retry()
    assert failures(ledger, uuid.UUID(again.id)) == {"b": "not_a_picture"}
    assert stored(ledger) == {"a": picture(2).tobytes()}


def test_bad_pictures_are_listed_and_the_rest_goes_on(runtime: Runtime, ledger: Ledger) -> None:
    job = client_of(Direct(runtime)).embed(
        {"good": picture(1), "empty": b"", "odd": Digit(picture(2), label=-1), "gone": "/no such file", "": picture(3)}
    )
    reasons = {failure.key: failure.reason for failure in job.failures()}
    assert reasons == {"empty": "empty", "odd": "bad_label", "gone": "unreadable", "#4": "bad_key"}
    assert failures(ledger, uuid.UUID(job.id)) == reasons
    assert set(stored(ledger)) == {"good"}


def test_failures_of_many_pages_come_once_each(
    runtime: Runtime, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinvec_client.job._PAGE", 5)
    job = client_of(Direct(runtime)).embed((f"key {at:02}", b"") for at in range(20))
    assert [failure.key for failure in job.failures()] == [f"key {at:02}" for at in range(20)]


def test_a_cancelled_job_says_so(runtime: Runtime, ledger: Ledger) -> None:
    job = client_of(Direct(runtime)).embed(stream(3))
    assert job.cancel().state == "cancelled"
    assert job.wait(timeout=5).cancelled == 3
    assert stored(ledger) == {}


def test_neighbours_carry_what_was_sent_with_them(runtime: Runtime, ledger: Ledger) -> None:
    register(ledger)
    direct = Direct(runtime)
    client = client_of(direct)
    odd = {"mass": 1e25, "count": 10**30, "path": "C:\\u0000", "deep": [{"née": None}]}
    client.embed({"a": picture(1), "b": picture(2)}, labels={"a": 7}, attributes={"a": odd}, collection="cheques")
    direct.work()
    answer = client.nearest(picture(1), k=2)
    first, second = answer
    assert (first.key, first.collection, first.label) == ("a", "cheques", 7)
    assert first.attributes is not None
    assert float(first.attributes.pop("mass")) == odd.pop("mass")  # SQL gives it back without an exponent
    assert first.attributes == odd
    assert (second.key, second.label, second.attributes) == ("b", None, None)
    assert [neighbour.key for neighbour in client.nearest(key="a", k=2)] == ["b"]
    assert [len(answer) for answer in client.nearest_many([picture(1), picture(3)], k=1)] == [1, 1]


def test_a_search_has_filters_pages_and_many_queries(runtime: Runtime, ledger: Ledger) -> None:
    tower = register(ledger)
    direct = Direct(runtime)
    client = client_of(direct)
    pictures = {str(seed): picture(seed) for seed in range(9)}
    for collection in ("a", "b"):
        sides = {key: {"page": {"side": int(key) % 2}} for key in pictures}
        client.embed(pictures, labels={key: int(key) % 3 for key in pictures}, attributes=sides, collection=collection)
    direct.work()
    query = vector(tower, 1)
    name = trained("first").fingerprint
    everything = client.nearest(vector=query, tower=name, k=18)
    assert (len(everything), everything.compared, everything.next) == (18, 18, None)

    def found(**given: Any) -> list[Neighbour]:
        return client.nearest(vector=query, tower=name, k=1000, **given).neighbours

    kept = [each for each in everything if each.collection == "b" and each.label == 1]
    assert found(collection=["b", "none such"], label=1) == kept
    odd = [each for each in everything if int(each.key) % 2]
    assert found(attributes={"page": {"side": 1}}) == odd
    near = everything.neighbours[5].distance  # of the second of a pair: each picture stands in both collections
    assert found(max_distance=near) == everything.neighbours[:6]
    first = client.nearest(vector=query, tower=everything.tower, k=7)
    second = client.nearest(vector=query, tower=name, k=11, after=first.next)
    assert [*first, *second] == [*everything]
    assert client.nearest(key="1", collection="a", k=1, pictures=True).neighbours[0].picture is not None
    by_key = client.nearest_many(keys=["1", "2"], collection="a", k=3)
    assert [answer.neighbours for answer in by_key] == [
        client.nearest(key=key, collection="a", k=3).neighbours for key in ("1", "2")
    ]
    vectors = np.stack([vector(tower, seed) for seed in (1, 2)])
    by_vector = client.nearest_many(vectors=vectors, tower=everything.tower, k=2)
    assert [answer.neighbours[0].key for answer in by_vector] == ["1", "2"]
    assert client.nearest_many([]) == client.nearest_many(keys=[]) == []


def test_refusals_of_a_query_are_the_clients_own_errors(runtime: Runtime, ledger: Ledger) -> None:
    client = client_of(Direct(runtime))
    with pytest.raises(NoTower):
        client.nearest(picture(1))
    register(ledger)
    client.embed({"due": picture(1)})
    with pytest.raises(NotEmbedded):
        client.nearest(key="due")
    with pytest.raises(UnknownKey):
        client.nearest(key="none such")
    for unreadable in (b"text", "no such file"):
        with pytest.raises(PictureRefused):
            client.nearest(unreadable)
    wrong: list[dict[str, Any]] = [
        {"k": 0},
        {"k": 1001},
        {"k": True},
        {"key": "a"},
        {"picture": None},
        {"collection": ""},
        {"picture": None, "key": "nul\0"},
        {"picture": None, "key": 7},
        {"collection": 7},
        {"collection": []},
        {"collection": ["a", ""]},
        {"collection": ["a"] * 101},
        {"label": -1},
        {"label": "7"},
        {"attributes": "text"},
        {"attributes": {"a": float("nan")}},
        {"max_distance": -1},
        {"max_distance": float("nan")},
        {"max_distance": "far"},
        {"tower": "0" * 64},
        {"after": "last"},
        {"after": 7},
    ]
    for arguments in wrong:
        with pytest.raises(InvalidRequest):
            client.nearest(**({"picture": picture(1)} | arguments))
    for tower in ("", "0" * 63, 7, None):
        with pytest.raises(InvalidRequest):
            client.nearest(vector=[0.0] * 128, tower=tower)  # type: ignore[arg-type]  # of the wrong type as well
    with pytest.raises(TowerNotLive):
        client.nearest(vector=[0.0] * 128, tower="0" * 64)
    several: list[dict[str, Any]] = [{}, {"pictures": [], "keys": []}, {"keys": ["a"], "tower": "0" * 64}]
    for given in several:
        with pytest.raises(InvalidRequest):
            client.nearest_many(**given)
    for bad in ([0.0] * 127, [float("nan")] * 128, "text", [[1], [2, 3]], ["a"] * 128, 7):
        with pytest.raises(InvalidRequest):
            client.nearest(vector=bad, tower="0" * 64)


@pytest.mark.parametrize("collection", ["", "c" * 129, "nul\0", "\ud800", None, 7])
def test_what_is_no_collection_is_refused(runtime: Runtime, collection: Any) -> None:
    with pytest.raises(InvalidRequest):
        client_of(Direct(runtime)).embed({}, collection=collection)


def forget_all(ledger: Ledger) -> None:
    """As a database does that is restored from a backup."""
    ledger(lambda session: session.execute(text("TRUNCATE jobs, batches, failures, digits CASCADE")))


def test_a_client_is_told_of_pictures_that_a_restored_database_has_no_more(
    runtime: Runtime, ledger: Ledger, small_chunks: None
) -> None:
    def forgetful() -> Iterator[tuple[str, Any]]:
        for at, item in enumerate(stream(205)):
            if at == 175:  # sixteen chunks are under way at most, so that some are accepted by now
                forget_all(ledger)
            yield item

    register(ledger)
    direct = Direct(runtime)
    with pytest.raises(PicturesLost, match="same idempotency key"):
        client_of(direct).embed(forgetful(), idempotency_key="a")
    job = client_of(direct).embed(stream(205), idempotency_key="a")
    direct.work()
    assert job.wait(timeout=5).succeeded == 205


def test_who_waits_for_a_job_is_told_when_a_restored_database_has_but_a_part_of_it(
    runtime: Runtime, ledger: Ledger, small_chunks: None
) -> None:
    job = client_of(Direct(runtime)).embed(stream(205))
    ledger(lambda session: session.execute(text("DELETE FROM batches WHERE seq = 20")))
    with pytest.raises(PicturesLost):
        job.wait(timeout=5)
    forget_all(ledger)
    with pytest.raises(UnknownJob):
        job.wait(timeout=5)
