"""The commands by topic, as `twinvec --help` and `twinvec help` show them: the first look fits a screen.

It must load no command: newcomers wait for the list.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from cli import exit_codes
from cli.display.console import out
from cli.topics import AUDIENCES, COMMON, TOPICS

WIDTH = 80  # columns that the first look is made for

_STATUSES = {
    0: "done",
    exit_codes.REFUSED: "refused or failed, in one sentence",
    exit_codes.USAGE: "the command was not understood",
    exit_codes.WITH_FAILURES: "finished, and some pictures were not embedded",
    exit_codes.NO_ANSWER: "no broker or no worker answered",
    exit_codes.INTERRUPTED: "interrupted by Ctrl-C",
}


def show_first_look() -> None:
    """In each topic a line for what most people need, then the other commands by name."""
    out.print("Usage: [bold]twinvec COMMAND[/] ...   Embed pictures of digits, find the nearest ones.\n")
    shown = Table(box=None, show_header=False, pad_edge=False, width=min(out.width, WIDTH))
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column()
    for topic, commands in TOPICS.items():
        inner = _two_columns({name: says for name, (_module, says) in commands.items() if name in COMMON})
        shown.add_row(topic, inner)
        if others := [name for name in commands if name not in COMMON]:
            shown.add_row("", Text(" ".join(others), style="cyan"))
    out.print(shown)
    out.print(
        "\n[bold]twinvec COMMAND --help[/] shows an example, [bold]twinvec help TOPIC[/] or [bold]--all[/] the rest."
    )
    out.print("Options: --version, --install-completion. Settings: variables TWINVEC_...")


def show_topics(topics: Iterable[str]) -> None:
    """Every command of these topics, with what it does."""
    for topic in topics:
        out.print(f"[bold]{topic}[/], {AUDIENCES[topic]}")
        out.print(_two_columns({name: says for name, (_module, says) in TOPICS[topic].items()}, indent=2))


def show_statuses() -> None:
    out.print("[bold]exit status[/]")
    out.print(_two_columns({str(status): says for status, says in _STATUSES.items()}, indent=2))


def _two_columns(rows: dict[str, str], *, indent: int = 0) -> Table:
    made = Table(box=None, show_header=False, pad_edge=bool(indent), padding=(0, 1, 0, indent))
    made.add_column(style="cyan", no_wrap=True, min_width=9)
    made.add_column()
    for name, says in rows.items():
        made.add_row(name, says)
    return made
