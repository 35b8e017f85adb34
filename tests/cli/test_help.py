"""Help: there for every command, with an example, and quick."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli.main import COMMANDS, PANELS, app_for


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(name: str) -> None:
    shown = CliRunner().invoke(app_for([name]), [name, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    assert "twinvec" in shown.output.split("Example:")[1]


def test_the_list_of_commands_is_complete_and_tells_the_exit_statuses() -> None:
    shown = CliRunner().invoke(app_for([]), ["--help"])
    assert all(name in shown.output for name in COMMANDS)
    assert "Exit status" in shown.output


def test_the_commands_are_listed_by_who_needs_them() -> None:
    shown = CliRunner().invoke(app_for([]), ["--help"]).output
    places = [shown.index(heading) for heading in PANELS]
    assert places == sorted(places)
    assert places[0] < shown.index(" embed ") < places[1] < shown.index(" train ") < places[2] < shown.index(" up ")


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
