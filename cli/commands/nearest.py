"""`twinvec nearest`: what is stored and looks like this."""

from __future__ import annotations

from json import loads
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.connect import client
from cli.display.console import err, foreign, out, print_json, table
from cli.display.neighbours import MOST_DRAWN, captioned, shown_distance, verdict, warning
from cli.display.terminal_digits import Captioned, sheet
from cli.options import Json, Normalise
from training.pictures.read import read_picture
from twinvec_client import Answer


def nearest(
    picture: Annotated[Path | None, typer.Argument(metavar="PICTURE", help="A picture file.")] = None,
    key: Annotated[str | None, typer.Option(help="A stored digit instead; it leaves itself out.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many neighbours.")] = 5,
    collection: Annotated[
        list[str] | None,
        typer.Option("-c", "--collection", help="Of this collection only, or of several."),
    ] = None,
    label: Annotated[int | None, typer.Option(min=0, help="Of this label only.")] = None,
    attributes: Annotated[
        str | None, typer.Option(metavar="JSON", help="Whose attributes contain these only, a JSON object.")
    ] = None,
    match: Annotated[
        bool, typer.Option("--match", help="Say which label it most likely has, or that none fits.")
    ] = False,
    within: Annotated[
        float | None, typer.Option("--within", min=0, metavar="DISTANCE", help="None that are farther.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="NEXT", help="What follows: `next` of an answer, as --json prints it.")
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--table", help="Draw the neighbours, where this is a terminal and they are few.")
    ] = True,
    normalise: Normalise = True,
    json: Json = False,
) -> None:
    """Find the nearest stored digits of a picture or of a key, in some collections or in all.

    Distances are Euclidean, in the space of the live tower. Up to the tower's threshold two pictures are more likely
    the same digit than different ones. A warning says where the nearest is farther, or where it is farther than 99 % of
    digits have theirs. `twinvec tower last` shows these distances, and stricter ones for --within: the fewer wrong
    matches there are, the more digits have none.

    \b
    Example:
      twinvec nearest seven.png -k 3
      twinvec nearest seven.png --match --within 0.3
      twinvec nearest --key cheque-17/3 --collection cheques --label 7
      twinvec nearest seven.png --attributes '{"writer": 12}'
    """
    if (picture is None) == (key is None):
        raise typer.BadParameter("give a PICTURE or --key, one of the two")
    drawn = pictures and k <= MOST_DRAWN and out.is_terminal and not json
    answer = client().nearest(
        picture, key=key, k=k, collection=_one_or_several(collection), label=label, attributes=_parsed(attributes),
        max_distance=within, after=after, match=match, pictures=drawn, normalise=normalise,
    )  # fmt: skip
    if json:
        print_json(answer)
        return
    if not answer.neighbours:
        err.print("nothing is stored there" if within is None else f"nothing is stored there within {within:g} of it")
    elif drawn:
        asked = _asked(picture, normalise=normalise)
        out.print(sheet([*asked, *map(captioned, answer)], out))
    else:
        _list(answer)
    if answer.match is not None:
        out.print(verdict(answer.match))
    if (told := warning(answer)) is not None:
        err.print(told, soft_wrap=True)
    if answer.neighbours:
        out.print(f"tower {answer.tower[:12]}; exact: {answer.compared:,} vectors were compared, no other is nearer")


def _one_or_several(collections: list[str] | None) -> str | list[str] | None:
    return collections[0] if collections and len(collections) == 1 else collections or None


def _parsed(attributes: str | None) -> Any:
    """Raises BadParameter where it is not JSON."""
    try:
        return None if attributes is None else loads(attributes)
    except ValueError as error:
        raise typer.BadParameter(f"--attributes is not a JSON object: {error}") from None


def _asked(picture: Path | None, *, normalise: bool) -> list[Captioned]:
    """The picture as the tower sees it; of a key there is none here."""
    if picture is None:
        return []
    return [Captioned(read_picture(picture.read_bytes(), normalise=normalise), ["[dim]asked for[/]"])]


def _list(answer: Answer) -> None:
    columns = ("rank", "key", "collection", "label", "distance")
    rows = table(*columns, right=("rank", "distance"), fold=("key", "collection"))
    for rank, neighbour in enumerate(answer, start=1):
        label = "" if neighbour.label is None else str(neighbour.label)
        rows.add_row(
            str(rank), foreign(neighbour.key), foreign(neighbour.collection), label, shown_distance(neighbour.distance)
        )
    out.print(rows)
