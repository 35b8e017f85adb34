"""Which messages nobody waits for any more: answering them would hold up those whose senders do.

A sender of ours listens for the answer on a channel of its own, since before it sent the message, and the broker knows
who listens. So no clock is asked, and whoever waits in another way is answered. It must not know tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from typing import Any

from redis.exceptions import NoPermissionError

from twinvec_client.contract.broker import SUBSCRIBED, answer_channel
from twinvec_client.contract.messages import MESSAGES

log = logging.getLogger(__name__)

# Messages behind one on its lane, before it is left undone: it has waited then. What was sent just now may have come
# before its sender's subscription, which has a connection of its own.
BACKLOG = 10
_AWAITED = {message.task for message in MESSAGES if message.awaited}


def unheard(broker: Any, headers: Iterable[dict[str, Any]], keys: str) -> set[str]:
    """The ids of the messages, of those with these headers, that are for a sender alone who has ceased to listen.

    keys: what the installation's begin with. None where the broker's user may not ask. Raises RedisError.
    """
    ids = [each["id"] for each in headers if each["task"] in _AWAITED and SUBSCRIBED in each]
    if not ids:
        return set()
    try:
        counts = broker.pubsub_numsub(*(answer_channel(id, keys) for id in ids))
    except NoPermissionError:
        _say_that_it_may_not()
        return set()
    return {id for id, (_, listeners) in zip(ids, counts, strict=True) if not listeners}


@cache
def _say_that_it_may_not() -> None:
    """Once."""
    log.warning("the broker's user lacks the right +pubsub|numsub: those who have gone are answered as well")
