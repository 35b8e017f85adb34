"""`twinvec nearest`: what is stored and looks like this."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.connect import client
from cli.display.console import err, out, show, table
from cli.options import AnyCollection, Json, Normalise
from twinvec_client import Answer


def nearest(
    picture: Annotated[Path | None, typer.Argument(metavar="PICTURE", help="A picture file.")] = None,
    key: Annotated[str | None, typer.Option(help="A stored digit instead; it leaves itself out.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many neighbours.")] = 5,
    collection: AnyCollection = None,
    normalise: Normalise = True,
    json: Json = False,
) -> None:
    """Find the nearest stored digits of a picture or of a key, in one collection or in all.

    Distances are Euclidean, in the space of the live tower.

    \b
    Example:
      twinvec nearest seven.png -k 3
      twinvec nearest --key cheque-17/3 --collection cheques
    """
    if (picture is None) == (key is None):
        raise typer.BadParameter("give a PICTURE or --key, one of the two")
    answer = client().nearest(picture, key=key, k=k, collection=collection, normalise=normalise)
    show(answer, _list, as_json=json)


def _list(answer: Answer) -> None:
    if not answer.neighbours:
        err.print("nothing is stored there yet")
        return
    columns = ("rank", "key", "collection", "label", "distance")
    rows = table(*columns, right=("rank", "distance"), fold=("key", "collection"))
    for rank, neighbour in enumerate(answer, start=1):
        label = "" if neighbour.label is None else str(neighbour.label)
        rows.add_row(str(rank), escape(neighbour.key), escape(neighbour.collection), label, f"{neighbour.distance:.4f}")
    out.print(rows)
    out.print(f"tower {answer.tower[:12]}; exact: {answer.compared:,} vectors were compared, no other is nearer")
