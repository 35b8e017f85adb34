"""`twinvec report`: a tower, or two side by side, as a page that any browser shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.display.console import err, foreign, out, print_json
from cli.display.quiet import loading_tensorflow
from cli.options import Json, TowerId
from cli.outputs.files import replacing
from worker.settings import Settings


def report(
    tower: TowerId,
    other: Annotated[
        str | None, typer.Argument(metavar="[OTHER]", help="Another one, to be shown beside it.", show_default=False)
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page to write; else report-ID.html in this folder.")
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="Show it on stored labelled digits, not on what it was trained on.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a report on a tower as one HTML page: pictures, distances, figures, verdict and where it comes from.

    The page needs nothing else, and asks no network. Everything is drawn here, from the tower in the database: on the
    digits that workers train on where this machine has them, else on labelled ones that are stored.

    \b
    Example:
      twinvec report last --to report.html
      twinvec report 3 4
    """
    found = write(Settings(), [word for word in (tower, other) if word is not None], to, stored=stored)
    if json:
        print_json(found)
        return
    for sentence in found.left_out:
        err.print(foreign(sentence), soft_wrap=True)
    out.print(foreign(found.path), soft_wrap=True)


@dataclass(frozen=True)
class Written:
    """A page, the ids of the towers that it is on, and what it leaves out, in sentences."""

    path: Path
    towers: list[int]
    left_out: list[str]


def write(settings: Settings, words: list[str], to: Path | None, *, stored: bool = False) -> Written:
    """Write a report on the towers that are meant. Raises CommandError."""
    with loading_tensorflow():
        from cli.commands.report_facts import gather  # noqa: PLC0415  # loads Keras, which takes seconds
        from training.report.page import page  # noqa: PLC0415  # as above
    with err.status("drawing"):
        ids, report = gather(settings, words, stored=stored)
        path = to or Path(f"report-{'-'.join(map(str, ids))}.html")
        with replacing(path) as unfinished:
            unfinished.write_text(page(report), encoding="utf-8")
    return Written(path, ids, list(report.left_out))
