"""Help: there for every command, with an example, and quick."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli.main import COMMANDS, app_for


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
    shown = CliRunner().invoke(app_for(["tower"]), ["tower"])
    assert shown.exit_code == 2
    assert "towers" in shown.output
