"""Finds the command that was called, loads its module and no other, and says what went wrong in one sentence.

It must not import what is heavy: the list of commands and the shell's completion start here.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import typer

from cli import exit_codes, surroundings
from cli.display.console import err, foreign
from cli.errors import explain

# who needs it -> name -> (the module that holds a function of that name, what the list of commands says)
PANELS = {
    "For applications and users": {
        "embed": ("cli.commands.embed", "Store and embed pictures, folders and files of arrays."),
        "nearest": ("cli.commands.nearest", "Find the nearest stored digits of a picture or a key."),
        "suspects": ("cli.commands.suspects", "Find stored labels that disagree with their neighbours."),
        "duplicates": ("cli.commands.duplicates", "Find pairs of stored digits that are nearly the same."),
        "map": ("cli.commands.map", "Draw stored digits as points, coloured by label, into a PNG file."),
        "export": ("cli.commands.export", "Write stored vectors to a Parquet, .npz or .npy file."),
        "collections": ("cli.commands.stored", "List the collections."),
        "list": ("cli.commands.listing", "List stored digits."),
        "get": ("cli.commands.stored", "Show stored digits by their keys."),
        "label": ("cli.commands.stored", "Give a stored digit another label."),
        "judge": ("cli.commands.judge", "Say of pairs of stored digits whether they show the same."),
        "judgements": ("cli.commands.judge", "List what was said of pairs."),
        "delete": ("cli.commands.stored", "Delete digits, their vectors and what was kept of their pictures."),
        "show": ("cli.commands.show", "Show the 28x28 digit that is made of a picture."),
        "jobs": ("cli.commands.jobs", "List the latest jobs."),
        "job": ("cli.commands.jobs", "Show or follow one job."),
        "failures": ("cli.commands.jobs", "List the pictures of a job that were not embedded, and why."),
        "doubtful": ("cli.commands.doubtful", "List the digits of a job that were stored though they look like none."),
        "retry": ("cli.commands.jobs", "Send the failed pictures of a job, or of many, again."),
    },
    "For operators": {
        "train": ("cli.commands.train", "Train a tower and follow its epochs."),
        "retrain": ("cli.commands.retrain", "Train a tower, backfill, judge and promote it, as one job."),
        "schedule": ("cli.commands.retrain", "Show when towers are retrained by themselves."),
        "report": ("cli.commands.report", "Write a page on a tower, or on two side by side."),
        "towers": ("cli.commands.towers", "List the towers that were trained."),
        "tower": ("cli.commands.towers", "Show a tower, or save its file."),
        "register": ("cli.commands.register", "Register a tower from its file."),
        "backfill": ("cli.commands.backfill", "Show how far stored digits are embedded under a new tower."),
        "promote": ("cli.commands.promote", "Let a tower go live."),
        "rollback": ("cli.commands.promote", "Let the tower go live again that was live before."),
        "retire": ("cli.commands.promote", "Retire a tower that is not live."),
        "judge-tower": ("cli.commands.promote", "Have the candidate judged anew."),
        "dead": ("cli.commands.dead", "List the batches that are not tried any more."),
        "requeue": ("cli.commands.dead", "Try dead batches again."),
        "cancel": ("cli.commands.jobs", "Cancel what has not begun of a job, or of many."),
        "pause": ("cli.commands.steering", "Hold back what waits on a lane, or of a job."),
        "resume": ("cli.commands.steering", "Let a lane or a job go on."),
        "drain": ("cli.commands.steering", "Let lanes finish what waits, and take nothing new."),
        "actions": ("cli.commands.steering", "List who asked for what."),
        "stop": ("cli.commands.jobs", "End a training early, with the best tower so far."),
        "doctor": ("cli.doctor.doctor", "Check the machine and the installation, and say what to do."),
        "health": ("cli.commands.health", "Check that broker and database answer."),
    },
    "For the installation": {
        "demo": ("cli.demo.demo", "Show the whole of Twinvec on the real MNIST, and leave it running."),
        "up": ("cli.commands.up", "Start broker, database and workers here."),
        "down": ("cli.commands.down", "Stop what `up` or `demo` started; the data stays."),
        "web": ("cli.commands.web", "Serve the page in the browser."),
        "worker": ("cli.commands.worker", "Run one worker in the foreground."),
        "beat": ("cli.commands.beat", "Run the scheduler in the foreground."),
        "migrate": ("cli.commands.migrate", "Create or upgrade the database's tables."),
        "units": ("cli.commands.units", "Write service files for systemd, or a Procfile."),
    },
}
COMMANDS = {name: command for panel in PANELS.values() for name, command in panel.items()}

ABOUT = f"""
Asynchronous embedding of handwritten digits.

Settings come from the environment: TWINVEC_BROKER_URL, TWINVEC_DATABASE_URL, TWINVEC_HOME and others.

\b
Exit status:
  {exit_codes.REFUSED:>3}  refused or failed, in one sentence
  {exit_codes.USAGE:>3}  the command was not understood
  {exit_codes.WITH_FAILURES:>3}  finished, and some pictures were not embedded
  {exit_codes.NO_ANSWER:>3}  no broker or no worker answered
  {exit_codes.INTERRUPTED:>3}  interrupted by Ctrl-C
"""

_COMPLETING = "_TWINVEC_COMPLETE"  # set by the shell's script when Tab is pressed


def main() -> None:
    """The console command. Exits with one of `cli.exit_codes`."""
    surroundings.settle()
    try:
        app_for(_typed())(prog_name="twinvec")
    except Exception as error:
        if os.environ.get("TWINVEC_DEBUG") == "1":
            raise
        sentence, code = explain(error)
        err.print(f"[bold red]twinvec:[/] {foreign(sentence)}", highlight=False, soft_wrap=True)
        sys.exit(code)


def app_for(words: list[str]) -> typer.Typer:
    """All commands; the one that `words` call is real, the others are only listed."""
    called = next((word for word in words if not word.startswith("-")), "")
    app = typer.Typer(
        name="twinvec",
        help=ABOUT,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for panel, commands in PANELS.items():
        for name, (module, summary) in commands.items():
            command: Callable[..., Any] = (
                getattr(import_module(module), name.replace("-", "_")) if name == called else _listed
            )
            about = _flowing(command.__doc__ or "") if name == called else summary
            app.command(name, help=about, rich_help_panel=panel)(command)
    return app


def _typed() -> list[str]:
    """The words after `twinvec`. A shell that completes them hands them over in the environment."""
    if _COMPLETING not in os.environ:
        return sys.argv[1:]
    line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
    return line.split()[1:]


def _flowing(text: str) -> str:
    """A docstring as help: its paragraphs fill the terminal, those that begin with a backspace keep their lines."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(part if part.startswith("\b") else part.replace("\n", " ") for part in paragraphs)


def _listed() -> None:
    """Stands for a command that was not called."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("twinvec"))
        raise typer.Exit


def _options(
    _version: bool = typer.Option(
        False, "--version", help="Say which version this is.", callback=_show_version, is_eager=True
    ),
) -> None:
    pass
