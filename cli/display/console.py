"""Where the command writes: answers on stdout, everything about them on stderr.

It must not know any command, nor load more than rich: the list of commands is shown through it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

T = TypeVar("T")

_ROOMY = 100  # columns; in a narrower terminal a table's own columns stand closer together
_WIDE = 500  # columns of a file or a pipe: tables in it are not folded

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
for console in (out, err):
    if not console.is_terminal:
        console.width = _WIDE


def show(answer: T, describe: Callable[[T], None], *, as_json: bool) -> None:
    """Print an answer as one JSON document, or let `describe` print it for people."""
    if as_json:
        print_json(answer)
    else:
        describe(answer)


def print_json(answer: Any) -> None:
    """One JSON document; records become objects."""
    out.file.write(json.dumps(answer, default=_plain, ensure_ascii=False) + "\n")


def table(*headings: str, right: Iterable[str] = (), fold: Iterable[str] = ()) -> Table:
    """An empty table as all of ours look. right: columns aligned to the right; fold: those that may be broken."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=out.width < _ROOMY)
    for heading in headings:
        justify: JustifyMethod = "right" if heading in right else "left"
        made.add_column(heading, justify=justify, overflow="fold", no_wrap=heading not in fold)
    return made


def key_values(**rows: str) -> Table:
    """A table of names and values, without headings."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in rows.items():
        made.add_row(name, value)
    return made


def masked(url: str) -> str:
    """A URL that may be shown: its passwords are hidden, also where it is not written as it should be."""
    return ";".join(_masked(part) for part in re.split(";(?=sentinel://)", url))


def _masked(url: str) -> str:
    url = re.sub(r"([?&]\w*password=)[^&]*", r"\1***", url)
    scheme, _, rest = url.partition("://")
    login, _, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    return f"{scheme}://{user}:***@{place}" if password else url


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
