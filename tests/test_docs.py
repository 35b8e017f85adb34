"""What the pages say can be followed: what they name exists, links resolve, and what is not run has a reason."""

import ast
import json
import re
import subprocess
from enum import StrEnum
from functools import cache
from pathlib import Path

import pytest
import yaml

from db.states import BatchState, TowerStatus
from tests.pages import (
    NOT_COMMANDS,
    NOT_RUN,
    NOT_RUN_THERE,
    PYTHON_NOT_RUN,
    SHELLS,
    Block,
    blocks_of,
    commands_of,
    shape,
    why_not_run,
    why_python_is_not_run,
)
from tests.pages import PAGES as FOLLOWED

ROOT = Path(__file__).resolve().parents[1]
SPANNING = re.DOTALL | re.MULTILINE
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PAGES = sorted(
    page.relative_to(ROOT)
    for place in ROOT.iterdir()
    if not place.name.startswith(".")  # no environment, no cache, no data
    for page in ([place] if place.suffix == ".md" else place.rglob("*.md"))
)
SECURITY = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/.-]+\.py(?::[\w.]+)?)`", ARCHITECTURE + SECURITY)))
QUOTES = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", CONTRIBUTING, flags=SPANNING)
FOLDERS = sorted(set(re.findall(r"`([\w/.-]+/)`", ARCHITECTURE)))


BLOCKS = [block for page in FOLLOWED for block in blocks_of(page)]


@cache
def defined_in(path: str) -> set[str]:
    """The functions and classes of a file, and its classes' methods as `Class.method`."""
    names = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return names


def without_code(page: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", page, flags=SPANNING)


def links_of(page: str) -> list[str]:
    """The targets of a page's links and images that lead to a file here or to a heading."""
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(page))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors_of(page: str) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page, flags=SPANNING), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    broken = []
    for link in links_of((ROOT / path).read_text()):
        name, _, anchor = link.partition("#")
        target = (ROOT / path.parent / name).resolve() if name else ROOT / path
        leads_here = target.is_relative_to(ROOT) and target.exists()
        if not leads_here or (anchor and anchor not in anchors_of(target.read_text())):
            broken.append(link)
    return broken


def test_the_architecture_page_names_functions() -> None:
    assert len([name for name in NAMED if ":" in name]) > 50


@pytest.mark.parametrize("name", NAMED)
def test_what_the_pages_on_architecture_and_security_name_exists(name: str) -> None:
    path, _, function = name.partition(":")
    assert (ROOT / path).is_file(), f"there is no file {path}"
    assert not function or function in defined_in(path), f"{path} defines no {function}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_of_the_architecture_page_exist(folder: str) -> None:
    assert (ROOT / folder).is_dir()


def test_every_make_target_in_contributing_is_listed_by_make_help() -> None:
    named = set(
        re.findall(r"\bmake ([a-z]+)", "\n".join(re.findall(r"```sh\n.*?^```|`[^`\n]+`", CONTRIBUTING, SPANNING)))
    )
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert named <= set(re.findall(r"^  make (\w+)", listed, re.MULTILINE))


@pytest.mark.parametrize(("path", "quote"), QUOTES, ids=[path for path, _ in QUOTES])
def test_code_that_contributing_quotes_is_in_the_file_it_names(path: str, quote: str) -> None:
    lines = (ROOT / path).read_text().splitlines()
    assert [line for line in quote.splitlines() if line not in lines] == []


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_links_inside_the_repository_resolve(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize("link", ["missing.md", "#missing", "docs/security.md#missing", "../outside.md"])
def test_a_broken_link_is_noticed(link: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "security.md").write_text("# Security\n")
    (tmp_path / "page.md").write_text(f"# Page\n\n[text]({link}) and [text](docs/security.md#security)\n")
    assert broken_links(Path("page.md")) == [link]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_can_be_read_as_what_it_says_it_is(block: Block) -> None:
    """What runs is run by tests/stack/test_pages.py; this is of what does not, too."""
    if block.language in SHELLS:
        commands = "\n".join(commands_of(block))
        read = subprocess.run(["bash", "-n"], input=commands, capture_output=True, text=True, check=False)
        assert read.stderr == ""
    elif block.language == "python":
        if not why_python_is_not_run(block.text, block.page):
            compile(block.text, str(block), "exec")
    elif block.language == "yaml":
        assert list(yaml.safe_load_all(block.text))
    elif block.language == "json":
        assert json.loads(block.text) is not None
    else:
        assert block.language in NOT_COMMANDS, "give the block a language, and tests/pages.py the reason not to run it"


@pytest.mark.parametrize(("picture", "states"), [("batch-states", BatchState), ("tower-statuses", TowerStatus)])
def test_the_pictures_of_states_show_each_of_them(picture: str, states: type[StrEnum]) -> None:
    drawn = re.findall(r'class="h"[^>]*>([^<]+)<', (ROOT / "docs" / "images" / f"{picture}.svg").read_text())
    assert sorted(drawn) == sorted(states)


def test_each_reason_not_to_run_something_is_of_something() -> None:
    commands = {
        why_not_run(line, block.page) for block in BLOCKS if block.language in SHELLS for line in commands_of(block)
    }
    python = {why_python_is_not_run(block.text, block.page) for block in BLOCKS if block.language == "python"}
    there = [why for page, starts in NOT_RUN_THERE.items() if (ROOT / page).exists() for why in starts.values()]
    assert (commands | python) - {None} == {*NOT_RUN.values(), *PYTHON_NOT_RUN.values(), *there}


def test_output_is_compared_without_what_differs_from_run_to_run() -> None:
    shown = "id  8e8c189d0f30   in 0.14 s, 70,001 of 5e-7"
    assert shape(shown) == shape("id 1a2b3c4d5e6f in 12 s, 1 of 0.5") == ["id ID in 0 s, 0 of 0"]
    assert shape("train/49372  7  0.0003") == shape("test/00001 1 0.5") != shape("cheque/1 7 0.0003")
