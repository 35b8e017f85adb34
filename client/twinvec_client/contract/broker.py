"""What both sides know of the broker: its lanes, the prefix of its keys, how a URL is read."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LANES = ("query", "control", "express", "intake", "embed", "backfill", "train")

PREFIX = "twinvec"  # of every key in Redis, with a colon behind it: one ACL pattern covers them all
KEY_PREFIX = f"{PREFIX}:"
MAX_PREFIX_CHARS = 64
_PREFIX = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_PREFIX_CHARS}}}")
INSTALLATION = "installation"  # the header, and the field of an answer, that name the installation meant
SUBSCRIBED = "subscribed"  # the header that says that the sender listens for the answer, since before it sent this

SERIALIZER = "msgpack"  # bytes travel as bytes

SENTINEL_PORT = 26379
SENTINEL_TIMEOUT = 2.0  # seconds for one to answer, before the next is asked
_SENTINEL = "sentinel://"
SOCKET_SCHEMES = ("unix", "redis+socket")
SCHEMES = ("redis", "rediss", "sentinel", *SOCKET_SCHEMES)
TLS_PARAMETERS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"}
CERTIFICATES = ("required", "optional", "none")
_PARAMETERS = {"master_name", "sentinel_password"}


def key_prefix(prefix: object) -> str:
    """What the keys of an installation begin with, of the name that it goes by in the broker.

    The colon is in no name, so that no installation's keys are among another's. Raises ValueError.
    """
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"it is {prefix!r:.80}: 1 to {MAX_PREFIX_CHARS} of letters, digits, dots, dashes and underscores"
        )
    return f"{prefix}:"


def job_channel(job: object, keys: str = KEY_PREFIX) -> str:
    """The channel on which workers say, by an empty message, that the job of this id has got on.

    keys: what the keys of the installation begin with.
    """
    return f"{keys}job-{job}"


def answer_channel(id: str, keys: str = KEY_PREFIX) -> str:
    """The channel on which the answer to the message of this id comes, as Celery has it. keys: as of `job_channel`."""
    return f"{keys}celery-task-meta-{id}"


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


def safe_broker_url(url: object) -> str:
    """As `safe_url`, of a broker's alone: every part is one that all who read it honour.

    What Celery and redis-py would leave out, or read each in its own way, is refused. Raises ValueError, which shows
    no password and says what to write.
    """
    if not isinstance(url, str):
        raise ValueError(f"it is a {type(url).__name__} and not a string: write redis://HOST:6379/0")
    if not url.strip():
        raise ValueError("it is empty: write redis://HOST:6379/0")
    scheme, sign, _ = url.partition("://")
    if not sign or scheme not in SCHEMES:
        raise ValueError(_other_scheme(url, scheme if sign else None))
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("it holds a blank or a line break, which a URL does not")
    safe = safe_url(url)
    if scheme != "sentinel":
        _check_parts(safe, scheme)
    return safe


def _other_scheme(url: str, scheme: str | None) -> str:
    """Shows nothing of the URL but its scheme, or what is a host and a port: the rest may be a password."""
    if scheme is None:
        place = re.fullmatch(r"(?:redis:)?([A-Za-z0-9._-]+)(:\d+)?(/\d*)?", url)
        meant = f"redis://{place[1]}{place[2] or ':6379'}{place[3] or '/0'}" if place else "redis://HOST:6379/0"
        return f"it is not a URL, and must begin with redis:// or rediss://: write {meant}"
    begins = f"begins with {scheme}://" if re.fullmatch(r"[\w+.-]{1,20}", scheme) else "is not a URL"
    taken = {"valkey": "redis", "valkeys": "rediss", "http": "redis", "https": "rediss", "tcp": "redis"}.get(scheme)
    return f"it {begins}, and must begin with {f'{taken}://' if taken else 'redis:// or rediss://'}"


def _check_parts(url: str, scheme: str) -> None:
    """Raises ValueError where one of Celery and redis-py would not honour a part of a broker's URL."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"it cannot be read: {error}") from None
    try:
        port = parts.port
    except ValueError:  # which shows it, and it may be a password
        raise ValueError("what stands behind its host and a colon is not a port: write redis://HOST:6379/0") from None
    if "#" in url:
        raise ValueError("it has a part behind #, which means nothing: a # of the password is %23")
    if "%" in (parts.hostname or ""):
        raise ValueError("its host holds a %, which one does not")
    if port == 0:
        raise ValueError("its port is 0: write the broker's own, such as 6379")
    query = parse_qsl(parts.query, keep_blank_values=True)
    given = dict(query)
    if len(given) < len(query):
        raise ValueError("one of its parameters stands there twice")
    if scheme in SOCKET_SCHEMES:
        Socket.read(url)
        return
    if not re.fullmatch(r"/?|/\d+", parts.path):
        raise ValueError("its path is not the number of a database, as in /0")
    if unknown := given.keys() - TLS_PARAMETERS:
        hint = ": the database is its path, as in /1" if unknown & {"db", "virtual_host"} else ""
        raise ValueError(f"there is no parameter {', '.join(sorted(unknown))}{hint or _taken(scheme)}")
    if given and scheme != "rediss":
        raise ValueError(f"its parameter {min(given)} is of TLS, and that begins with rediss://")
    if (asked := given.get("ssl_cert_reqs", "required")) not in CERTIFICATES:
        raise ValueError(f"ssl_cert_reqs is {asked:.40}: it can be {', '.join(CERTIFICATES)}")


def _taken(scheme: str) -> str:
    taken = ", ".join(sorted(TLS_PARAMETERS))
    return f": with rediss:// there are {taken}" if scheme == "rediss" else ": redis:// has none"


@dataclass(frozen=True)
class Socket:
    """A broker on a Unix socket of this machine: `unix:///run/valkey.sock?db=0`.

    redis-py calls it so, Celery `redis+socket:///run/valkey.sock?virtual_host=0`; either is read, by both sides.
    """

    path: str  # percent-encoded, as it stands in the URL
    login: str  # `user:password@` as it stands in the URL, or nothing
    database: str

    @classmethod
    def read(cls, url: str) -> Socket | None:
        """None where the URL is not a socket's. Raises ValueError, which shows no password."""
        if not url.startswith(tuple(f"{scheme}://" for scheme in SOCKET_SCHEMES)):
            return None
        place, _, query = url.partition("://")[2].partition("?")
        login, at, path = place.rpartition("@")
        given = dict(parse_qsl(query, keep_blank_values=True))
        if unknown := given.keys() - {"db", "virtual_host"}:
            raise ValueError(f"with a socket there is no parameter {', '.join(sorted(unknown))}: there is db")
        database = given.get("db", given.get("virtual_host", "0"))
        if len(given) > 1 or not re.fullmatch(r"\d+", database):
            raise ValueError("its database is the number in ?db=0")
        if not path.startswith("/") or len(path) == 1:
            raise ValueError("it names no socket: write unix:///run/valkey.sock, with three strokes")
        return cls(path=path, login=login + at, database=database)

    @property
    def for_celery(self) -> str:
        return f"redis+socket://{self.login}{self.path}?virtual_host={self.database}"

    @property
    def for_redis(self) -> str:
        return f"unix://{self.login}{self.path}?db={self.database}"


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
        place = Socket.read(url)
        return (url if place is None else place.for_celery), {}
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
