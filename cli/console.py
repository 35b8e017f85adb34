"""Where the command writes: answers on stdout, everything about them on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from rich import box
from rich.console import Console
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(answer: Any) -> None:
    """One JSON document; records become objects."""
    out.file.write(json.dumps(answer, default=_plain, ensure_ascii=False) + "\n")


def table(*headings: str, right: Iterable[str] = (), title: str | None = None) -> Table:
    """An empty table as all of ours look. right: the headings whose column is aligned to the right."""
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return made


def masked(url: str) -> str:
    """A URL that may be shown: its password is hidden."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}"))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
