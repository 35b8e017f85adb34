"""A Celery application like a caller's: messages and answers in JSON, and no prefix before the names of queues.

Through it the workers call a caller's tasks, and answer requests in plain JSON. It must not know the ledger.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from celery.app.task import Context
from celery.canvas import signature

from twinvec_client.contract.application import ExplicitApplication
from worker.admission import Sender
from worker.app import app

KEPT = 3600  # seconds that an answer in JSON waits to be read


def send(task: str, arguments: list[Any], queue: str) -> None:
    """Send one message, as Celery's own clients would. Raises kombu's OperationalError, redis's RedisError."""
    _theirs().send_task(task, args=arguments, queue=queue, ignore_result=True)


def succeed(sender: Sender, answer: Any) -> None:
    """Answer a request as Celery does when a task has returned, and go on with what comes after it.

    Raises kombu's OperationalError, redis's RedisError.
    """
    theirs, request = _theirs(), _request(sender)
    onward: dict[str, Any] = {"parent_id": sender.id, "root_id": sender.root_id or sender.id}
    for callback in sender.callbacks or ():
        signature(dict(callback), app=theirs).apply_async((answer,), **onward)
    if sender.chain:
        *rest, following = sender.chain
        signature(dict(following), app=theirs).apply_async((answer,), chain=rest, **onward)
    theirs.backend.mark_as_done(sender.id, answer, request=request, store_result=not sender.ignore_result)


def fail(sender: Sender, name: str, message: str) -> None:
    """Answer a request as Celery does when a task has raised: with an exception of this name. Raises as `succeed`."""
    # A caller that has our package gets the class of that name; any other gets one that Celery makes.
    error = type(name, (Exception,), {"__module__": "twinvec_client.errors"})(message)
    _theirs().backend.mark_as_failure(sender.id, error, request=_request(sender), store_result=not sender.ignore_result)


def _request(sender: Sender) -> Context:
    return Context(
        id=sender.id,
        root_id=sender.root_id or sender.id,
        parent_id=sender.parent_id,
        group=sender.group,
        group_index=sender.group_index,
        chord=sender.chord,
        chain=sender.chain,
        errbacks=sender.errbacks,
        delivery_info={},
        ignore_result=sender.ignore_result,
    )


@cache
def _theirs() -> ExplicitApplication:
    conf = app.conf
    theirs = ExplicitApplication("twinvec-callers", broker=conf["broker_url"], set_as_current=False)
    theirs.conf.update(
        broker_transport_options=_without_prefix(conf["broker_transport_options"]),
        result_backend=conf["result_backend"],
        result_backend_transport_options=_without_prefix(conf["result_backend_transport_options"]),
        result_expires=KEPT,
        task_publish_retry=False,
        **{name: value for name, value in conf.items() if name.startswith(("redis_socket", "result_backend_"))
           and name != "result_backend_transport_options"},
    )  # fmt: skip
    return theirs


def _without_prefix(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("global_keyprefix", "owner_key")}
