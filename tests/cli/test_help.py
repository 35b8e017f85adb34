"""Help: there for every command, with an example, and quick."""

import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli.calling import app_for
from cli.topics import AUDIENCES, COMMANDS, COMMON, TOPICS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(name: str) -> None:
    shown = CliRunner().invoke(app_for([name]), [name, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    assert "twinvec" in shown.output.split("Example:")[1]


def shown_by(*words: str) -> str:
    """What the console command prints at 80 columns."""
    code = f"import sys\nsys.argv = {['twinvec', *words]}\nfrom cli.main import main\nmain()"
    environment = {**os.environ, "COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def test_the_first_look_fits_a_screen() -> None:
    lines = shown_by("--help").splitlines()
    assert len(lines) <= 40
    assert max(len(line.rstrip()) for line in lines) <= 80


def test_each_command_is_in_exactly_one_topic() -> None:
    named = [name for commands in TOPICS.values() for name in commands]
    assert len(named) == len(set(named))
    assert set(AUDIENCES) == set(TOPICS)
    assert set(named) >= COMMON


def test_each_command_is_in_the_first_look_once() -> None:
    columns = [line[10:] for line in shown_by("--help").splitlines()[2:-3]]  # without the column of topics
    named = [word for line in columns for word in (line.split() if "." not in line else line.split()[:1])]
    assert sorted(named) == sorted(COMMANDS)


def test_a_topic_says_what_each_of_its_commands_does_and_all_adds_the_exit_statuses() -> None:
    shown = shown_by("help", "towers")
    assert all(f"  {name} " in shown and says in shown for name, (_module, says) in TOPICS["towers"].items())
    assert "  nearest " not in shown
    everything = shown_by("help", "--all")
    assert all(f"  {name} " in everything for name in COMMANDS)
    assert "no broker or no worker answered" in everything


def test_the_help_of_a_command_is_its_own() -> None:
    assert shown_by("help", "nearest") == shown_by("nearest", "--help")


def test_the_list_of_commands_says_only_what_fits_a_line() -> None:
    assert [name for name, (_module, says) in COMMANDS.items() if name in COMMON and len(says) > 60] == []


def test_every_command_that_answers_can_answer_in_json() -> None:
    runs_on = {"worker", "beat", "web"}  # in the foreground, until it is stopped
    without = {
        name
        for name in COMMANDS
        if "--json" not in CliRunner().invoke(app_for([name]), [name, "--help"], terminal_width=200).output
    }
    assert without == runs_on


def test_listing_the_commands_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['twinvec', '--help']\nfrom cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'celery', 'matplotlib', 'numpy', 'pydantic', 'sqlalchemy', 'tensorflow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_no_command_loads_tensorflow_to_begin_with() -> None:
    modules = ", ".join(sorted({module for module, _summary in COMMANDS.values()}))
    code = f"import sys, {modules}\nassert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_mistyped_command_is_answered_with_the_right_one() -> None:
    shown = CliRunner().invoke(app_for(["towrs"]), ["towrs"])
    assert shown.exit_code == 2
    assert "towers" in shown.output


def test_what_is_neither_a_topic_nor_a_command_is_answered_with_the_topics() -> None:
    done = subprocess.run([sys.executable, "-m", "cli", "help", "nope"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "start, pictures" in done.stderr
