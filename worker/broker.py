"""The broker, asked without Celery. It must not know what its keys hold."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from twinvec_client.contract.broker import Sentinels, Socket, transport


def connect_broker(url: str, **options: Any) -> redis.Redis:
    """A client of the broker at a URL, or of the one that its Sentinels name at each new connection.

    options: of `redis.Redis`.
    """
    sentinels = Sentinels.read(url)
    if sentinels is None:
        place = Socket.read(url)
        return redis.Redis.from_url(url if place is None else place.for_redis, **options)
    _, named = transport(url, retry=Retry(NoBackoff(), 0))
    asked = Sentinel(sentinels.hosts, sentinel_kwargs=named["sentinel_kwargs"])
    user, _, password = sentinels.login.rstrip("@").partition(":")
    primary: redis.Redis = asked.master_for(
        sentinels.master_name,
        username=unquote(user) or None,
        password=unquote(password) or None,
        db=int(sentinels.database),
        **options,
    )
    return primary
