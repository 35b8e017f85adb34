"""docs/ as a site: it is built without a warning, holds what the code offers, and asks no other host for anything."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import twinvec_client
from cli.topics import COMMANDS

ROOT = Path(__file__).resolve().parents[1]


class Fetched(HTMLParser):
    """Addresses that a browser fetches for a page by itself, and the ids that a link may lead to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids.add(given.get("id") or "")
        self.addresses += [given.get("src") or "", (given.get("href") or "") if tag == "link" else ""]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` builds it: strictly, so that a warning ends it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder


def test_a_browser_fetches_nothing_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    fetched = {address for page in pages for address in Fetched(page.read_text()).addresses}
    assert [address for address in fetched if re.match(r"(\w+:)?//", address)] == []
    styles = "".join(sheet.read_text() for sheet in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//[^)]*\)|@import[^;]*", styles) == []
    assert 'class="mermaid"' not in "".join(page.read_text() for page in pages)  # its script is another host's


def test_every_name_that_the_client_offers_is_in_the_reference_once(site: Path) -> None:
    directives = re.findall(
        r"^::: twinvec_client\.(\w+)$",
        "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md")),
        flags=re.MULTILINE,
    )
    assert sorted(directives) == sorted(twinvec_client.__all__)
    ids = set().union(*(Fetched(page.read_text()).ids for page in (site / "reference").glob("*.html")))
    assert {f"twinvec_client.{name}" for name in directives} <= ids


def test_every_command_is_in_the_reference(site: Path) -> None:
    ids = Fetched((site / "reference" / "commands.html").read_text()).ids
    assert {f"twinvec-{name}" for name in COMMANDS} <= ids
