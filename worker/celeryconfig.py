"""Celery's configuration, made of the settings. It must not know tasks: it names their messages.

Celery imports `CELERY` by name on first use, in the children of a spawned pool too: what is handed to an application
in any other way does not reach them.
"""

from __future__ import annotations

from typing import Any

from kombu import Queue
from redis.backoff import NoBackoff
from redis.retry import Retry

from twinvec_client.contract.broker import LANES, SERIALIZER, Socket, keepalive, key_prefix, transport
from twinvec_client.contract.messages import BackfillDue, Message, Prune, RetrainOnSchedule, Sweep, Watch
from worker import installation
from worker.cron import schedules
from worker.settings import Settings


def celery_config(settings: Settings) -> dict[str, Any]:
    """Celery's configuration. What looks odd was measured: SQL is the ledger, a message only wakes a worker."""
    broker, prefix = settings.guarded_broker(), key_prefix(settings.lane_prefix())
    url, named = transport(broker, retry=Retry(NoBackoff(), 0))
    return {
        "broker_url": url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            **named,
            "global_keyprefix": prefix,
            "owner_key": prefix + installation.KEY,
            "backfill_share": settings.backfill_share,
            "visibility_timeout": 600,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 3,  # None, the default, hangs for ever on a broker that accepts and is silent
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "socket_keepalive_options": keepalive(),
            "health_check_interval": 2,  # a connection that fell silent is dropped after 5 s, at the latest
            "max_retries": 2,  # of a connection that publishes; the sweep is the next try
            "interval_start": 0.1,
            "interval_max": 0.5,
        },
        "result_backend": url,
        "result_backend_transport_options": {**named, "global_keyprefix": prefix},
        "result_expires": 60,
        "redis_socket_timeout": 3,  # of the answers: with the one above, a caller waits for both at worst
        "result_backend_always_retry": True,  # over a new connection: the one there was may have fallen silent
        "result_backend_max_retries": 3,
        "redis_socket_keepalive": Socket.read(broker) is None,  # a socket of this machine has none
        "redis_socket_connect_timeout": 3,
        "task_ignore_result": True,  # but for the tasks that answer
        "task_serializer": SERIALIZER,
        "result_serializer": SERIALIZER,
        "accept_content": [SERIALIZER],
        "task_time_limit": 900,  # for what sets none itself; a process that is stuck for longer is ended and replaced
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,  # True: a message that kills its process comes back for ever
        "task_acks_on_failure": True,  # the ledger repeats, never the broker
        "task_acks_on_timeout": True,
        "task_publish_retry": False,  # the sweep publishes again
        "task_default_queue": "control",
        "task_queues": [Queue(lane) for lane in LANES],  # default direct queues: no binding to lose in Redis
        "task_create_missing_queues": False,
        "worker_prefetch_multiplier": 1,
        "worker_pool": "prefork",
        "worker_pool_start_method": "spawn",  # TensorFlow does not survive a fork
        "worker_proc_alive_timeout": 300,
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # the fence makes it needless
        "worker_soft_shutdown_timeout": 2,  # always slept through; a batch takes less, and a training is given back
        "worker_enable_remote_control": False,
        "worker_send_task_events": True,  # three to a batch, sent together; nobody need read them
        "worker_consumer": "worker.consumer:Consumer",
        "worker_hijack_root_logger": True,
        "worker_log_format": "%(asctime)s %(levelname)s %(message)s",
        "worker_task_log_format": "%(asctime)s %(levelname)s %(message)s",
        "beat_schedule": _schedule(settings),
        "timezone": "UTC",
    }


def _schedule(settings: Settings) -> dict[str, Any]:
    entries: dict[str, Any] = {}

    def every(name: str, when: Any, message: Message) -> None:
        # No `expires`: it compares the clocks of two machines.
        entries[name] = {
            "task": message.task,
            "schedule": when,
            "kwargs": message.write(),
            "options": {"queue": message.lane, "ignore_result": True},
        }

    every("sweep", settings.sweep, Sweep())
    every("backfill what is due", 600.0, BackfillDue())
    every("prune", settings.prune, Prune())
    every("watch", settings.watch, Watch())
    if settings.train_cron is not None:
        message = RetrainOnSchedule(recipe=settings.train_recipe, data=settings.train_data)
        for at, schedule in enumerate(schedules(settings.train_cron)):  # one training at a time, however many ask
            every("retrain" if at == 0 else "retrain, by weekday", schedule, message)
    return entries


def __getattr__(name: str) -> dict[str, Any]:
    """`CELERY`, made when it is asked for: importing this module reads no settings."""
    if name == "CELERY":
        return celery_config(Settings())
    raise AttributeError(name)
