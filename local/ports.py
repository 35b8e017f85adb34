"""Ports of this machine: which one is free. It must not know who listens."""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"
_SERVERS = range(10_000, 32_768)  # Linux gives connections 32768 to 60999, IANA's recommendation 49152 and more


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen there now; connections of one that is gone are not an obstacle."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """One that is free now, below those that systems give to connections: none of these takes it before its server.

    Raises OSError where none is found.
    """
    for port in random.sample(_SERVERS, 1000):
        if is_free(port):
            return port
    raise OSError(f"none of 1,000 ports of {_SERVERS.start} to {_SERVERS.stop - 1} is free")
