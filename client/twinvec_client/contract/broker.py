"""What both sides know of the broker: its lanes, the prefix of its keys, how a URL is read."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LANES = ("query", "control", "intake", "embed", "backfill", "train")

KEY_PREFIX = "twinvec:"  # of every key in Redis: one ACL pattern covers them all

SERIALIZER = "msgpack"  # bytes travel as bytes

SENTINEL_PORT = 26379
SENTINEL_TIMEOUT = 2.0  # seconds for one to answer, before the next is asked
_SENTINEL = "sentinel://"
_PARAMETERS = {"master_name", "sentinel_password"}


def safe_url(url: str) -> str:
    """A server's URL; with `rediss://` its certificate is checked, unless the URL says otherwise.

    Raises ValueError, which shows no password, on one that cannot be read.
    """
    for part in parts_of(url):
        login = part.partition("://")[2].rpartition("@")[0]
        if any(mark in login for mark in "/?#@"):  # everyone would cut it in another place, and show a part of it
            raise ValueError("its password is not written as a URL's: / ? # and @ are %2F %3F %23 and %40 there")
    if url.startswith(_SENTINEL):
        Sentinels.read(url)
    scheme, _, rest = url.partition("://")
    if scheme != "rediss" or "ssl_cert_reqs=" in rest:
        return url
    return f"{url}{'&' if '?' in rest else '?'}ssl_cert_reqs=required"


def parts_of(url: str) -> list[str]:
    """The URLs that one of Sentinels is joined of; any other is one."""
    first, *others = url.split(f";{_SENTINEL}")
    return [first, *(_SENTINEL + other for other in others)]


@dataclass(frozen=True)
class Sentinels:
    """Servers that know which of several brokers is the primary now.

    Written `sentinel://:PASSWORD@HOST:26379;sentinel://HOST:26379/0?master_name=NAME`, as Celery has it, with the
    primary's name as a parameter, and `sentinel_password` where the Sentinels themselves ask for one. User, password
    and database are the primary's; they stand with the first host. TLS is not supported.
    """

    hosts: tuple[tuple[str, int], ...]
    master_name: str
    login: str  # `user:password@` as it stands in the URL, or nothing
    database: str
    password: str | None  # of the Sentinels

    @classmethod
    def read(cls, url: str) -> Sentinels | None:
        """None where the URL is a broker's own. Raises ValueError, which shows no password."""
        if not url.startswith(_SENTINEL):
            return None
        parts = [urlsplit(part) for part in parts_of(url)]
        query = dict(parse_qsl("&".join(part.query for part in parts if part.query)))
        if not query.get("master_name"):
            raise ValueError("it does not say which primary to ask for: add ?master_name=NAME")
        if unknown := query.keys() - _PARAMETERS:
            raise ValueError(f"with sentinel:// there is no parameter {', '.join(sorted(unknown))}")
        if not all(part.hostname for part in parts):
            raise ValueError("one of its Sentinels has no host: sentinel://HOST:26379;sentinel://HOST:26379")
        first = parts[0]
        return cls(
            hosts=tuple((part.hostname or "", part.port or SENTINEL_PORT) for part in parts),
            master_name=query["master_name"],
            login=f"{first.netloc.rpartition('@')[0]}@" if "@" in first.netloc else "",
            database=next((part.path.strip("/") for part in parts if part.path.strip("/")), "0"),
            password=query.get("sentinel_password"),
        )


def transport(url: str, *, retry: Any) -> tuple[str, dict[str, Any]]:
    """A broker's URL as Celery reads it, and the transport options that go with it.

    retry: redis's, of a Sentinel that does not answer. It should be none: its default goes on asking one for seconds
    before it asks the next.
    """
    sentinels = Sentinels.read(url)
    if sentinels is None:
        return url, {}
    named = ((f"[{host}]" if ":" in host else host, port) for host, port in sentinels.hosts)
    # Celery goes on to the next of them where one does not answer, and takes all it needs from that one.
    joined = ";".join(f"{_SENTINEL}{sentinels.login}{host}:{port}/{sentinels.database}" for host, port in named)
    asked = {  # Celery's result backend sets no limit itself
        "password": sentinels.password,
        "retry": retry,
        "socket_timeout": SENTINEL_TIMEOUT,
        "socket_connect_timeout": SENTINEL_TIMEOUT,
    }
    return joined, {"master_name": sentinels.master_name, "sentinel_kwargs": asked}


def keepalive() -> dict[int, int]:
    """Socket options by which a peer that is gone is noticed within 20 s, also while nothing is sent.

    As far as the system has them; the kernel's own would take hours.
    """
    wanted = {
        "TCP_KEEPIDLE": 5,
        "TCP_KEEPALIVE": 5,  # what macOS calls it
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 20_000,  # milliseconds that sent data may stay unanswered
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}
