"""Who gets in, and which requests are taken: forged ones, other names, tokens, and how much may be sent."""

import http.client
import json
import logging
import re
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from starlette.routing import Route

from tests.web.conftest import COLLECTION, Visitor, filled, serving, stored
from twinvec_client.testing import FakeAsyncTwinvec, Memory
from web.app import create_app
from web.guard import MOST_BYTES, POLICY, Keys, Session, is_called_right

TOKEN = "correct-horse-battery"
LABEL = {"key": "plain-7", "collection": "plain", "label": "1"}
POSTS = sorted(
    route.path
    for route in create_app(FakeAsyncTwinvec(memory=Memory())).routes
    if isinstance(route, Route) and "POST" in (route.methods or ())
)


def test_what_a_form_of_the_page_sends_is_done(visitor: Visitor, memory: Memory) -> None:
    assert visitor.post("/digits/label", LABEL).status == 303
    assert stored(memory, "plain-7", "plain").label == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": ""},
        {"origin": "", "sec_fetch_site": "cross-site"},
        {"origin": "", "sec_fetch_site": "same-site"},
    ],
    ids=str,
)
def test_a_request_of_another_site_is_refused(visitor: Visitor, memory: Memory, headers: dict[str, str]) -> None:
    assert visitor.post("/digits/label", LABEL, **headers).status == 403
    assert stored(memory, "plain-7", "plain").label is None


@pytest.mark.parametrize("path", POSTS)
def test_nothing_is_changed_without_the_csrf_token_of_the_visitor(visitor: Visitor, path: str) -> None:
    path = path.replace("{id}", "1")
    other = Visitor(visitor.url)
    other.get("/")
    for token in ("", "0" * 64, other.csrf_token):
        assert visitor.post(path, {"csrf_token": token}).status == 403


def test_there_are_posts_to_look_at() -> None:
    assert len(POSTS) > 8


@pytest.mark.parametrize(
    ("host", "is_right"),
    [
        ("localhost:8080", True),
        ("127.0.0.1", True),
        ("[::1]:8080", True),
        ("10.0.0.7:80", True),
        ("digits.example", True),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("digits.example.evil.example", False),
        ("", False),
        ("[broken", False),
    ],
)
def test_a_name_that_leads_here_is_not_enough(host: str, is_right: bool) -> None:
    assert is_called_right(host, frozenset({"digits.example"})) is is_right


def test_a_page_under_another_name_is_not_shown(visitor: Visitor) -> None:
    assert visitor.get("/", host="evil.example").status == 421


def test_beyond_this_machine_nothing_is_shown_without_the_token(memory: Memory) -> None:
    with serving(memory, token=TOKEN) as url:
        visitor = Visitor(url)
        assert (visitor.get("/").status, visitor.seen[-1].headers["location"]) == (303, "/sign-in")
        assert visitor.get("/jobs", hx_request="true").headers["hx-redirect"] == "/sign-in"
        visitor.get("/sign-in")
        assert visitor.post("/digits/label", LABEL).status == 401
        before = visitor.cookie
        assert visitor.post("/sign-in", {"token": TOKEN + "x"}).status == 403
        assert visitor.get("/digits").status == 303
        assert visitor.post("/sign-in", {"token": TOKEN}).status == 303
        cookie = visitor.seen[-1].headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        assert visitor.cookie != before
        assert visitor.get("/digits").status == 200
        assert visitor.post("/digits/label", LABEL).status == 303
        assert all(TOKEN not in f"{each.headers} {each.text}" for each in visitor.seen)
        assert visitor.post("/sign-out").status == 303
        assert visitor.get("/digits").status == 303


def test_the_token_is_written_to_no_log(memory: Memory, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(memory, token=TOKEN) as url:
        visitor = Visitor(url)
        visitor.get("/sign-in")
        visitor.post("/sign-in", {"token": TOKEN})
        visitor.get(f"/digits?{TOKEN}")
    assert TOKEN not in caplog.text


def test_a_cookie_is_read_as_it_was_written_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, session = Keys(None, b"secret"), Session.new(signed_in=False)
    written = keys.write(session)
    assert keys.read(written) == session
    assert keys.read(written.replace(".0.", ".1.")) is None
    assert Keys(None, b"another").read(written) is None
    assert [keys.read(each) for each in ("", ".", "a.b.c.d", written[:-1], f"{written}é")] == [None] * 5
    monkeypatch.setattr(time, "time", lambda: session.ends + 1.0)
    assert keys.read(written) is None


def test_a_body_that_is_too_large_is_not_read(visitor: Visitor) -> None:
    announced = visitor._ask("POST", "/look", b"", {"origin": visitor.url, "content-length": str(MOST_BYTES + 1)})
    assert announced.status == 413
    assert visitor.get("/").status == 200


def test_a_body_whose_length_was_not_said_is_not_read_to_its_end(visitor: Visitor) -> None:
    address = urlsplit(visitor.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    headers = {"origin": visitor.url, "cookie": visitor.cookie, "content-type": "multipart/form-data; boundary=x"}
    head = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="1.png"\r\n\r\n'
    try:
        parts = (head + b"x" * 2**20 for _ in range(MOST_BYTES // 2**20 + 1))
        connection.request("POST", "/look", parts, headers, encode_chunked=True)
        assert connection.getresponse().status == 413
    finally:
        connection.close()


def test_browsers_are_told_to_run_nothing_but_the_pages_own_scripts(visitor: Visitor) -> None:
    for path in ("/", "/digits", "/nothing-here", "/static/style.css"):
        headers = visitor.get(path).headers
        assert headers["content-security-policy"] == POLICY
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert "unsafe" not in POLICY


def test_a_report_stands_in_a_sandbox(memory: Memory) -> None:
    async def report(tower: int) -> bytes:
        return f"<h1>{tower}</h1><script>alert(1)</script>".encode()

    with serving(memory, report=report) as url:
        shown = Visitor(url).get("/towers/1/report")
    assert shown.status == 200
    policy = shown.headers["content-security-policy"].split("; ")
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert not [each for each in policy if each.startswith("script-src")]


def test_what_was_sent_runs_nothing_either(visitor: Visitor, memory: Memory) -> None:
    job = re.findall(r'href="/jobs/([0-9a-f-]+)/failures"', visitor.get("/jobs").text)[0]
    sent = visitor.get(f"/jobs/{job}/failures/sent?key=%3Cscript%3Edocument.title%3D%27broken%27%3C%2Fscript%3E%2Fbad")
    assert sent.body == b"not a picture"
    assert sent.headers["content-type"] == "application/octet-stream"
    assert sent.headers["content-disposition"].startswith("attachment")
    assert sent.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert visitor.get(f"/jobs/{job}/failures/sent?key=blank").headers["content-type"] == "image/png"


def test_no_template_has_a_script_or_a_style_of_its_own() -> None:
    templates = sorted((Path(create_app.__code__.co_filename).parent / "templates").glob("*.html"))
    assert templates
    for template in templates:
        text = template.read_text()
        assert not re.search(r"<style|\sstyle=|\son\w+=|hx-on|javascript:|\|\s*safe\b|autoescape", text), template
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), template


def test_htmx_is_told_to_evaluate_nothing(visitor: Visitor) -> None:
    config = re.search(r"name=\"htmx-config\" content='([^']+)'", visitor.get("/").text)
    assert config
    told = json.loads(config[1])
    assert told["allowEval"] is False
    assert told["includeIndicatorStyles"] is False
    assert told["selfRequestsOnly"] is True


def test_what_stands_in_the_store_is_escaped_on_every_screen(visitor: Visitor) -> None:
    job = re.findall(r'href="/jobs/([0-9a-f-]+)/failures"', visitor.get("/jobs").text)[0]
    key, collection = quote("<script>document.title='broken'</script>/7"), quote(COLLECTION)
    paths = [
        "/", "/collections", "/digits", f"/digits/in?collection={collection}",
        f"/digit?key={key}&collection={collection}", "/judge/pairs", "/jobs",
        f"/jobs/{job}", f"/jobs/{job}/failures", "/jobs/dead", "/towers", "/towers/1", "/system", "/system/actions",
        "/digit?key=<script>", "/nothing/<script>",
    ]  # fmt: skip
    shown = [visitor.get(quote(path, safe="/?&=%")) for path in paths]
    assert not [each.text for each in shown if re.search(r"<script>|<script(?! src=\"/static/)", each.text)]
    assert sum("&lt;script&gt;" in each.text for each in shown) >= 9
    assert {each.status for each in shown} == {200, 404}


def test_a_restart_asks_for_the_page_again_and_nothing_else(memory: Memory) -> None:
    with serving(memory) as url:
        visitor = Visitor(url)
        visitor.get("/")
    with serving(filled()) as url:
        visitor.url = url
        assert visitor.post("/digits/label", LABEL).status == 403
        assert "load the page again" in visitor.seen[-1].text
        visitor.get("/")
        assert visitor.post("/digits/label", LABEL).status == 303
