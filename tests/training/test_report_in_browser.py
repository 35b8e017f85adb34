"""The report as a real browser shows it, on a phone and on a desk, in light and in dark; it takes screenshots."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests.browsing import DESK, LOOKED_AT, PHONE, browsing
from training.report.facts import Report
from training.report.page import page

TITLES = [
    "What it is", "Verdict", "Figures", "The first digits", "Shapes", "Pairs", "Architecture",
    "Loss and accuracy by epoch", "Judged pairs", "Two of one digit, and another", "Distances", "On a plane",
    "Neighbours", "Confusion", "Left out",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(report: Report, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report on one tower, and on two."""
    folder = tmp_path_factory.mktemp("reports")
    paths = {"one": folder / "one.html", "two": folder / "two.html"}
    paths["one"].write_text(page(replace(report, towers=report.towers[1:])))
    paths["two"].write_text(page(report))
    return paths


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", ["one", "two"])
def test_a_report_is_legible(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(pages[name].as_uri())
    assert [each for each in asked if not each.startswith("data:")] == [pages[name].as_uri()]
    assert said == [], "a browser complains of nothing"
    assert opened.locator("h2").all_text_contents() == TITLES
    assert opened.evaluate("document.documentElement.scrollWidth") == width, "it is as wide as the screen"
    for each in opened.evaluate(LOOKED_AT):
        assert each["height"] >= 9, each
        assert each["scrolls"] or (each["left"] >= 0 and each["right"] <= width + 0.5), each
        assert each["contrast"] >= 3.9, each
    pictures = opened.evaluate("[...document.images].map(each => each.naturalWidth)")
    assert set(pictures) == {28}
    tops = opened.evaluate("[...document.querySelectorAll('.columns')].map(e => [...e.children].map(c => c.offsetTop))")
    beside = name == "two" and width == DESK
    assert all((len(set(each)) == 1) is (beside or name == "one") for each in tops)
    path = pages[name].with_name(f"{name}-{width}-{scheme}.png")
    opened.screenshot(path=path, full_page=True)
    opened.close()
    with Image.open(path) as picture:
        shown = np.asarray(picture.convert("L"))
    assert shown.shape[1] == width
    dark = float(np.median(shown)) < 128
    assert dark is (scheme == "dark")
    assert (np.abs(shown.astype(int) - int(np.median(shown))) > 60).mean() > 0.02, "it is not blank"
