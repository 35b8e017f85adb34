"""The broker that answers are stored in, asked for what else lies there. It must not know what that is."""

from __future__ import annotations

from typing import Any, cast

from redis import Redis

from worker.app import app


def connected() -> Redis:
    """This process's connections to it."""
    backend: Any = app.backend
    return cast("Redis", backend.client)  # the same server: answers lie where the lanes do
