"""Every setting, read from the environment (`TWINVEC_...`) on first use. It must not open a connection."""

from __future__ import annotations

import ipaddress
import json
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery.schedules import crontab
from kombu import Queue
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from twinvec_client.contract.broker import KEY_PREFIX, LANES, SERIALIZER, safe_url
from twinvec_client.contract.messages import BackfillDue, Message, RetrainOnSchedule, Sweep


class OpenBroker(Exception):
    """The broker accepts anyone. Set a password or TLS, or TWINVEC_OPEN_BROKER=1 if that is intended."""


class Settings(BaseSettings):
    """What an operator may set. Durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix="TWINVEC_", frozen=True, env_ignore_empty=True)

    broker_url: SecretStr | None = Field(
        None,
        description="Redis 7+ or Valkey 8+ with `maxmemory-policy noeviction`: `redis://` or `rediss://`. "
        "Unset: the embedded server",
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL 14+ with pgvector 0.8+: `postgresql://`. Unset: the embedded server"
    )
    open_broker: bool = Field(
        False, description="`1`: accept a broker on another machine that has neither password nor TLS"
    )
    home: Path = Field(Path(".twinvec"), description="Folder of the embedded servers' data, logs and state")
    broker_port: int = Field(6379, ge=1, le=65535, description="Port of the embedded broker, on 127.0.0.1")
    mnist: Path | None = Field(
        None, description="MNIST: an `.npz` or the folder of its four IDX files. Unset: searched for, then downloaded"
    )
    data: Path | None = Field(
        None,
        description="Glyphs to train on instead of MNIST: an `.npz`, a folder of IDX files or of class folders, "
        "`fashion-mnist` or `kuzushiji-mnist`",
    )
    train_cron: str | None = Field(
        None, description="When to retrain, as five cron fields in UTC, e.g. `0 3 * * *`. Unset: never"
    )
    train_recipe: str = Field("default", description="The recipe of scheduled trainings")
    lease: float = Field(
        60, gt=0, description="Seconds for which a claimed batch belongs to its worker without renewal"
    )
    sweep: float = Field(
        5, gt=0, description="Seconds between two sweeps: expired leases, batches to publish again, callbacks"
    )
    republish_after: float = Field(
        30, gt=0, description="Seconds after which a queued batch that was not claimed is published again"
    )
    in_flight: int = Field(64, ge=1, description="Batches of a kind published and not yet claimed, at most")
    backlog: int = Field(1_000_000, ge=1, description="Digits accepted and not yet embedded, beyond which clients wait")
    job_pictures: int = Field(10_000_000, ge=1000, description="Pictures of one job, at most")
    max_attempts: int = Field(3, ge=1, description="Crashes of its worker after which a batch is split")
    intake_processes: int = Field(1, ge=1, description="Processes of one intake worker, which decode pictures")

    @field_validator("broker_url", "database_url")
    @classmethod
    def _readable(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            safe_url(url.get_secret_value())
        return url

    @field_validator("train_cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        if cron is not None and len(cron.split()) != 5:  # minute hour day month weekday
            raise ValueError("expected five cron fields: minute hour day-of-month month day-of-week")
        return cron

    @cached_property
    def run_file(self) -> Path:
        """Where a running stack notes its URLs and processes."""
        return self.home / "run.json"

    def running(self) -> dict[str, Any]:
        """What `run.json` in `home` says of the running stack; empty where none runs."""
        try:
            noted = json.loads(self.run_file.read_text())
        except (OSError, ValueError):
            return {}
        return noted if isinstance(noted, dict) else {}

    def broker(self) -> str:
        """The broker's URL: the one that is set, else the running stack's, else the embedded server's default."""
        if self.broker_url is not None:
            return safe_url(self.broker_url.get_secret_value())
        return str(self.running().get("broker_url") or f"redis://127.0.0.1:{self.broker_port}/0")

    def guarded_broker(self) -> str:
        """The broker's URL, for processes that run its tasks. Raises OpenBroker if it is remote and unprotected."""
        url = self.broker()
        if not (self.open_broker or _is_guarded(url)):
            host = urlsplit(url).hostname
            raise OpenBroker(
                f"the broker on {host} is open: anyone who reaches it can give the workers tasks; set a password "
                f"(redis://:PASSWORD@{host}) or TLS (rediss://), or set TWINVEC_OPEN_BROKER=1"
            )
        return url

    def database(self) -> str | None:
        """The database's URL for SQLAlchemy, or None where none is set and no stack runs."""
        url = self.database_url.get_secret_value() if self.database_url else self.running().get("database_url")
        if not url:
            return None
        scheme, _, rest = str(url).partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else str(url)

    def celery(self) -> dict[str, Any]:
        """Celery's configuration. What looks odd was measured: SQL is the ledger, a message only wakes a worker."""
        url = self.guarded_broker()
        return {
            "broker_url": url,
            "broker_connection_retry_on_startup": True,
            "broker_connection_max_retries": None,
            "broker_transport_options": {
                "global_keyprefix": KEY_PREFIX,
                "visibility_timeout": 600,
                "unacked_restore_interval": 5,
                "unacked_restore_throttle": 1,
                "socket_timeout": 10,  # None, the default, hangs for ever on a broker that accepts and is silent
                "socket_connect_timeout": 3,
                "socket_keepalive": True,
                "health_check_interval": 25,
                "max_retries": 2,  # of a connection that publishes; the sweep is the next try
                "interval_start": 0.1,
                "interval_max": 0.5,
            },
            "result_backend": url,
            "result_backend_transport_options": {"global_keyprefix": KEY_PREFIX},
            "result_expires": 60,
            "redis_socket_timeout": 10,
            "redis_socket_connect_timeout": 3,
            "task_ignore_result": True,  # but for the tasks that answer
            "task_serializer": SERIALIZER,
            "result_serializer": SERIALIZER,
            "accept_content": [SERIALIZER],
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
            "worker_send_task_events": False,
            "worker_hijack_root_logger": True,
            "worker_log_format": "%(asctime)s %(levelname)s %(message)s",
            "worker_task_log_format": "%(asctime)s %(levelname)s %(message)s",
            "beat_schedule": self._schedule(),
            "timezone": "UTC",
        }

    def _schedule(self) -> dict[str, Any]:
        entries: dict[str, Any] = {}

        def every(name: str, when: Any, message: Message) -> None:
            # No `expires`: it compares the clocks of two machines.
            entries[name] = {
                "task": message.task,
                "schedule": when,
                "kwargs": message.write(),
                "options": {"queue": message.lane, "ignore_result": True},
            }

        every("sweep", self.sweep, Sweep())
        every("backfill what is due", 600.0, BackfillDue())
        if self.train_cron is not None:
            minute, hour, day, month, weekday = self.train_cron.split()
            when = crontab(minute, hour, day_of_month=day, month_of_year=month, day_of_week=weekday)
            every("retrain", when, RetrainOnSchedule(recipe=self.train_recipe))
        return entries


def _is_guarded(broker_url: str) -> bool:
    """Whether a broker's URL has a password or TLS, or does not leave this machine."""
    parts = urlsplit(broker_url)
    if parts.password or parts.scheme in ("rediss", "redis+socket", "unix"):
        return True
    if parts.hostname in (None, "localhost"):
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:  # a name
        return False
