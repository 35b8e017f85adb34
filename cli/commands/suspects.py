"""`twinvec suspects`: stored labels that disagree with their neighbours."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.connect import client
from cli.display.console import err, foreign, out, print_json, table
from cli.display.neighbours import captioned, glyph, shown_distance, shown_label
from cli.display.terminal_digits import Captioned, sheet
from cli.options import AnyCollection, Json, LookedAt
from twinvec_client import Suspect, Suspects

_DRAWN = 2  # neighbours beside each


def suspects(
    collection: AnyCollection = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=10_000, help="How many to show.")] = 20,
    most: LookedAt = 100_000,
    pictures: Annotated[bool, typer.Option("--pictures", help="Draw each beside its nearest neighbours.")] = False,
    json: Json = False,
) -> None:
    """Find stored labels that are probably wrong: the nearest neighbours, of any collection, elect another.

    Each neighbour's vote weighs the more the nearer it is. The most probably wrong come first; look at them before you
    change a label, for some are digits that were written badly and labelled rightly. `twinvec label` corrects one.

    \b
    Example:
      twinvec suspects --collection cheques --limit 50
      twinvec suspects --pictures -n 5
    """
    found = client().suspects(
        collection=collection, limit=limit, most=most, pictures=pictures and not json, progress=err.is_terminal
    )
    if json:
        print_json(found)
        return
    if pictures:
        for suspect in found:
            _draw(suspect)
    elif found.suspects:
        _list(found)
    out.print(_summary(found))


def _list(found: Suspects) -> None:
    numbers = ("label", "neighbours say", "probability", "nearest")
    rows = table("key", "collection", *numbers, right=numbers, fold=("key", "collection"))
    for each in found:
        probability = "" if each.probability is None else f"{each.probability:.4f}"
        nearest = shown_distance(each.neighbours[0].distance)
        rows.add_row(
            foreign(each.key), foreign(each.collection), str(each.label), str(each.elected), probability, nearest
        )
    out.print(rows)


def _draw(suspect: Suspect) -> None:
    said = "" if suspect.probability is None else f", probability {suspect.probability:.4f}"
    head = f"{foreign(suspect.collection)}: {foreign(suspect.key)}"
    out.print(
        f"[bold]{head}[/] is stored as {shown_label(suspect.label)}; neighbours say [bold]{suspect.elected}[/]{said}"
    )
    own = Captioned(glyph(suspect.picture), [f"stored as {shown_label(suspect.label)}"])
    out.print(sheet([own, *map(captioned, suspect.neighbours[:_DRAWN])], out))


def _summary(found: Suspects) -> str:
    more = "" if found.complete else "; there are more: --most looks at them"
    count = f"{len(found):,} suspects" if len(found) != 1 else "1 suspect"
    return f"{count} shown, {found.looked_at:,} labels looked at{more}; tower {found.tower[:12]}"
