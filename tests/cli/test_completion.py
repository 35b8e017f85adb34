"""Completion in the shell: the commands without loading any, the options of the one command that is typed."""

import os
import subprocess
import sys

import pytest

from cli.topics import COMMANDS

LINES = {
    "bash": lambda line: {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)},
    "zsh": lambda line: {"_TYPER_COMPLETE_ARGS": line},
    "fish": lambda line: {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


def completed(shell: str, line: str, *, code: str = "from cli.main import main; main()") -> str:
    """What the shell is offered for a line that ends where Tab was pressed."""
    environment = os.environ | LINES[shell](line) | {"_TWINVEC_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", LINES)
def test_the_beginning_of_a_command_is_completed(shell: str) -> None:
    offered = completed(shell, "twinvec ne")
    assert "nearest" in offered
    assert "embed" not in offered


def test_every_command_is_offered() -> None:
    assert set(completed("bash", "twinvec ").split()) == set(COMMANDS)


@pytest.mark.parametrize("shell", LINES)
def test_the_options_of_the_typed_command_are_completed(shell: str) -> None:
    offered = completed(shell, "twinvec nearest --no")
    assert "--no-normalise" in offered
    assert "--collection" not in offered


def test_completing_the_name_of_a_command_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom cli.main import main\n"
        "try:\n    main()\nfinally:\n"
        "    print(*{'celery', 'numpy', 'sqlalchemy'} & set(sys.modules), sep='\\n')"
    )
    assert completed("bash", "twinvec near", code=code).split() == ["nearest"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_that_a_shell_wants_can_be_shown(shell: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "cli", "--show-completion", shell],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "_TWINVEC_COMPLETE" in shown.stdout
