"""What both sides know of the broker: its lanes, the prefix of its keys, how a URL is read."""

from __future__ import annotations

import socket

LANES = ("query", "control", "intake", "embed", "backfill", "train")

KEY_PREFIX = "twinvec:"  # of every key in Redis: one ACL pattern covers them all

SERIALIZER = "msgpack"  # bytes travel as bytes


def safe_url(url: str) -> str:
    """A server's URL; with `rediss://` its certificate is checked, unless the URL says otherwise.

    Raises ValueError, which shows no password, on one that cannot be read.
    """
    scheme, _, rest = url.partition("://")
    login = rest.rpartition("@")[0]
    if any(mark in login for mark in "/?#@"):  # everyone would cut it in another place, and show a part of it
        raise ValueError("its password is not written as a URL's: / ? # and @ are %2F %3F %23 and %40 there")
    if scheme != "rediss" or "ssl_cert_reqs=" in rest:
        return url
    return f"{url}{'&' if '?' in rest else '?'}ssl_cert_reqs=required"


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
