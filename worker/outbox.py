"""Publishes batches: sends the message that names a queued row, best effort. It must not know what a batch holds.

The outbox itself is the queued rows of `batches`; the sweep publishes again what was lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from db.states import JobKind
from twinvec_client.contract.messages import BackfillBatch, EmbedBatch, JudgeBatch, Message, TrainBatch
from worker.app import app
from worker.logs import about

log = logging.getLogger(__name__)

MESSAGES: dict[
    JobKind, type[EmbedBatch | BackfillBatch | TrainBatch | JudgeBatch]
] = {  # that name a batch, by the kind of its job
    JobKind.EMBED: EmbedBatch,
    JobKind.BACKFILL: BackfillBatch,
    JobKind.TRAIN: TrainBatch,
    JobKind.JUDGE: JudgeBatch,
}


def publish(batches: Iterable[tuple[int, JobKind]]) -> None:
    """Send a message for each batch (id, kind). What could not be published is published again by the sweep."""
    for batch, kind in batches:
        message = MESSAGES[kind](batch=batch)
        try:
            app.send_task(message.task, kwargs=message.write(), queue=message.lane, ignore_result=True)
        except (OperationalError, RedisError) as error:
            log.warning("could not publish batch %d: %s", batch, error, extra=about(batch=batch))
            return  # the next ones would wait for the same broker


def ask(message: Message, *, most: int) -> None:
    """Send a message that may be lost, and that one of those which wait makes needless; not behind `most` others."""
    try:
        with app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            if channel._size(message.lane) < most:
                app.send_task(message.task, kwargs=message.write(), queue=message.lane, ignore_result=True)
    except (OperationalError, RedisError) as error:
        log.warning("could not send %s: %s", message.task, error)


def depths() -> dict[JobKind, int]:
    """How many messages wait in the broker, by kind. Raises kombu's OperationalError, redis's RedisError."""
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        return {kind: channel._size(message.lane) for kind, message in MESSAGES.items()}
