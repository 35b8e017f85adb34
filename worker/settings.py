"""Every setting, read from the environment (`TWINVEC_...`) on first use. It must not open a connection."""

from __future__ import annotations

import ipaddress
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from training.recipes import RECIPES
from twinvec_client.contract.broker import PREFIX, Sentinels, key_prefix, safe_broker_url, safe_url
from twinvec_client.contract.states import TrainingData
from worker.cron import schedules
from worker.runfile import RunFile, run_file

FOR_EVER = 36_500  # days
DATABASES = ("postgresql", "postgres", "postgresql+psycopg")  # schemes


class OpenBroker(Exception):
    """The broker accepts anyone. Set a password or TLS, or TWINVEC_OPEN_BROKER=1 if that is intended."""


class NoDatabase(Exception):
    """no database: set TWINVEC_DATABASE_URL, or start the embedded one with `twinvec up`"""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Settings(BaseSettings):
    """What an operator may set. Durations are in seconds, but for how long something is kept: that is in days."""

    model_config = SettingsConfigDict(env_prefix="TWINVEC_", frozen=True, allow_inf_nan=False)

    broker_url: SecretStr | None = Field(
        None,
        description="Redis 7+ or Valkey 8+ with `maxmemory-policy noeviction`: `redis://` or `rediss://`; "
        "or `sentinel://HOST:26379;sentinel://HOST:26379/0?master_name=NAME`. Unset: the embedded server",
    )
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL 14+ with pgvector 0.8.4+: `postgresql://`; behind PgBouncer with `pooler=transaction`. "
        "Unset: the embedded server",
    )
    prefix: str | None = Field(
        None,
        description="What the keys of this installation in the broker begin with, before a colon: installations that "
        "share a broker have one each. Unset: `twinvec`",
    )
    open_broker: bool = Field(
        False, description="`1`: accept a broker on another machine that has neither password nor TLS"
    )
    home: Path = Field(
        Path(".twinvec"), validate_default=True, description="Folder of the embedded servers' data, logs and state"
    )
    broker_port: int = Field(6379, ge=1, le=65535, description="Port of the embedded broker, on 127.0.0.1")
    mnist: Path | None = Field(
        None, description="MNIST: an `.npz` or the folder of its four IDX files. Unset: searched for, then downloaded"
    )
    data: Path | None = Field(
        None,
        description="Glyphs to train on instead of MNIST: an `.npz`, `.npy` or CSV, a folder of IDX files or of class "
        "folders, `fashion-mnist` or `kuzushiji-mnist`. Unset: MNIST",
    )
    data_transposed: bool | None = Field(
        None,
        description="`1`: exchange rows and columns of the arrays in TWINVEC_DATA, as EMNIST's files need it; `0`: "
        "take them as they are. Unset: what looks transposed is refused",
    )
    input_urls: str | None = Field(
        None,
        description="How URLs begin that `twinvec embed` may read, joined by commas, e.g. "
        "`s3://scans/2026,https://data.example/`. Unset: none",
    )
    web_token: SecretStr | None = Field(
        None,
        description="What a visitor of the page of `twinvec web` has to show, 16 characters or more; wanted where it "
        "listens beyond this machine. Unset: none, on this machine alone",
    )
    train_cron: str | None = Field(
        None, description="When to retrain, as five cron fields in UTC, e.g. `0 3 * * *`, or `@daily`. Unset: never"
    )
    train_recipe: str = Field("default", description="The recipe of scheduled trainings")
    train_data: TrainingData = Field(
        "both",
        description="What scheduled trainings learn from: `mnist` (or what TWINVEC_DATA names), `stored` digits that "
        "have a label, or `both`",
    )
    judge_tolerance: float = Field(
        0.01,
        ge=0,
        le=1,
        description="By how much a candidate's pair accuracy, recall@1, recall@10 and MAP@R may be lower than the live "
        "tower's",
    )
    asked_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the pictures looked up while a candidate is filled that are kept, and asked under both "
        "towers when it is judged",
    )
    auto_promote: bool = Field(
        True, description="`0`: a candidate that passed its judging waits for `twinvec promote`; else it goes live"
    )
    maintain_previous: bool = Field(
        True,
        description="`0`: new digits get no vector under the previous tower; a rollback then embeds them first",
    )
    keep_previous: float = Field(
        7, gt=0, le=FOR_EVER, description="Days that the tower which was live before can be rolled back to"
    )
    watch: float = Field(
        3600,
        gt=0,
        description="Seconds between two looks at the live tower: vectors computed again, new digits far from old ones",
    )
    lease: float = Field(
        60, gt=0, description="Seconds for which a claimed batch belongs to its worker without renewal"
    )
    sweep: float = Field(
        5, gt=0, description="Seconds between two sweeps: expired leases, batches to publish again, callbacks"
    )
    republish_after: float = Field(
        15, gt=0, description="Seconds after which a queued batch that was not claimed is published again"
    )
    backfill_share: float = Field(
        0.125,
        gt=0,
        lt=1,
        description="Share of an embedding process's time that a backfill gets while new digits wait, which come first",
    )
    in_flight: int = Field(64, ge=1, description="Batches of a kind published and not yet claimed, at most")
    statement_timeout: float = Field(
        15, gt=0, description="Seconds that a statement may take, and that the database's answer is waited for"
    )
    backlog: int = Field(1_000_000, ge=1, description="Digits accepted and not yet embedded, beyond which clients wait")
    job_pictures: int = Field(10_000_000, ge=1000, description="Pictures of one job, at most")
    job_failure_bytes: int = Field(
        256 * 2**20, ge=0, description="Bytes of the pictures that the failures of one job keep, about"
    )
    abandoned_after: float = Field(
        86_400,
        ge=0,
        description="Seconds without a chunk after which a job whose client has not sent all of it ends as "
        "`abandoned`; `0`: never",
    )
    max_attempts: int = Field(3, ge=1, description="Crashes of its worker after which a batch is split")
    max_errors: int = Field(
        300,
        ge=1,
        description="Tries of a batch, all ended by an exception, after which it is dead: about a day, with pauses",
    )
    max_callbacks: int = Field(
        60, ge=1, description="Failed calls of a job's callback after which it is given up: about a day, with pauses"
    )
    intake_processes: int | None = Field(
        None,
        ge=1,
        description="Processes of one intake worker, which decode pictures. Unset: one for every two cores, up to 4",
    )

    niceness: int = Field(
        10,
        ge=0,
        le=19,
        description="How far workers whose answers nobody waits for let others go first where cores are few, and "
        "intake by 2 more; `0`: not at all",
    )

    http_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port on which a worker or `beat` serves `/metrics`, `/live` and `/ready`; `0`: a free one. "
        "`twinvec up` counts on from it, a port for each. Unset: none, and free ones with `twinvec up`",
    )
    http_host: str = Field("127.0.0.1", description="Address on which that port listens; `0.0.0.0`: all of them")
    log_format: Literal["text", "json"] = Field(
        "text", description="How workers and `beat` write each line of their logs: `text` or `json`"
    )

    prune: float = Field(
        5,
        gt=0,
        description="Seconds between two rounds of pruning, each of which takes a tenth of a second, or a little more",
    )
    keep_jobs: float = Field(
        30, gt=0, le=FOR_EVER, description="Days after its end that a job is kept, with its batches and failures"
    )
    keep_most_jobs: int = Field(
        10_000_000,
        ge=1,
        description="Jobs, about, beyond which the oldest go before their time, but an hour after their end",
    )
    keep_dead: float = Field(
        90,
        gt=0,
        le=FOR_EVER,
        description="Days that a job with dead batches is kept, and longer while their digits lack a vector",
    )
    keep_callbacks: float = Field(
        90, gt=0, le=FOR_EVER, description="Days that an ended job is kept whose callback cannot be called"
    )
    keep_pictures: float = Field(
        30, gt=0, le=FOR_EVER, description="Days that a failure keeps the picture that was sent; at most as its job"
    )
    keep_actions: float = Field(
        365, gt=0, le=FOR_EVER, description="Days that it is kept who asked for what, as `twinvec actions` lists it"
    )
    keep_towers: float = Field(
        30, gt=0, le=FOR_EVER, description="Days that a retired or rejected tower keeps its file; the rest of it stays"
    )

    @classmethod
    def tolerant(cls) -> tuple[Self, ValidationError | None]:
        """The settings with each wrong one left out as if it were not set, and what is wrong with these."""
        try:
            return cls(), None
        except ValidationError as error:
            wrong = {str(each["loc"][0]) for each in error.errors()}
            return cls(**{name: cls.model_fields[name].get_default() for name in wrong}), error

    @field_validator("*", mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        """An empty value is a slip, such as a secret that was not filled in, and no wish for the default."""
        if isinstance(value, str) and not value.strip():
            raise ValueError("it is empty: give it a value, or unset it")
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, url: SecretStr | None) -> SecretStr | None:
        return None if url is None else SecretStr(safe_broker_url(url.get_secret_value()))

    @field_validator("database_url")
    @classmethod
    def _database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            _require_scheme(url.get_secret_value(), DATABASES)
            _check_port(safe_url(url.get_secret_value()))
        return url

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, prefix: str | None) -> str | None:
        if prefix is not None:
            key_prefix(prefix)
        return prefix

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        try:
            return home.expanduser().resolve()
        except (RuntimeError, OSError) as error:  # ~ of a user that does not exist; links that lead in a circle
            raise ValueError(f"it is not a folder: {error}") from None

    @field_validator("train_cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        if cron is not None:
            schedules(cron)
        return cron

    @field_validator("train_recipe")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RECIPES:
            raise ValueError(f"there is no such recipe: {', '.join(sorted(RECIPES))}")
        return name

    @cached_property
    def run_file(self) -> Path:
        """Where a running stack notes its URLs and processes."""
        return run_file(self.home)

    def running(self) -> RunFile | None:
        """What the stack that runs in `home` notes of itself; None where none runs. Raises RunFileError."""
        return RunFile.require(self.run_file)

    def broker(self) -> str:
        """The broker's URL: the one that is set, else the running stack's, else the embedded server's default."""
        if self.broker_url is not None:
            return self.broker_url.get_secret_value()
        stack = self.running()
        return f"redis://127.0.0.1:{self.broker_port}/0" if stack is None else stack.broker_url

    def lane_prefix(self) -> str:
        """The prefix that is set, else the running stack's, else the default."""
        if self.prefix is not None:
            return self.prefix
        stack = None if self.broker_url is not None else self.running()
        return PREFIX if stack is None else stack.prefix

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

    def decoders(self) -> int:
        """Processes of one intake worker: those that are set, else one for every two cores, up to 4."""
        return self.intake_processes or min(max(_cores() // 2, 1), 4)

    def pictures_at_once(self) -> int:
        """Child processes in which each of those decodes the pictures of a chunk, so that all cores do, up to 16."""
        return min(max(_cores() // self.decoders(), 1), 4)

    def allowed_urls(self) -> list[str]:
        """How URLs begin that may be read."""
        return [each.strip() for each in (self.input_urls or "").split(",") if each.strip()]

    def database(self) -> str | None:
        """The database's URL for SQLAlchemy, or None where none is set and no stack runs."""
        if self.database_url is not None:
            url = self.database_url.get_secret_value()
        elif (stack := self.running()) is not None:
            url = stack.database_url
        else:
            return None
        scheme, _, rest = url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url

    def require_database(self) -> str:
        """As `database`. Raises NoDatabase where there is none."""
        url = self.database()
        if url is None:
            raise NoDatabase
        return url


def _cores() -> int:
    """On which this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _require_scheme(url: str, schemes: tuple[str, ...]) -> None:
    """Raises ValueError, which shows nothing of the URL but its scheme: the rest may be a password."""
    scheme, sign, _ = url.partition("://")
    if sign and scheme in schemes:
        return
    begins = f"begins with {scheme}://" if sign and re.fullmatch(r"[\w+.-]{1,20}", scheme) else "is not a URL"
    raise ValueError(f"it {begins}, and must begin with {' or '.join(f'{each}://' for each in schemes[:2])}")


def _check_port(url: str) -> None:
    """Raises ValueError, which does not show it: it may be a password without its `@`."""
    place = url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")[2]
    for host in place.split(","):
        if not re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(:\d{0,5})?", host):
            raise ValueError("what stands behind its host and a colon is not a port: postgresql://HOST:5432/NAME")


def _is_guarded(broker_url: str) -> bool:
    """Whether a broker's URL has a password or TLS, or does not leave this machine."""
    sentinels = Sentinels.read(broker_url)
    if sentinels is not None:
        return ":" in sentinels.login or all(_is_local(host) for host, _ in sentinels.hosts)
    parts = urlsplit(broker_url)
    return bool(parts.password) or parts.scheme in ("rediss", "redis+socket", "unix") or _is_local(parts.hostname)


def _is_local(host: str | None) -> bool:
    if host in (None, "localhost"):
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:  # a name
        return False
