"""The page in a real browser, over the real thing: what is drawn there is looked up, and what fails is shown."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from cli.demo import strokes
from tests.browsing import DESK, PHONE, browsing
from tests.stack.conftest import Stack

COLLECTION = "the page's"
SEVEN = [(0.25, 0.22), (0.5, 0.21), (0.75, 0.2), (0.62, 0.45), (0.5, 0.65), (0.42, 0.85)]  # shares of the sheet


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def job(stack: Stack, tower: dict[str, Any], digits: tuple[np.ndarray, np.ndarray]) -> str:
    """A bulk job of real digits, with one picture that is none and one that is blank."""
    images, labels = digits
    pictures: dict[str, Any] = {f"test/{at:03}": image for at, image in enumerate(images)}
    bad = {"<b>bad</b>": b"\x89PNG\r\n\x1a\nbut no picture", "several": strokes.png(7)[:200]}
    known = {f"test/{at:03}": int(label) for at, label in enumerate(labels)}
    job = stack.client().embed(pictures | bad, labels=known, collection=COLLECTION)
    outcome = job.wait(timeout=120)
    assert (outcome.succeeded, outcome.failed) == (len(images), len(bad))
    return job.id


@pytest.fixture(scope="module")
def url(stack: Stack, job: str) -> Iterator[str]:
    """`twinvec web`, as an operator starts it."""
    command = [sys.executable, "-m", "cli", "web", "--port", "0"]
    served = subprocess.Popen(
        command, env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert served.stdout is not None
    try:
        said = served.stdout.readline()
        found = re.search(r"http://localhost:\d+", said)
        assert found, said + (served.stdout.read() if served.poll() is not None else "")
        yield found[0]
    finally:
        served.send_signal(signal.SIGINT)
        rest = served.communicate(timeout=30)[0]
    assert "Traceback" not in rest
    assert served.returncode == 0 or os.name != "posix" or served.returncode == 130


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_seven_that_is_drawn_sees_sevens(browser: Browser, url: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(url)
    page.get_by_text("Options").click()
    expect(page.locator("#collection option")).not_to_have_count(1)
    page.locator("#collection").select_option(COLLECTION)
    draw(page, SEVEN)
    expect(page.locator(".verdict .digit")).to_have_text("7")
    labels = page.locator(".neighbours .under b").all_text_contents()
    assert len(labels) == 10
    assert labels.count("7") >= 7
    distances = [float(each) for each in page.locator(".neighbours .num").all_text_contents()]
    assert distances == sorted(distances)
    assert page.locator(".seen img").evaluate("each => each.naturalWidth") == 28
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def draw(page: Page, points: list[tuple[float, float]]) -> None:
    """One stroke, by mouse."""
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for _, there in pairwise(places):
        page.mouse.move(*there, steps=4)
    page.mouse.up()


def test_a_job_is_followed_to_its_failures_and_these_are_sent_again(browser: Browser, url: str, job: str) -> None:
    page = browser.new_page()
    page.goto(f"{url}/jobs/{job}")
    page.get_by_text("Look at 2 failures").click()
    expect(page.locator(".failure")).to_have_count(2)
    expect(page.locator(".failure bdi.key").first).to_have_text("<b>bad</b>")
    expect(page.locator(".failure .shown figure")).to_have_count(4)
    page.get_by_text("Retry…").click()
    page.get_by_role("button", name="Send them again").click()
    page.wait_for_url(re.compile(rf"/jobs/(?!{job})[0-9a-f-]{{36}}$"))
    expect(page.get_by_text("Look at 2 failures")).to_be_visible(timeout=30_000)
    page.close()


def test_the_live_tower_is_shown_with_what_it_reaches(browser: Browser, url: str, tower: dict[str, Any]) -> None:
    page = browser.new_page()
    page.goto(f"{url}/towers/{tower['id']}")
    expect(page.locator("h1")).to_contain_text(f"Tower {tower['id']}")
    shown = page.locator(".figures").inner_text()
    assert f"{100 * tower['metrics']['pair_accuracy']:.1f}" in shown
    page.close()
