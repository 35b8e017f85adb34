"""Where the command writes: answers on stdout, everything about them on stderr.

It must not know any command, nor load more than rich: the list of commands is shown through it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

from rich import box
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

_ROOMY = 100  # columns; in a narrower terminal a table's own columns stand closer together
_WIDE = 500  # columns of a file or a pipe: tables in it are not folded
# Unicode's categories of what a terminal obeys instead of showing it: controls, formats (which turn the direction of
# writing, or have no width), lone surrogates, and the ends of lines and paragraphs.
_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_OUR_OWN = "\n\t"  # that our own sentences contain


def foreign(text: object) -> str:
    """A string of anybody's as rich markup that shows exactly it: no markup of its own, and no control character.

    What a terminal would obey is written as in Python: `\\x1b`, `\\n`, `\\u202e`. Whatever is made by other people or
    programs goes through here on its way to a terminal: keys, collections, reasons, messages, names of files, URLs.
    """
    shown = visible(str(text))
    begins = shown.rstrip("\\")
    ends = shown[len(begins) :]
    return f"[none]{escape(begins)}{2 * ends}[/none]"  # rich halves the backslashes before a tag


def visible(text: str, *, keep: str = "") -> str:
    """The same with escapes in place of characters that a terminal obeys, but for those of `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(each) if each not in keep and _is_obeyed(each) else each for each in text)


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in _OBEYED


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class _Screen(Console):
    """Shows no emoji for `:100:`, and obeys no control character, whether or not a string went through `foreign`."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text, keep=_OUR_OWN), **options)


out = _Screen(highlight=False, emoji=False)
err = _Screen(stderr=True, highlight=False, emoji=False)
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
    """One JSON document; records become objects. What a terminal would obey is written by its number."""
    text = json.dumps(answer, default=_plain, ensure_ascii=False)
    if not text.isascii():
        text = "".join(json.dumps(each)[1:-1] if _is_obeyed(each) else each for each in text)
    out.file.write(text.replace("\x7f", "\\u007f") + "\n")


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
