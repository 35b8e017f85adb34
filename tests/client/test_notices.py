"""Jobs that are followed by the notices of workers: real ones, lost ones, refused ones."""

import gc
import os
import pickle
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
import redis

from tests.makers import eventually
from tests.silence import Proxy
from twinvec_client import notices as reading
from twinvec_client.connection import Connection
from twinvec_client.contract.broker import job_channel
from worker.notices import Notifier, notify

JOB = uuid.uuid4()


class Followed:
    """One follower, and how often it was told."""

    def __init__(self, connection: Connection, job: uuid.UUID = JOB) -> None:
        self.times, self.told = 0, threading.Event()
        self._block = connection.follow(str(job), self._tell)

    def _tell(self) -> None:
        self.times += 1
        self.told.set()

    def __enter__(self) -> "Followed":
        self.follower = self._block.__enter__()
        assert self.told.wait(5), "neither subscribed nor refused"
        return self

    def __exit__(self, *_: object) -> None:
        self._block.__exit__(None, None, None)

    def told_by(self, act: object) -> bool:
        self.told.clear()
        assert callable(act)
        act()
        return self.told.wait(5)


@pytest.fixture
def connection(broker: "redis.Redis", broker_url: str) -> Iterator[Connection]:
    connection = Connection(broker_url)
    yield connection
    connection.close()


def subscribers(broker: "redis.Redis", job: uuid.UUID = JOB) -> int:
    return int(broker.pubsub_numsub(job_channel(job))[0][1])


def connected(broker: "redis.Redis") -> set[str]:
    """The ids of the connections that are open to it; those of tests before may be closing."""
    return {client["id"] for client in broker.client_list()}


def test_who_follows_a_job_is_told_of_it_and_of_no_other(connection: Connection) -> None:
    with Followed(connection) as followed, Followed(connection, uuid.uuid4()) as other:
        assert followed.follower.subscribed
        before = other.times
        assert followed.told_by(lambda: notify([JOB]))
        assert other.times == before


def test_an_installation_with_a_prefix_of_its_own_has_channels_of_its_own(
    broker: "redis.Redis", broker_url: str
) -> None:
    connection = Connection(broker_url, prefix="another")
    with Followed(connection) as followed:
        assert subscribers(broker) == 0
        assert followed.told_by(lambda: Notifier(broker, "another:").notify({JOB}))
    connection.close()


def test_all_who_follow_share_one_connection_that_goes_when_they_have_gone(
    connection: Connection, broker: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    before = connected(broker)
    with Followed(connection) as one, Followed(connection) as two:
        (shared,) = connected(broker) - before
        assert subscribers(broker) == 1
        one.told.clear()
        assert two.told_by(lambda: notify([JOB]))
        assert one.told.wait(5)
    with Followed(connection, uuid.uuid4()):
        eventually(lambda: subscribers(broker) == 0, "the end of a subscription that nobody needs")
        monkeypatch.setattr(reading, "KEPT", 0.0)
    eventually(lambda: shared not in connected(broker), "the end of the connection")
    with Followed(connection) as again:
        assert again.told_by(lambda: notify([JOB]))


def test_a_lost_connection_is_made_anew(
    connection: Connection, broker: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "RETRY_AFTER", 0.01)
    with Followed(connection) as followed:
        for _ in range(3):
            assert followed.told_by(lambda: broker.client_kill_filter(_type="pubsub")), "what was missed is asked for"
            eventually(lambda: subscribers(broker) == 1 and followed.follower.subscribed, "the subscription")
            assert followed.told_by(lambda: notify([JOB]))


def test_a_connection_that_has_fallen_silent_is_made_anew(
    broker: "redis.Redis", broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SILENT", 0.3)
    with Proxy(int(broker_url.rpartition(":")[2].partition("/")[0])) as proxy:
        connection = Connection(f"redis://127.0.0.1:{proxy.port}/0")
        with Followed(connection) as followed:
            assert proxy.swallow() == 1
            eventually(lambda: followed.told_by(lambda: notify([JOB])), "a notice over another connection")
        connection.close()


def test_who_may_not_subscribe_is_told_so_and_asks_at_intervals(
    connection: Connection, broker: "redis.Redis", broker_url: str
) -> None:
    broker.execute_command("ACL", "SETUSER", "narrow", "reset", "on", ">narrow", "~*", "resetchannels", "+@all")
    narrow = Connection(broker_url.replace("redis://", "redis://narrow:narrow@"))
    try:
        start = time.monotonic()
        for _ in range(3):
            with Followed(narrow) as followed:
                assert not followed.follower.subscribed
        assert time.monotonic() - start < 4
    finally:
        narrow.close()
        broker.execute_command("ACL", "DELUSER", "narrow")


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_followers_that_come_and_go_leave_a_thread_that_works(connection: Connection) -> None:
    """Also where one has gone before the thread has begun to read."""
    for _ in range(20):
        with connection.follow(str(uuid.uuid4()), lambda: None):
            pass
        connection.close()
        with connection.follow(str(uuid.uuid4()), lambda: None):
            pass
        with Followed(connection) as followed:
            assert followed.told_by(lambda: notify([JOB]))


def test_a_client_that_is_forgotten_leaves_no_connection_behind(broker: "redis.Redis", broker_url: str) -> None:
    before, made = connected(broker), set[str]()
    for _ in range(5):
        connection = Connection(broker_url)
        with Followed(connection) as followed:
            assert followed.follower.subscribed
            made |= connected(broker) - before
        del connection, followed
    assert len(made) >= 5
    gc.collect()
    eventually(lambda: not made & connected(broker), "the end of their connections")


def test_there_is_no_broker_to_subscribe_at() -> None:
    connection = Connection("redis://127.0.0.1:1/0")
    with Followed(connection) as followed:
        assert not followed.follower.subscribed
    connection.close()


def test_a_forked_process_follows_over_a_connection_of_its_own(connection: Connection) -> None:
    with Followed(connection) as followed:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with Followed(connection) as own:
                    status = 0 if own.told_by(lambda: notify([JOB])) else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert followed.told_by(lambda: notify([JOB]))


def test_a_pickled_connection_follows_over_one_of_its_own(connection: Connection) -> None:
    with Followed(connection):
        copy = pickle.loads(pickle.dumps(connection))
    with Followed(copy) as followed:
        assert followed.told_by(lambda: notify([JOB]))
    copy.close()


def test_a_thread_that_reads_notices_ends_with_its_connection(broker: "redis.Redis", broker_url: str) -> None:
    connection = Connection(broker_url)
    with Followed(connection):
        connection.close()
        eventually(lambda: not any(t.name == "twinvec-notices" for t in threading.enumerate()), "the thread's end")
    assert subscribers(broker) == 0
