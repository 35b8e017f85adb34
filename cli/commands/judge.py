"""`twinvec judge` and `judgements`: whether two stored digits show the same, and what was said of that."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from typing import Annotated

import typer

from cli.connect import client, who
from cli.display.console import err, foreign, out, print_json, table
from cli.display.keys import single_keys
from cli.display.neighbours import glyph, shown_distance, shown_label
from cli.display.terminal_digits import Captioned, sheet
from cli.errors import CommandError
from cli.exit_codes import USAGE
from cli.options import AnyCollection, Json
from twinvec_client import PairToJudge, StoredDigit, Twinvec

SAME, DIFFERENT, SKIP, UNDO, QUIT = "s", "d", " ", "u", "q"
_MEANT = {key: key for key in (SAME, DIFFERENT, SKIP, UNDO, QUIT)} | {"": QUIT, "\x04": QUIT}  # Ctrl-D
_KEYS = "[bold]s[/] same   [bold]d[/] different   [bold]space[/] skip   [bold]u[/] undo   [bold]q[/] quit"

Key = typer.Argument(metavar="KEY", help="Keys of two stored digits; without them, pairs are shown to be judged.")


def judge(
    one: Annotated[str | None, Key] = None,
    other: Annotated[str | None, typer.Argument(metavar="OTHER", show_default=False)] = None,
    same: Annotated[bool | None, typer.Option("--same/--different", help="What the two show.")] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Take back what was said of the two.")] = False,
    collection: AnyCollection = None,
    other_collection: Annotated[
        str | None, typer.Option("--other-collection", help="The other's, where it is not the same.")
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="How many pairs to show.")] = 20,
    by: Annotated[str | None, typer.Option("--by", help="Who says so; else, your login name.")] = None,
    json: Json = False,
) -> None:
    """Say of two stored digits whether they show the same.

    Trainings learn from it, and no tower goes live that gets wrong what the one before had right. Without keys, pairs
    are drawn side by side, and each takes one key: s for same, d for different, space to skip, u to undo, q to quit.
    They are those whose judgement tells most: near each other with different labels, and about the threshold apart.

    \b
    Example:
      twinvec judge --collection cheques
      twinvec judge cheque-17/3 cheque-17/4 --different --collection cheques
    """
    if one is None:
        if same is not None or forget or json:
            raise CommandError("name the two digits: `twinvec judge KEY OTHER --same`", USAGE)
        _ask(client(), collection, limit, by)
        return
    if other is None or (same is None) is not forget:
        raise CommandError("name two digits, and say --same, --different or --forget, one of these", USAGE)
    of = collection or "default"
    client().judge(one, other, same=same, collection=of, other_collection=other_collection, by=by or who())
    if json:
        print_json({"key": one, "other_key": other, "same": same})
    else:
        out.print(f"{foreign(one)} and {foreign(other)} {_said(same)}", soft_wrap=True)


def judgements(
    collection: AnyCollection = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1_000_000, help="How many to list.")] = 1000,
    json: Json = False,
) -> None:
    """List what was said of pairs, in the order in which each was first judged.

    \b
    Example:
      twinvec judgements --collection cheques
    """
    found = list(islice(client().judgements(collection=collection), limit))
    if json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        err.print("no pair was judged there: judge some with `twinvec judge`")
        return
    rows = table("key", "other", "", "by", "at", fold=("key", "other", "by"))
    for each in found:
        said = "[green]same[/]" if each.same else "[red]different[/]"
        one, other = _named(each.collection, each.key), _named(each.other_collection, each.other_key)
        rows.add_row(one, other, said, foreign(each.by or ""), each.at[:16].replace("T", " "))
    out.print(rows)


def _ask(tv: Twinvec, collection: str | None, limit: int, by: str | None) -> None:
    """Show pairs one after the other, and keep each key press at once."""
    if not (sys.stdin.isatty() and out.is_terminal):
        raise CommandError("pairs are shown in a terminal alone: here, `twinvec judge KEY OTHER --same`", USAGE)
    pairs = tv.pairs_to_judge(collection=collection, limit=limit, progress=err.is_terminal)
    if not pairs:
        out.print("nothing to judge: there is no pair that was not judged yet")
        return
    said: list[bool | None] = []  # of each pair before the one that is shown; None: skipped
    with single_keys() as press:
        while len(said) < len(pairs):
            pair = pairs[len(said)]
            _draw(pair, len(said) + 1, len(pairs))
            key = _meant(press)
            if key == QUIT:
                break
            if key == UNDO:
                if said and said.pop() is not None:
                    _keep(tv, pairs[len(said)], None, by)
                continue
            answer = None if key == SKIP else key == SAME
            if answer is not None:
                _keep(tv, pair, answer, by)
            said.append(answer)
            out.print("skipped" if answer is None else "[green]same[/]" if answer else "[red]different[/]")
    judged = sum(each is not None for each in said)
    out.print(f"{judged} {'pair' if judged == 1 else 'pairs'} judged")


def _keep(tv: Twinvec, pair: PairToJudge, same: bool | None, by: str | None) -> None:
    one, other = pair.one, pair.other
    tv.judge(
        one.key,
        other.key,
        same=same,
        collection=one.collection,
        other_collection=other.collection,
        by=by or who(),
    )


def _draw(pair: PairToJudge, at: int, of: int) -> None:
    out.print(f"\n[bold]{at} of {of}[/]  {pair.why}, {shown_distance(pair.distance)} apart")
    out.print(sheet([_captioned(pair.one), _captioned(pair.other)], out))
    out.print(_KEYS)


def _captioned(digit: StoredDigit) -> Captioned:
    return Captioned(glyph(digit.picture), [shown_label(digit.label), _named(digit.collection, digit.key)])


def _named(collection: str, key: str) -> str:
    """Where it stands, as `cli.display.neighbours.place` has it."""
    return foreign(key if collection == "default" else f"{collection}: {key}")


def _meant(press: Callable[[], str]) -> str:
    """The next key that means something."""
    while (meant := _MEANT.get(press().lower())) is None:
        pass
    return meant


def _said(same: bool | None) -> str:
    return "are not judged any more" if same is None else f"show {'the same' if same else 'different digits'}"
