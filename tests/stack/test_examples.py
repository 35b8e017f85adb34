"""The examples, run as they stand."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cli.demo import strokes
from tests.lacking import lacking
from tests.stack.conftest import Stack, until

ROOT = Path(__file__).parents[2]


def test_a_folder_is_embedded_by_the_example(stack: Stack, tower: dict[str, Any], tmp_path: Path) -> None:
    for digit in (3, 7):
        (tmp_path / f"{digit}.png").write_bytes(strokes.png(digit))
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    example = ROOT / "examples" / "embed_folder.py"
    command: list[str | Path] = [sys.executable, example, tmp_path, "--broker", stack.broker_url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "finished_with_failures: 2 embedded, 0 unchanged, 1 failed" in ran.stdout
    assert f"{tmp_path / 'bad.png'}: not_a_picture" in ran.stdout
    assert str(tmp_path / "7.png") in ran.stdout.rpartition("nearest to")[2]


def loaded(name: str) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    sys.modules[name] = example  # Django finds its routes by name
    spec.loader.exec_module(example)
    return example


def test_an_upload_is_embedded_and_shows_its_neighbours_by_the_fastapi_example(
    stack: Stack, tower: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("fastapi") is None:
        lacking("FastAPI")
    monkeypatch.setenv("TWINVEC_BROKER_URL", stack.broker_url)
    example = loaded("upload_fastapi")

    async def use() -> None:
        async with example.app.router.lifespan_context(example.app):
            for key, digit in (("one", 7), ("two", 7)):
                status, body = await requested(example.app, "POST", f"/digits/fastapi-{key}", strokes.png(digit))
                assert status == 202
                await (await example.app.state.twinvec.job(json.loads(body)["job"])).wait(timeout=60)
            status, body = await requested(example.app, "GET", "/digits/fastapi-one/neighbours")
            assert (status, json.loads(body)[0]["key"]) == (200, "fastapi-two")
            assert (await requested(example.app, "GET", "/digits/none/neighbours"))[0] == 404

    asyncio.run(use())


def test_an_upload_is_embedded_and_shows_its_neighbours_by_the_django_example(
    stack: Stack, tower: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("django") is None:
        lacking("Django")
    monkeypatch.setenv("TWINVEC_BROKER_URL", stack.broker_url)
    example = loaded("upload_django")
    browser = importlib.import_module("django.test").Client()
    for key in ("one", "two"):
        answer = browser.post(f"/digits/django-{key}", strokes.png(3), content_type="image/png")
        assert answer.status_code == 202
        stack.client().job(answer.json()["job"]).wait(timeout=60)
    assert browser.get("/digits/django-one/neighbours").json()[0]["key"] == "django-two"
    assert browser.get("/digits/none/neighbours").status_code == 404
    example.tv.close()


def test_a_folder_is_embedded_every_night_by_the_script_for_cron(
    stack: Stack, tower: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "7.png").write_bytes(strokes.png(7))
    broker = ["--broker", stack.broker_url, "--collection", "cron"]
    command = [sys.executable, str(ROOT / "examples" / "cron_folder.py"), str(tmp_path), *broker]
    said = []
    for _ in range(2):
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        said.append(ran.stdout.strip())
    assert said == ["1 embedded, 0 unchanged, 0 failed", "0 embedded, 1 unchanged, 0 failed"]
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr.partition(":")[0]) == (1, "bad.png")
    ran = subprocess.run(
        [*command[:-3], "redis://127.0.0.1:1/0"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stderr.partition(":")[0]) == (2, "not embedded")


def test_a_schedule_of_somebody_else_s_application_embeds_and_is_called_back(
    stack: Stack, tower: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "7.png").write_bytes(strokes.png(7))
    environment = {**os.environ, "SHOP_BROKER_URL": stack.broker_url, "SHOP_FOLDER": str(tmp_path)}
    words = "-m celery -A scheduled worker --beat --queues shop --pool solo -l INFO -s"
    log = tmp_path / "log"
    with log.open("wb") as written:
        worker = subprocess.Popen(
            [sys.executable, *words.split(), str(tmp_path / "beat")],
            cwd=ROOT / "examples",
            env={**environment, "SHOP_SECONDS": "1"},
            stdout=written,
            stderr=written,
        )
    try:
        until(lambda: "1 embedded, 0 unchanged" in log.read_text(), "the first callback")
        until(lambda: "0 embedded, 1 unchanged" in log.read_text(), "the callback of the next round")
    finally:
        worker.terminate()
        worker.wait(timeout=30)


Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def test_progress_is_served_by_the_example(
    stack: Stack, tower: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("starlette") is None:
        lacking("Starlette")
    monkeypatch.setenv("TWINVEC_BROKER_URL", stack.broker_url)
    example = loaded("serve_progress")

    async def use() -> None:
        status, body = await requested(example.app, "POST", "/digits/served", strokes.png(7))
        job = json.loads(body)["job"]
        assert status == 202
        status, body = await requested(example.app, "GET", f"/jobs/{job}")
        assert status == 200
        events = [json.loads(event.removeprefix(b"data: ")) for event in body.split(b"\n\n") if event]
        assert [event["id"] for event in events] == [job] * len(events)
        assert (events[-1]["state"], events[-1]["succeeded"]) == ("finished", 1)
        assert (await requested(example.app, "GET", "/jobs/none"))[0] == 404
        await example.tv.close()

    asyncio.run(use())


async def requested(app: Application, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of one request, as a server would hand it to an ASGI application."""
    sent: list[dict[str, Any]] = []
    received = iter([{"type": "http.request", "body": body}])

    async def receive() -> Any:
        for event in received:
            return event
        return await asyncio.Event().wait()  # the browser stays

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [], "root_path": ""}
    async with asyncio.timeout(60):
        await app(scope, receive, send)
    return sent[0]["status"], b"".join(event.get("body", b"") for event in sent[1:])
