"""The page in a real browser: nothing foreign runs, keys work, and every screen is legible on a phone and on a desk."""

import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from tests.browsing import DESK, LOOKED_AT, PHONE
from tests.web.conftest import COLLECTION, Visitor, filled, serving, stored
from twinvec_client.testing import FakeTwinvec, Memory

NOISE = "Failed to load resource"  # of an answer that is meant to be an error


@pytest.fixture(scope="module")
def store() -> Memory:
    return filled()


@pytest.fixture(scope="module")
def url(store: Memory) -> Iterator[str]:
    with serving(store) as url:
        yield url


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    yield page
    page.close()
    assert [each for each in complaints if NOISE not in each] == [], "a browser complains of nothing"


def visit(page: Page, address: str) -> None:
    """Until all that comes by itself is there."""
    page.goto(address)
    expect(page.locator(".htmx-request, .wait")).to_have_count(0)


def paths(url: str) -> list[str]:
    job = re.findall(r'href="/jobs/([0-9a-f-]+)/failures"', Visitor(url).get("/jobs").text)[0]
    key = quote("<script>document.title='broken'</script>/7", safe="")
    where = quote(COLLECTION, safe="")
    return [
        "/", "/digits", f"/digits/in?collection={where}", f"/digit?key={key}&collection={where}", "/judge", "/jobs",
        f"/jobs/{job}", f"/jobs/{job}/failures", "/jobs/dead", "/towers", "/towers/1", "/system", "/nothing-here",
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_screen_is_legible_and_no_wider_than_the_window(
    browser: Browser, url: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    for path in paths(url):
        visit(page, url + path)
        assert page.title() != "broken", path
        assert page.evaluate("document.documentElement.scrollWidth") == width, path
        assert page.locator("h1, [role=alert] h2").count() >= 1, path
        for each in page.evaluate(LOOKED_AT):
            if each["height"]:
                assert each["scrolls"] or (each["left"] >= 0 and each["right"] <= width + 0.5), (path, each)
                assert each["contrast"] >= 4.4, (path, each)
        unnamed = "[...document.querySelectorAll('input:not([type=hidden]), select, button')].filter(e => "
        unnamed += "!(e.labels?.length || e.textContent.trim() || e.ariaLabel)).map(e => e.outerHTML)"
        assert page.evaluate(unnamed) == [], path
    page.close()


def test_a_script_in_a_name_or_a_picture_runs_nowhere(page: Page, url: str) -> None:
    for path in paths(url):
        visit(page, url + path)
        assert page.title() != "broken", path
    assert page.locator("script:not([src])").count() == 0


def test_digits_are_labelled_and_relabelled_by_keys_alone(page: Page, url: str, store: Memory) -> None:
    page.goto(f"{url}/digits/in?collection=plain")
    for key, label in (("plain-2", "2"), ("plain-3", "3")):
        with page.expect_response("**/digits/label"):
            page.keyboard.press(label)
        assert stored(store, key, "plain").label == int(label)
    with page.expect_response("**/digits/label"):
        page.keyboard.press("u")
    assert stored(store, "plain-3", "plain").label is None
    page.get_by_text("Taken back.").wait_for()


def test_pairs_are_judged_by_keys_alone(page: Page, url: str, store: Memory) -> None:
    tv = FakeTwinvec(memory=store)
    before = len(list(tv.judgements()))
    visit(page, f"{url}/judge")
    page.locator(".pair:visible").wait_for()
    assert page.locator(".pair:visible").count() == 1
    with page.expect_response("**/judge"):
        page.keyboard.press("n")
    page.get_by_text("Kept: different.").wait_for()
    page.keyboard.press("s")
    page.get_by_text("Skipped.").wait_for()
    assert len(list(tv.judgements())) == before + 1
    page.keyboard.press("u")
    page.get_by_text("Taken back.").wait_for()
    with page.expect_response("**/judge"):  # of the one that was kept: the server is not told of one that was skipped
        page.keyboard.press("u")
    assert len(list(tv.judgements())) == before


def test_a_picture_that_is_dropped_is_looked_up_and_a_hostile_one_gets_a_sentence(page: Page, url: str) -> None:
    visit(page, url)
    page.locator("#picture").set_input_files(FilePayload(name="x.png", mimeType="image/png", buffer=b"\x89PNG broken"))
    page.get_by_role("alert").get_by_text("This picture cannot be read").wait_for()
    assert page.locator("#canvas").is_visible()


def test_motion_is_left_out_where_it_is_not_wanted(browser: Browser, url: str) -> None:
    page = browser.new_page(reduced_motion="reduce")
    page.goto(url)
    assert page.evaluate("getComputedStyle(document.getElementById('answer')).transitionDuration") == "0s"
    page.close()
