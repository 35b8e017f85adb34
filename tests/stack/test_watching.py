"""What watches a running stack: a real Prometheus with the dashboard's queries and the alerts, health over HTTP with a
process frozen for real, and a reader of Celery's events."""

import json
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest
import redis
import yaml
from celery import Celery
from sqlalchemy.orm import Session

from db.vectors import watch
from db.vectors.watch import NewDigits
from local.child import SERVICES
from local.ports import free_port
from tests.lacking import lacking
from tests.stack.conftest import Stack, until
from worker.forkserver import POOL
from worker.monitor import FROZEN

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "twinvec.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
SELECTOR = re.compile(r"\b(?:twinvec_\w+|up)(?:\{[^}]*\})?")
PICTURES = 300
WITHOUT_GPU = {"twinvec_gpu_memory_bytes"}  # nothing tells of one where there is none

Digits = tuple[np.ndarray, np.ndarray]


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        lacking(f"{name} (Debian: apt install prometheus)")
    return found


def get(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as refused:
        return refused.code, refused.read().decode()


class Prometheus:
    """A server that scrapes the stack every second, as deploy/prometheus has it otherwise."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        configured = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        configured["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        (job,) = configured["scrape_configs"]
        job["file_sd_configs"] = [{"files": [str(stack.home / "run" / "prometheus.json")]}]
        del job["dns_sd_configs"]  # no name of a container is known here
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configured))
        shutil.copy(DEPLOY / "prometheus" / "alerts.yml", folder)
        self.process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            stderr=(folder / "log").open("wb"),
        )

    def ask(self, path: str) -> Any:
        status, said = get(f"{self.url}/api/v1/{path}")
        assert status == 200, said
        return json.loads(said)["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.ask(f"query?query={quote(expression.replace('$__rate_interval', '20s'))}")["result"]
        return found

    def scrapes_all(self) -> bool:
        try:
            return {each["health"] for each in self.ask("targets")["activeTargets"]} == {"up"}
        except OSError:
            return False


@pytest.fixture(scope="module")
def frozen(stack: Stack, tower: Any) -> Iterator[float]:
    """The pool process of the trainer is stopped by a signal; since when."""
    (trainer,) = (each for each in stack.processes() if each.cmdline()[-2:] == ["--name", "trainer"])
    pool = [child for child in trainer.children() if child.name() == POOL]
    url = where(stack, "trainer")
    until(lambda: get(f"{url}/ready")[0] == 200, "a trainer that is ready")
    for process in pool:
        process.send_signal(signal.SIGSTOP)
    yield time.monotonic()
    for process in pool:
        if process.is_running():
            process.send_signal(signal.SIGCONT)
    until(lambda: get(f"{url}/ready")[0] == 200, "a trainer that is ready again")


@pytest.fixture(scope="module")
def work(stack: Stack, tower: Any, digits: Digits) -> None:
    """One of each that is watched has happened."""
    images, _ = digits
    tv = stack.client()
    pictures: dict[str, Any] = {f"watched/{at}": image for at, image in enumerate(images[:PICTURES])}
    tv.embed(pictures | {"watched/bad": b"no picture"}, collection="watched").wait(timeout=60)
    tv.embed({"watched/0": images[0]}, collection="watched").wait(timeout=60)
    tv.nearest(images[0])
    live = stack.one("SELECT id FROM towers WHERE status = 'live'")  # another test may have promoted one
    engine = stack.engine()
    with Session(engine) as session, session.begin():
        watch.record_canary(session, live, worker="elsewhere:1", digits=16, worst=1e-8)
        watch.record_drift(session, live, NewDigits("watched", [], 0), looked_at=10, far=0)
    engine.dispose()
    with redis.Redis.from_url(stack.noted["broker_url"]) as broker:
        broker.lpush("twinvec:backfill", json.dumps({"body": "no message"}))


@pytest.fixture(scope="module")
def prometheus(stack: Stack, frozen: float, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), stack)
    yield server
    server.process.terminate()
    server.process.wait(20)


def where(stack: Stack, worker: str) -> str:
    return str(json.loads((stack.home / "run.json").read_text())["http"][worker])


def test_prometheus_answers_every_query_of_the_dashboard_and_the_alerts(
    stack: Stack, prometheus: Prometheus, work: None
) -> None:
    until(prometheus.scrapes_all, "a scrape of every worker and of beat")
    assert len(prometheus.ask("targets")["activeTargets"]) == len(SERVICES)

    def answered(queries: list[str], what: str) -> None:
        left = list(queries)

        def all_answered() -> bool:
            left[:] = [query for query in queries if not prometheus.query(query)]
            return not left

        try:
            until(all_answered, f"an answer to {what}", within=90)
        except AssertionError as late:
            raise AssertionError(f"{late}: {left}") from late

    asked = [query for query in QUERIES if not WITHOUT_GPU & set(SELECTOR.findall(query))]
    answered(asked, "every query of the dashboard")
    watched = sorted({found for rule in ALERTS for found in SELECTOR.findall(rule["expr"])})
    answered(watched, "all that the alerts are about")
    (rules,) = prometheus.ask("rules")["groups"]
    assert {rule["health"] for rule in rules["rules"]} == {"ok"}
    assert {rule["name"] for rule in rules["rules"]} == {rule["alert"] for rule in ALERTS}


def test_what_the_figures_say_is_so(prometheus: Prometheus, work: None) -> None:
    def one(query: str) -> float | None:
        found = prometheus.query(query)
        return float(found[0]["value"][1]) if found else None

    def counted(query: str, least: int) -> bool:
        return (one(query) or 0) >= least

    def tells(query: str, said: float) -> bool:
        return one(query) == pytest.approx(said)

    until(lambda: one('sum(twinvec_failures_total{reason="not_a_picture"})'), "the picture that is none")
    for least, query in (  # of workers that are not all scraped at once
        (1, 'sum(twinvec_digits_total{outcome="unchanged"})'),
        (PICTURES, 'sum(twinvec_digits_total{outcome="embedded"})'),
        (1, 'sum(twinvec_messages_set_aside_total{lane="backfill"})'),
    ):
        until(partial(counted, query, least), f"{least} or more: {query}")
    for query, said in (
        ("max(twinvec_canary_worst_difference)", 1e-8),
        ("max(twinvec_lane_listening)", 1),
        ("twinvec_backlog_digits", 0),
    ):
        until(partial(tells, query, said), f"{said} for {query}")


def test_the_rules_of_the_alerts_pass_their_tests() -> None:
    command = [program("promtool"), "test", "rules", "alerts-test.yml"]
    ran = subprocess.run(command, cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_reader_of_events_sees_workers_and_tasks_by_their_names_and_no_answer(
    stack: Stack, tower: Any, digits: Digits
) -> None:
    images, _ = digits
    reader = Celery("reader", broker=stack.noted["broker_url"])
    reader.conf.broker_transport_options = {"global_keyprefix": "twinvec:"}
    names: dict[str, str] = {}  # of tasks, by their ids, as a reader of events keeps them
    seen: set[tuple[str, str]] = set()
    whole: list[str] = []

    def note(event: dict[str, Any]) -> None:
        if event["type"] == "task-received":
            names[event["uuid"]] = event["name"]
        seen.add((event["type"], names.get(event.get("uuid", ""), event["hostname"].partition("@")[0])))
        whole.append(json.dumps(event))

    with reader.connection_for_read() as connection:
        receiver = reader.events.Receiver(connection, handlers={"*": note})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=60, wakeup=False), daemon=True)
        thread.start()
        tv = stack.client()
        heartbeats = {("worker-heartbeat", name) for name in ("front", "control", "intake", "embedder", "trainer")}

        def sees_all() -> bool:
            tv.embed({"evented": images[1], "evented/2": images[2]}, collection="evented")
            tv.nearest(images[1])
            named = {("task-received", "twinvec.nearest"), ("task-succeeded", "twinvec.nearest")}
            return named | heartbeats <= seen

        until(sees_all, "the events of workers and tasks", within=30)
        receiver.should_stop = True
    assert not any("evented" in event for event in whole)


def test_a_worker_whose_process_is_frozen_is_neither_live_nor_ready(
    stack: Stack, frozen: float, prometheus: Prometheus
) -> None:
    url = where(stack, "trainer")
    until(lambda: get(f"{url}/live")[0] == 503, "a trainer that is not live", within=FROZEN + 10)
    assert time.monotonic() - frozen > FROZEN / 2
    assert "has not run for" in get(f"{url}/live")[1]
    assert get(f"{url}/ready")[0] == 503
    until(lambda: prometheus.query('twinvec_live{worker="trainer"} == 0'), "Prometheus's word for it")
    for healthy in ("front", "control", "intake", "embedder", "beat"):
        assert [get(f"{where(stack, healthy)}{path}")[0] for path in ("/live", "/ready")] == [200, 200]
