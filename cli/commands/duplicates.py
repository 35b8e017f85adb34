"""`twinvec duplicates`: pairs of stored digits that are nearly, or exactly, the same."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.connect import client
from cli.display.console import err, foreign, out, print_json, table
from cli.display.neighbours import captioned, glyph, shown_distance, shown_label
from cli.display.terminal_digits import Captioned, sheet
from cli.options import AnyCollection, Json, LookedAt
from twinvec_client import Duplicate, Duplicates


def duplicates(
    distance: Annotated[
        float | None, typer.Option("--within", min=0, metavar="DISTANCE", help="How far apart at most.")
    ] = None,
    collection: AnyCollection = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=10_000, help="How many to show.")] = 20,
    most: LookedAt = 100_000,
    pictures: Annotated[bool, typer.Option("--pictures", help="Draw the two of each pair.")] = False,
    json: Json = False,
) -> None:
    """Find the nearest pairs of stored digits: the same picture sent twice, or two that the tower hardly tells apart.

    One of a pair is of the --collection, the other of any: so it also shows what two collections share. A pair whose
    `pixels` are the same is one picture, stored twice; the others are near in the tower's eyes, and may still be two.
    Without --within, the distance is the tower's own, within which one of a thousand new images has a training image.

    \b
    Example:
      twinvec duplicates --collection cheques
      twinvec duplicates --within 0.001 --pictures
    """
    found = client().duplicates(
        distance=distance,
        collection=collection,
        limit=limit,
        most=most,
        pictures=pictures and not json,
        progress=err.is_terminal,
    )
    if json:
        print_json(found)
        return
    if pictures:
        for pair in found:
            own = Captioned(glyph(pair.picture), [shown_label(pair.label), foreign(f"{pair.collection}: {pair.key}")])
            out.print(sheet([own, captioned(pair.other)], out))
    elif found.pairs:
        _list(found)
    out.print(_summary(found))


def _list(found: Duplicates) -> None:
    rows = table(
        "distance", "pixels", "key", "label", "other key", "label", right=("distance",), fold=("key", "other key")
    )
    for pair in found:
        rows.add_row(shown_distance(pair.distance), "same" if pair.same_pixels else "differ", *_two(pair))
    out.print(rows)


def _two(pair: Duplicate) -> list[str]:
    sides = ((pair.collection, pair.key, pair.label), (pair.other.collection, pair.other.key, pair.other.label))
    cells = []
    for collection, key, label in sides:
        cells += [foreign(f"{collection}: {key}"), "" if label is None else str(label)]
    return cells


def _summary(found: Duplicates) -> str:
    more = "" if found.complete else "; there are more: --most looks at them"
    count = f"{len(found):,} pairs" if len(found) != 1 else "1 pair"
    within = shown_distance(found.distance)
    return (
        f"{count} shown, no farther apart than {within}; {found.looked_at:,} digits looked at{more}; "
        f"tower {found.tower[:12]}"
    )
