"""Finds the command that was called, loads its module and no other, and says what went wrong in one sentence.

It must not import what is heavy: the list of commands and the shell's completion start here.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import typer
from typer.core import TyperGroup

from cli import surroundings
from cli.display.console import err, foreign
from cli.display.topics import show_first_look
from cli.errors import explain
from cli.topics import COMMANDS, TOPICS

_COMPLETING = "_TWINVEC_COMPLETE"  # set by the shell's script when Tab is pressed


def call() -> None:
    """What was typed. Exits with one of `cli.exit_codes`."""
    surroundings.settle()
    try:
        words = _meant(_typed())
        app = app_for(words)
        gc.enable()
        app(words, prog_name="twinvec")
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
        cls=_Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name, (module, summary) in COMMANDS.items():
        command: Callable[..., Any] = (
            getattr(import_module(module), name.replace("-", "_")) if name == called else _listed
        )
        app.command(name, help=_flowing(command.__doc__ or "") if name == called else summary)(command)
    return app


def _typed() -> list[str]:
    """The words after `twinvec`. A shell that completes them hands them over in the environment."""
    if _COMPLETING not in os.environ:
        return sys.argv[1:]
    line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
    return line.split()[1:]


def _meant(words: list[str]) -> list[str]:
    """`help COMMAND` means `COMMAND --help`; a topic and a command of one name are the topic."""
    if len(words) == 2 and words[0] == "help" and words[1] in COMMANDS and words[1] not in TOPICS:
        return [words[1], "--help"]
    return words


class _Commands(TyperGroup):
    """The commands, whose help is our own list by topic."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        show_first_look()


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
