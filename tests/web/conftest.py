"""The page served for real, over a client that answers from memory, and visitors with and without a browser."""

import http.client
import io
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser

from cli.demo import strokes
from tests.browsing import browsing
from twinvec_client import Digit, StoredDigit
from twinvec_client.contract.messages import ListDead, Message, ShowBackfill, ShowOverview, ShowSchedule
from twinvec_client.testing import FakeAsyncTwinvec, FakeTwinvec, Memory
from web.app import create_app
from web.serving import server

SCRIPT = "<script>document.title='broken'</script>"
COLLECTION = f'a & b "{SCRIPT}"'
ANSWERS: dict[type[Message], dict[str, Any]] = {  # to what the fake does not do
    ShowBackfill: {"running": [], "estimate": {"digits": 0, "seconds": None, "measured_on": None, "bytes": 0}},
    ShowSchedule: {
        "schedule": {
            "cron": None,
            "recipe": "default",
            "data": "both",
            "next_at": None,
            "last_tower": None,
            "running": None,
        }
    },
    ShowOverview: {
        "at": "2026-01-31T12:00:00+00:00",
        "live_tower": None,
        "backlog": 5,
        "rate": 0.0,
        "lanes": [
            {
                "name": "embed",
                "waiting": 2,
                "queued": 1,
                "running": 0,
                "rate": 12.5,
                "oldest_wait": 3.0,
                "listening": False,
                "paused": {"by": SCRIPT, "at": "2026-01-31T12:00:00+00:00", "why": SCRIPT},
            }
        ],
        "workers": [
            {
                "name": SCRIPT,
                "host": SCRIPT,
                "process": 1,
                "lanes": ["embed"],
                "since": "2026-01-31T12:00:00+00:00",
                "seen": 1.0,
                "doing": SCRIPT,
                "memory": 2**29,
            }
        ],
        "jobs": [],
    },
    ListDead: {
        "batches": [
            {
                "id": 7,
                "job": "00000000-0000-0000-0000-000000000007",
                "kind": "embed",
                "digits": 3,
                "attempts": 3,
                "worker": SCRIPT,
                "message": SCRIPT,
                "died_at": "2026-01-31T12:00:00+00:00",
            }
        ]
    },
}


@contextmanager
def serving(memory: Memory, **how: Any) -> Iterator[str]:
    """The address of the page."""
    listening = socket.create_server(("127.0.0.1", 0))
    running = server(create_app(FakeAsyncTwinvec(memory=memory), **how))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(timeout=30)


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Visitor:
    """A browser's manners without a browser: a cookie, an origin, and the CSRF token of the page that was read last."""

    url: str
    cookie: str = ""
    csrf_token: str = ""
    seen: list[Answered] = field(default_factory=list)

    def get(self, path: str, **headers: str) -> Answered:
        answered = self._ask("GET", path, None, headers)
        if found := re.search(r'name="csrf-token" content="([0-9a-f]+)"', answered.body.decode(errors="replace")):
            self.csrf_token = found[1]
        return answered

    def post(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> Answered:
        """As a form of the page's does; a header that is empty is not sent."""
        sent = {"origin": self.url, "content-type": "application/x-www-form-urlencoded"} | headers
        return self._ask("POST", path, urlencode({"csrf_token": self.csrf_token} | (fields or {})).encode(), sent)

    def send(self, path: str, pictures: list[bytes], **fields: str) -> Answered:
        """Pictures as files of a form."""
        boundary = secrets.token_hex(8)
        body = io.BytesIO()
        for name, value in ({"csrf_token": self.csrf_token} | fields).items():
            body.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
        for at, picture in enumerate(pictures):
            head = f'Content-Disposition: form-data; name="picture"; filename="{at}.png"'
            body.write(f"--{boundary}\r\n{head}\r\nContent-Type: image/png\r\n\r\n".encode() + picture + b"\r\n")
        body.write(f"--{boundary}--\r\n".encode())
        headers = {"origin": self.url, "content-type": f"multipart/form-data; boundary={boundary}"}
        return self._ask("POST", path, body.getvalue(), headers)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answered:
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        given = {name.replace("_", "-"): value for name, value in headers.items() if value}
        if self.cookie:
            given["cookie"] = self.cookie
        try:
            connection.request(method, path, body, given)
            response = connection.getresponse()
            answered = Answered(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()
        if cookie := answered.headers.get("set-cookie"):
            self.cookie = cookie.partition(";")[0]
        self.seen.append(answered)
        return answered


def filled() -> Memory:
    """What a mean stranger has stored: scripts as names, and pictures that cannot be read; and some plain digits."""
    memory = Memory()
    tv = FakeTwinvec(memory=memory)
    pictures = {f"{SCRIPT}/{digit}": Digit(strokes.png(digit), digit, {SCRIPT: SCRIPT}) for digit in strokes.DIGITS}
    tv.embed({**pictures, f"{SCRIPT}/bad": b"not a picture", "blank": blank()}, collection=COLLECTION)
    tv.embed({f"plain-{digit}": strokes.png(digit) for digit in strokes.DIGITS}, collection="plain")
    for kind, answer in ANSWERS.items():
        memory.answer(kind, lambda _, answer=answer: answer)  # type: ignore[misc]  # a default keeps this one
    return memory


def blank() -> bytes:
    file = io.BytesIO()
    Image.new("L", (60, 60), 255).save(file, "PNG")
    return file.getvalue()


def stored(memory: Memory, key: str, collection: str) -> StoredDigit:
    return FakeTwinvec(memory=memory).get(key, collection=collection)


@pytest.fixture
def memory() -> Memory:
    return filled()


@pytest.fixture
def visitor(memory: Memory) -> Iterator[Visitor]:
    """On the page of this machine alone; the first page is read."""
    with serving(memory) as url:
        visitor = Visitor(url)
        visitor.get("/")
        yield visitor


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser
