"""`twinvec promote`, `rollback`, `retire` and `judge-tower`: which tower is live, as an operator wants it."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.connect import client
from cli.display.console import foreign, out, print_json
from cli.inputs.ids import find_tower
from cli.options import Json
from twinvec_client import TowerChange

_WORD = typer.Argument(metavar="TOWER", help="Its id, the start of its fingerprint, or `last`.")


def promote(
    tower: Annotated[str, _WORD],
    force: Annotated[bool, typer.Option("--force", help="Whatever its verdict; it is on record who did.")] = False,
    json: Json = False,
) -> None:
    """Let a tower go live: the candidate where it passed its judging, or the previous one.

    A retired tower becomes a candidate again: every stored digit is embedded under it, and it is judged. So does a
    rejected one with --force, which goes live whatever the verdict. None goes live under which a digit lacks its
    vector.

    \b
    Example:
      twinvec promote 3
    """
    tv = client()
    _tell(tv.promote(find_tower(tv.towers(), tower).id, force=force), as_json=json)


def rollback(
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for digits that lack a vector: they are found later.")
    ] = False,
    json: Json = False,
) -> None:
    """Let the tower that was live before go live again, with its vectors and its threshold.

    Digits that came in since have their vectors under it, unless TWINVEC_MAINTAIN_PREVIOUS is 0. Those that lack one
    are embedded first, and it goes live by itself when none is missing.

    \b
    Example:
      twinvec rollback
    """
    _tell(client().rollback(at_once=now), as_json=json)


def retire(tower: Annotated[str, _WORD], json: Json = False) -> None:
    """Retire the previous tower, or reject the candidate: its vectors are dropped. Never the live one.

    \b
    Example:
      twinvec retire 2
    """
    tv = client()
    _tell(tv.retire(find_tower(tv.towers(), tower).id), as_json=json)


def judge_tower(tower: Annotated[str, _WORD] = "last", json: Json = False) -> None:
    """Have the candidate judged anew against the live tower, after what it is judged by has changed.

    \b
    Example:
      twinvec judge-tower 3
    """
    tv = client()
    _tell(tv.judge_tower(find_tower(tv.towers(), tower).id), as_json=json)


def _tell(change: TowerChange, *, as_json: bool) -> None:
    if as_json:
        print_json(change)
        return
    said = "" if change.said is None else f": {foreign(change.said)}"
    out.print(f"tower {change.tower} ({change.fingerprint[:12]}) is {change.status}{said}")
