"""Every command and every block of Python of the pages, run in the order of the page, on a stack of its own.

`tests/pages.py` says what is not run, and why.
"""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.demo import strokes
from tests.pages import PAGES, ROOT, Block, blocks_of, commands_of, shape, why_not_run, why_python_is_not_run
from tests.stack.conftest import SAMPLE, Stack, make_stack
from twinvec_client import Twinvec

URL = "redis://localhost:6379/0"  # of the pages; the test's stack has a port of its own


def runs(block: Block) -> bool:
    if block.language == "python":
        return why_python_is_not_run(block.text, block.page) is None
    return block.language == "sh" and any(why_not_run(command, block.page) is None for command in commands_of(block))


RUN = {page: [block for block in blocks_of(page) if runs(block)] for page in PAGES}


@pytest.fixture(scope="module")
def stack(costly: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One of the pages' own: what other tests store would be among what a page shows."""
    stack = make_stack(tmp_path_factory.mktemp("pages"))
    stack.up()
    yield stack
    stack.down()


@pytest.fixture(scope="module")
def tower(stack: Stack) -> None:
    stack.client().train(recipe="notebook", seed=1).wait(timeout=120)


@pytest.fixture(scope="module")
def stored(stack: Stack, tower: None) -> Iterator[Twinvec]:
    """What `make demo` stores, in small."""
    with np.load(SAMPLE) as sample, stack.client() as tv:
        for name in ("train", "test"):
            images, labels = sample[f"x_{name}"], sample[f"y_{name}"]
            keys = [f"{name}/{at:05}" for at in range(len(images))]
            tv.embed(images, keys=keys, labels=labels, collection=f"mnist-{name}").wait(timeout=120)
        yield tv
        for collection in ("mnist-train", "mnist-test", "cheques", "default"):
            tv.delete_collection(collection)


@pytest.fixture
def folder(stored: Twinvec, tmp_path: Path) -> Path:
    """The folder in which a page is followed: the repository's files, and pictures of the reader's own."""
    for name in ("docs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "scans").mkdir()
    for name in ("unknown", "cheque-17-3", "cheque-17-5", "cheque-17-6"):
        (tmp_path / "scans" / f"{name}.png").write_bytes(strokes.png(7))
    pictures = {"cheque-17/3": strokes.png(7), "cheque-17/4": strokes.png(4)}
    stored.embed(pictures, labels={"cheque-17/3": 7, "cheque-17/4": 4}, collection="cheques").wait(timeout=60)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if RUN[page]], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_runs_and_gives_what_it_shows(
    page: Path, stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "page"}
    for block in RUN[page]:
        given = ran_python(block, stack, names) if block.language == "python" else ran_in_shell(block, stack, folder)
        if block.expected is not None:
            assert shape(given) == shape(block.expected), f"{block} gave:\n{given}"


def ran_python(block: Block, stack: Stack, names: dict[str, Any]) -> str:
    url = stack.broker_url
    text = re.sub(r"\bTwinvec\(\)", f'Twinvec("{url}")', block.text.replace(URL, url))
    with redirect_stdout(io.StringIO()) as written:
        exec(compile(text, str(block), "exec"), names)
    return written.getvalue()


def ran_in_shell(block: Block, stack: Stack, folder: Path) -> str:
    commands = [command for command in commands_of(block) if why_not_run(command, block.page) is None]
    environment = {
        **stack.environment,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    script = "\n".join(["set -e", *commands]).replace(URL, stack.broker_url)
    ran = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, f"{block} ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def test_every_picture_that_a_page_shows_is_there() -> None:
    shown = {(page, name) for page in PAGES for name in re.findall(r"!\[[^]]*\]\(([^)\s]+)\)", page.read_text())}
    assert len(shown) > 1
    assert [name for page, name in shown if not (page.parent / name).is_file()] == []
