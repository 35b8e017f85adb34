"""Ctrl-C ends a command in silence at any moment: while it loads, and while it waits for an answer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from cli import exit_codes, main
from tests.makers import eventually

# Sends SIGINT to itself as soon as a module is looked for, and goes on to load it.
AT_AN_IMPORT = """if True:
    import os, signal, sys
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == os.environ["INTERRUPTED_AT"]:
                sys.meta_path.remove(self)
                os.kill(os.getpid(), signal.SIGINT)
    if "INTERRUPTED_AT" in os.environ:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.meta_path.insert(0, Finder())
"""


def started(*arguments: str, **settings: str) -> "subprocess.Popen[str]":
    bare = {name: value for name, value in os.environ.items() if not name.startswith("TWINVEC_")}
    command = [sys.executable, "-m", "cli", *arguments]
    return subprocess.Popen(command, env=bare | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "module", ["cli.calling", "typer", "cli.errors", "cli.commands.jobs", "twinvec_client", "celery"]
)
def test_an_interrupt_while_a_command_loads_is_no_traceback(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_AN_IMPORT)
    command = started("jobs", TWINVEC_HOME=str(tmp_path), PYTHONPATH=str(tmp_path), INTERRUPTED_AT=module)
    assert (*command.communicate(timeout=60), command.returncode) == ("", "", exit_codes.INTERRUPTED)


def test_the_status_of_an_interrupt_is_the_documented_one() -> None:
    assert main.INTERRUPTED == exit_codes.INTERRUPTED


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("words", [["jobs"], ["nearest", "--key", "a"]], ids=lambda words: words[0])
def test_an_interrupt_while_a_command_waits_for_a_worker_is_not_called_a_missing_broker(
    words: list[str], broker: "redis.Redis", broker_url: str, tmp_path: Path
) -> None:
    command = started(*words, TWINVEC_HOME=str(tmp_path), TWINVEC_BROKER_URL=broker_url)
    lanes = [f"twinvec:{lane}" for lane in ("control", "query")]
    eventually(lambda: any(map(broker.llen, lanes)), "its question", seconds=60)
    command.send_signal(signal.SIGINT)
    assert (*command.communicate(timeout=60), command.returncode) == ("", "", exit_codes.INTERRUPTED)
