"""Answer requests that came in plain JSON: each does what the message does that asks for the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

import msgspec
from celery import Task

from db.queue import jobs
from tasks import intake
from tasks.answering import Reply, answering, refusal
from twinvec_client.contract import plain
from twinvec_client.contract.messages import BadMessage, Intake
from worker import callers
from worker.admission import PLAIN, Converted, Sender
from worker.app import app
from worker.runtime import Runtime, runtime


@app.task(name=PLAIN, bind=True, time_limit=intake.TIME_LIMIT)
def answer_plain(self: Task[Any, Any], /, **payload: Any) -> None:
    converted = msgspec.convert(payload, Converted, builtin_types=(bytes,))
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    reply = replied(converted, redelivered=redelivered)
    sender = msgspec.json.decode(converted.sender, type=Sender)
    if "error" in reply:
        callers.fail(sender, reply["error"], reply["message"])
    else:
        callers.succeed(sender, plain.write(reply))


def replied(converted: Converted, *, redelivered: bool = False) -> Reply:
    """What the message is answered with, a refusal among others."""
    if converted.asked is None:
        return refusal("InvalidRequest", converted.refusal or "")
    try:
        message = plain.KINDS[converted.task].unpack(converted.asked)
    except BadMessage as error:
        return refusal("InvalidRequest", str(error))
    if isinstance(message, Intake):
        return take_in(message, runtime(), redelivered=redelivered)
    reply: Reply = app.tasks[message.task].run(**message.write())
    return reply


@answering
def take_in(chunk: Intake, runtime: Runtime, *, redelivered: bool) -> Reply:
    """Store pictures as a job of one chunk; the job's status."""
    try:
        digest = intake.accepted(chunk.write(), redelivered)
    except intake.NotStored as error:
        return refusal("DatabaseUnavailable", str(error))
    if digest != chunk.digest:
        return refusal("IdempotencyConflict", f"job {chunk.job} was begun with other pictures, keys or labels")
    return asdict(runtime.transact(jobs.status, UUID(chunk.job)))
