"""The examples, and the Python of the client's README, run as they stand."""

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cli.demo import strokes
from tests.lacking import lacking
from tests.stack.conftest import Stack

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "client" / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_in_the_clients_readme_runs(
    block: str, stack: Stack, tower: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans").mkdir()
    for name in re.findall(r"scans/[\w-]+\.png", block):
        (tmp_path / name).write_bytes(strokes.png(7))
    monkeypatch.chdir(tmp_path)
    exec(block.replace("redis://localhost:6379/0", stack.noted["broker_url"]), {})


def test_a_folder_is_embedded_by_the_example(stack: Stack, tower: dict[str, Any], tmp_path: Path) -> None:
    for digit in (3, 7):
        (tmp_path / f"{digit}.png").write_bytes(strokes.png(digit))
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    command = [sys.executable, ROOT / "examples" / "embed_folder.py", tmp_path, "--broker", stack.noted["broker_url"]]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "finished_with_failures: 2 embedded, 0 unchanged, 1 failed" in ran.stdout
    assert f"{tmp_path / 'bad.png'}: not_a_picture" in ran.stdout
    assert str(tmp_path / "7.png") in ran.stdout.rpartition("nearest to")[2]


Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def test_progress_is_served_by_the_example(
    stack: Stack, tower: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("starlette") is None:
        lacking("Starlette")
    monkeypatch.setenv("TWINVEC_BROKER_URL", stack.noted["broker_url"])
    spec = importlib.util.spec_from_file_location("serve_progress", ROOT / "examples" / "serve_progress.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

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
