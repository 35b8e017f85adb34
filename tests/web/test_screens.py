"""What each screen says, over a client that answers from memory."""

import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import pytest
from PIL import Image

from cli.demo import strokes
from tests.web.conftest import Visitor, serving, stored
from training import recipes
from training.errors import PictureReason
from twinvec_client import JobStatus, NoAnswer, NoTower
from twinvec_client.contract.messages import ListTowers, PauseWork, Promote, ResumeWork, RollBack
from twinvec_client.contract.reasons import Reason
from twinvec_client.testing import FakeTwinvec, Memory
from web import remedies
from web.forms import MOST_PICTURES
from web.rates import Rates
from web.rendering import duration, glyph, percent, png, short
from web.screens import towers

STATIC = Path(remedies.__file__).parent / "static"


def test_every_recipe_can_be_chosen() -> None:
    assert set(towers.RECIPES) == set(recipes.RECIPES)


def test_a_drawing_is_answered_with_what_the_tower_saw_and_its_neighbours(visitor: Visitor, memory: Memory) -> None:
    shown = visitor.send("/look", [strokes.png(7)], k="5")
    assert shown.status == 200
    assert '<p class="digit">7</p>' in shown.text
    seen = re.findall(r'class="glyph raw" src="(data:image/png;base64,[^"]+)"', shown.text)
    stored_picture = FakeTwinvec(memory=memory).nearest(strokes.png(7), pictures=True)
    assert seen == [glyph(stored_picture.glyph)]
    assert shown.text.count("data:image/png") == 1 + 5


def test_a_picture_that_cannot_be_read_costs_only_itself(visitor: Visitor) -> None:
    shown = visitor.send("/look", [b"\x89PNG\r\n\x1a\nbroken", strokes.png(3), b"GIF89a" + b"\0" * 100])
    assert shown.status == 200
    assert shown.text.count("This picture cannot be read") == 2
    assert '<p class="digit">3</p>' in shown.text


def test_nothing_at_all_is_answered_with_what_to_do(visitor: Visitor) -> None:
    assert "Draw a digit, or choose a picture" in visitor.send("/look", []).text


def test_more_pictures_than_are_taken_are_refused(visitor: Visitor) -> None:
    assert visitor.send("/look", [b"x"] * MOST_PICTURES).status == 200
    assert visitor.send("/look", [b"x"] * (MOST_PICTURES + 1)).status == 400


@pytest.mark.parametrize(("name", "value"), [("k", "0"), ("k", "x"), ("label", "-1"), ("within", "nan")])
def test_a_field_out_of_its_limits_is_refused(visitor: Visitor, name: str, value: str) -> None:
    assert visitor.send("/look", [strokes.png(7)], **{name: value}).status == 400


def test_an_empty_installation_says_what_to_do() -> None:
    memory = Memory()
    memory.answer(ListTowers, lambda _: {"towers": []})
    with serving(memory) as url:
        visitor = Visitor(url)
        assert "twinvec embed" in visitor.get("/digits").text
        assert "twinvec train" in visitor.get("/jobs").text
        assert "No batch is dead" in visitor.get("/jobs/dead").text
        assert "Nothing to judge" in visitor.get("/judge/pairs").text or visitor.seen[-1].status == 409


@pytest.mark.parametrize(("error", "status", "said"), [(NoAnswer(), 504, "twinvec up"), (NoTower(), 409, "train")])
def test_an_error_says_what_to_do_next(visitor: Visitor, memory: Memory, error: Any, status: int, said: str) -> None:
    memory.down = error
    shown = visitor.get("/digits/in")
    assert (shown.status, said in shown.text) == (status, True)
    part = visitor.get("/digits/in", hx_request="true")
    assert "<html" not in part.text


def test_a_label_is_given_and_taken_away(visitor: Visitor, memory: Memory) -> None:
    asked = {"key": "plain-7", "collection": "plain"}
    tile = visitor.post("/digits/label", {**asked, "label": "7"}, hx_request="true")
    assert 'data-label="7"' in tile.text
    assert stored(memory, "plain-7", "plain").label == 7
    visitor.post("/digits/label", {**asked, "label": ""})
    assert stored(memory, "plain-7", "plain").label is None
    assert visitor.post("/digits/label", {**asked, "key": "none", "label": "7"}).status == 404


def test_a_pair_is_judged_and_taken_back_in_the_name_of_who_serves_the_page(memory: Memory) -> None:
    pair = {"key": "plain-7", "collection": "plain", "other": "plain-2", "other_collection": "plain"}
    tv = FakeTwinvec(memory=memory)
    with serving(memory, by="ada") as url:
        visitor = Visitor(url)
        visitor.get("/judge")
        assert visitor.post("/judge", {**pair, "said": "different"}, hx_request="true").status == 204
        assert [(each.same, each.by) for each in tv.judgements()] == [(False, "ada")]
        visitor.post("/judge", {**pair, "said": "forget"})
        assert list(tv.judgements()) == []
        assert visitor.post("/judge", {**pair, "said": "perhaps"}).status == 400


def test_failures_show_what_was_sent_why_it_failed_and_a_retry(visitor: Visitor) -> None:
    job = re.findall(r'href="/jobs/([0-9a-f-]+)/failures"', visitor.get("/jobs").text)[0]
    page = visitor.get(f"/jobs/{job}/failures").text
    assert "not a picture" in page
    assert "no stroke stands out" in page
    picture = visitor.get(f"/jobs/{job}/failures/picture?key=blank&reason=blank").text
    assert f'src="/jobs/{job}/failures/sent?key=blank&amp;reason=blank"' in picture
    again = visitor.post(f"/jobs/{job}/retry")
    assert again.status == 303
    assert again.headers["location"] != f"/jobs/{job}"
    assert visitor.get(again.headers["location"]).status == 200


def test_digits_are_browsed_a_page_at_a_time(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.screens.digits.A_PAGE", 3)
    with serving(memory) as url:
        visitor = Visitor(url)
        path, keys = "/digits/in?collection=" + quote("plain"), list[str]()
        while path:
            shown = visitor.get(path).text
            keys += re.findall(r'data-key="([^"]+)"', shown)
            found = re.search(r'rel="next" href="([^"]+)"', shown)
            path = found[1].replace("&amp;", "&") if found else ""
    assert keys == [f"plain-{digit}" for digit in strokes.DIGITS]


def test_a_promotion_and_a_rollback_are_asked_before_they_are_done(memory: Memory) -> None:
    tower = FakeTwinvec(memory=memory).towers()[0]
    rows = [
        vars(tower) | {"id": id, "status": status} for id, status in ((3, "candidate"), (2, "live"), (1, "previous"))
    ]
    memory.answer(ListTowers, lambda _: {"towers": rows})
    asked: list[Any] = []

    def change(message: Any) -> dict[str, Any]:
        asked.append(message)
        return {"tower": 3, "fingerprint": "fa" * 32, "status": "live", "missing": 0, "said": None}

    memory.answer(Promote, change)
    memory.answer(RollBack, change)
    with serving(memory) as url:
        visitor = Visitor(url)
        shown = visitor.get("/towers/3").text
        assert "Tower 2 stays as the previous one" in shown
        assert "<details" in shown
        assert "Roll back to tower 1" in visitor.get("/towers/2").text
        assert asked == []
        visitor.post("/towers/3/promote")
        visitor.post("/towers/roll-back")
    assert [(type(each).__name__, getattr(each, "force", None)) for each in asked] == [
        ("Promote", False),
        ("RollBack", None),
    ]


def test_a_lane_is_paused_and_resumed_and_who_did_it_is_listed(visitor: Visitor, memory: Memory) -> None:
    asked: list[Any] = []

    def held(message: Any) -> dict[str, Any]:
        asked.append(message)
        return {"pause": {"by": "ada", "at": "2026-01-31T12:00:00+00:00", "lane": "embed"}, "resumed": True}

    memory.answer(PauseWork, held)
    memory.answer(ResumeWork, held)
    assert "Resume" in visitor.get("/system").text
    assert visitor.post("/system/pause", {"lane": "embed", "why": "lunch"}).status == 303
    assert visitor.post("/system/pause", {"lane": "train", "drain": "1"}).status == 303
    assert visitor.post("/system/resume", {"lane": "embed"}).status == 303
    assert visitor.post("/system/pause", {"lane": "control"}).status == 400
    assert [(each.paused_lane, getattr(each, "why", None), getattr(each, "drain", None)) for each in asked] == [
        ("embed", "lunch", False),
        ("train", None, True),
        ("embed", None, None),
    ]


def test_the_rate_is_that_of_the_last_half_minute(memory: Memory) -> None:
    job = FakeTwinvec(memory=memory).jobs()[0]
    rates = Rates()
    running = replace(job, state="running", total=1000, accepted=1000, failed=0, unchanged=0, cancelled=0)
    assert rates.of(replace(running, succeeded=0, seconds=0.1), now=0) == (None, None)
    assert rates.of(replace(running, succeeded=100, seconds=10), now=10) == (10, 90)
    assert tuple(rates.of(replace(running, succeeded=700, seconds=40), now=40)) == pytest.approx((20, 15))
    done: JobStatus = replace(running, state="finished", succeeded=1000, seconds=50)
    assert rates.of(done) == (20, None)


def test_every_reason_has_a_remedy_here_or_in_its_message() -> None:
    assert set(remedies.REMEDIES) >= set(get_args(Reason)) - set(get_args(PictureReason))
    assert remedies.remedy("of a newer version") == ""


def test_htmx_is_the_file_that_was_published() -> None:
    noted = json.loads((STATIC / "htmx.json").read_text())
    assert hashlib.sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest() == noted["sha256"]
    assert f'version:"{noted["version"]}"' in (STATIC / "htmx.min.js").read_text()
    assert "Zero-Clause BSD" in (STATIC / "htmx.LICENSE").read_text()


def test_names_of_strangers_are_shown_short_and_without_what_is_invisible() -> None:
    assert short("a" * 100, 10) == "a" * 9 + "…"
    assert short("a\u202eb\nc\0") == "a\ufffdb\ufffdc\ufffd"
    assert short(None) == ""


def test_pixels_become_a_picture_that_others_read() -> None:
    pixels = bytes(range(256)) * 3 + bytes(16)
    with Image.open(io.BytesIO(png(pixels))) as picture:
        assert (picture.size, picture.mode, picture.tobytes()) == ((28, 28), "L", pixels)
    assert glyph(None) == ""


@pytest.mark.parametrize(
    ("share", "shown"), [(1, "100.0"), (0.5, "50.0"), (0.99991, "99.99"), (0.999999, "> 99.99"), (0.9995, "99.95")]
)
def test_nothing_is_certain_but_what_is(share: float, shown: str) -> None:
    assert percent(share).replace("\N{NO-BREAK SPACE}", " ") == f"{shown} %"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(1.234, "1.2 s"), (59.7, "1 min 0 s"), (3725, "1 h 2 min"), (90000, "1 d 1 h"), (None, "–")]
)
def test_durations_are_in_their_two_largest_units(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown
