"""`twinvec map`: a collection's vectors as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.connect import client
from cli.display.console import err, foreign, out, print_json
from cli.display.map_picture import draw
from cli.errors import CommandError
from cli.options import AnyCollection, Json
from cli.outputs.files import replacing


def map(
    picture: Annotated[Path, typer.Option("-o", "--out", help="The PNG file to write.")] = Path("map.png"),
    collection: AnyCollection = None,
    most: Annotated[
        int, typer.Option("--most", min=1, max=100_000, help="Points, about; of more digits, a sample.")
    ] = 20_000,
    json: Json = False,
) -> None:
    """Draw stored digits as points, those near whose vectors are alike, coloured by label.

    A vector has 128 numbers and the picture two: the two directions along which the vectors vary most (principal
    component analysis). What is apart on the map is apart in truth; what overlaps may still be apart in other
    directions, and the title says how much of the variance the picture shows. Digits without a label are grey.

    \b
    Example:
      twinvec map --collection cheques --out cheques.png
    """
    if picture.suffix.lower() != ".png":
        raise typer.BadParameter("the picture is a PNG file: give a name that ends in .png", param_hint="--out")
    found = client().map(collection=collection, most=most, progress=err.is_terminal)
    if not found.points:
        raise CommandError("nothing is stored there yet")
    with replacing(picture) as unfinished:
        draw(found, f"collection {collection}" if collection else "all collections").save(unfinished)
    if json:
        print_json({"picture": picture, **vars(found)})
        return
    of = "" if len(found.points) == found.stored else f" of {found.stored:,}"
    out.print(
        f"saved {foreign(picture)}: {len(found.points):,}{of} digits, {sum(found.explained):.0%} of their variance"
    )
