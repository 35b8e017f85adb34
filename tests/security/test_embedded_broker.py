"""The broker of a home: its workers and commands have a password, other programs an application's rights."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from local.servers import Servers
from local.servers.valkey import Valkey

pytestmark = pytest.mark.usefixtures("costly")

FORBIDDEN: list[tuple[Any, ...]] = [
    ("RPOP", "twinvec:intake"),
    ("LRANGE", "twinvec:intake", 0, -1),  # pictures on their way
    ("LPUSH", "twinvec:embed", "x"),
    ("SADD", "twinvec:intake", "x"),
    ("DEL", "twinvec:unacked"),
    ("SET", "twinvec:installation", "x"),
    ("SCAN", 0),
    ("KEYS", "*"),
    ("RANDOMKEY",),
    ("PUBSUB", "CHANNELS"),
    ("PSUBSCRIBE", "*"),
    ("PSUBSCRIBE", "twinvec:celery-task-meta-*"),
    ("FLUSHALL",),
    ("CONFIG", "GET", "dir"),
    ("ACL", "LIST"),
    ("EVAL", "return redis.call('GET', KEYS[1])", 1, "twinvec:installation"),
    ("SHUTDOWN",),
]


def test_without_the_password_nothing_of_ours_is_read_or_changed_and_an_application_works(tmp_path: Path) -> None:
    with Servers(tmp_path / "home", database=False) as servers:
        port = urlsplit(servers.broker_url).port or 0
        anybody = redis.Redis(port=port)
        for command in FORBIDDEN:
            with pytest.raises(redis.ResponseError, match=r"No permissions|has no permissions|ACL failure"):
                anybody.execute_command(*command)
        assert anybody.lpush("twinvec:intake", "a message") == 1
        assert anybody.llen("twinvec:intake") == 1
        assert anybody.get("twinvec:celery-task-meta-1") is None
        assert anybody.lpush("shop", "a message of an application's own") == 1
        assert anybody.brpop("shop", 1)
        with redis.Redis.from_url(servers.broker_url) as workers:
            assert workers.rpop("twinvec:intake") == b"a message"
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port, username="twinvec", password="guessed").ping()


def test_the_keys_of_another_prefix_are_guarded_where_that_is_set(tmp_path: Path) -> None:
    with Servers(tmp_path / "home", database=False, prefix="staging") as servers:
        anybody = redis.Redis(port=urlsplit(servers.broker_url).port or 0)
        with pytest.raises(redis.ResponseError, match="No permissions"):
            anybody.rpop("staging:intake")
        assert anybody.lpush("staging:intake", "x") == 1
        assert anybody.set("stage", "x")


def test_each_home_has_a_password_of_its_own_which_it_keeps_and_shows_to_nobody(tmp_path: Path) -> None:
    urls = []
    for home in ("one", "one", "two"):
        with Servers(tmp_path / home, database=False) as servers:
            urls.append(servers.broker_url)
            (server,) = servers.processes()
            assert password(servers.broker_url) not in " ".join(server.cmdline())
    first, again, other = map(password, urls)
    assert first == again != other
    assert len(first) >= 32
    kept = tmp_path / "one" / "valkey" / "users.conf"
    assert first in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    assert first not in (tmp_path / "one" / "logs" / "valkey.log").read_text()


def test_a_broker_of_an_older_version_that_still_runs_gets_the_password_and_keeps_what_it_holds(tmp_path: Path) -> None:
    folder = tmp_path / "valkey"
    old = Valkey(folder, tmp_path / "valkey.log", 0)
    old.start()
    with redis.Redis.from_url(old.url) as broker:
        broker.set("twinvec:kept", "x")
    new = Valkey(folder, tmp_path / "valkey.log", old.port, guarded=True)
    new.start()
    try:
        assert re.fullmatch(rf"redis://twinvec:[\w-]+@127\.0\.0\.1:{old.port}/0", new.url)
        with redis.Redis.from_url(new.url) as broker:
            assert broker.get("twinvec:kept") == b"x"
    finally:
        new.stop(immediate=True)


def password(url: str) -> str:
    found = urlsplit(url).password
    assert found
    return found
