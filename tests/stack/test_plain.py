"""A Celery program that has no package of ours calls by name, in plain JSON."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.environments import environment
from cli.demo import strokes
from tests.stack.conftest import Stack, until

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def python(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with `celery[redis]` alone."""
    return environment(tmp_path_factory.mktemp("environment"), "celery[redis]")


@pytest.fixture
def surroundings(stack: Stack) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "SHOP_BROKER_URL": stack.broker_url, "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def shop_worker(python: Path, surroundings: dict[str, str], log: Path) -> Iterator[None]:
    command = [
        str(python),
        "-m",
        "celery",
        "-A",
        "plain_celery",
        "worker",
        "--queues",
        "shop",
        "--concurrency",
        "1",
        "-l",
        "INFO",
    ]
    with log.open("wb") as written:
        process = subprocess.Popen(command, cwd=EXAMPLES, env=surroundings, stdout=written, stderr=written)
    try:
        until(lambda: "ready." in log.read_text() or process.poll() is not None, "the shop's worker")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def run(python: Path, surroundings: dict[str, str], code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [python, "-c", code], cwd=EXAMPLES, env=surroundings, capture_output=True, text=True, timeout=120, check=True
    )


def test_the_caller_has_nothing_of_ours(python: Path, surroundings: dict[str, str]) -> None:
    ask = (
        "from importlib.util import find_spec as f; print([bool(f(n)) for n in ('celery', 'twinvec_client', 'numpy')])"
    )
    assert run(python, surroundings, ask).stdout.strip() == "[True, False, False]"


def test_a_program_with_celery_alone_embeds_looks_up_chains_and_is_refused(
    python: Path, stack: Stack, tower: dict[str, Any], surroundings: dict[str, str], tmp_path: Path
) -> None:
    for digit in (3, 7):
        (tmp_path / f"{digit}.png").write_bytes(strokes.png(digit))
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    log = tmp_path / "shop.log"
    names = [tmp_path / "3.png", tmp_path / "7.png", tmp_path / "bad.png"]
    with shop_worker(python, surroundings, log):
        code = (
            "import json, plain_celery\nfrom pathlib import Path\n"
            f"paths = [Path(name) for name in {[*map(str, names)]}]\n"
            "job = plain_celery.embed(paths, id='mine', collection='other').apply_async().get(timeout=60)\n"
            "print(json.dumps([job['accepted'], job['failed']]))\n"
        )
        assert json.loads(run(python, surroundings, code).stdout) == [3, 1]
        command = [str(python), "plain_celery.py", *map(str, names[:2])]
        ran = subprocess.run(
            command, cwd=EXAMPLES, env=surroundings, capture_output=True, text=True, timeout=120, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert until(lambda: re.search(r"job \S+ is finished", log.read_text()), "the callback")
    assert ran.stdout.splitlines() == [
        "sent twice, one job: True",
        "finished: 2 embedded, 0 failed",
        "chain:  3.png",
        "group:  ['3.png', '7.png']",
        "chord:  ['3.png', '7.png']",
        "refused: UnknownKey: no stored digit has the key 'never sent'",
    ]
