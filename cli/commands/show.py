"""`twinvec show`: what a picture becomes before a tower sees it. Needs no broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from cli.display.console import foreign, out, print_json
from cli.display.terminal_digits import side_by_side
from cli.errors import CommandError
from cli.options import Json
from cli.outputs.files import replacing
from training.pictures.read import read_picture


def show(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A picture file.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--out", help="Also save the 28x28 digit, e.g. as a PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the 28x28 digit that is made of a picture, beside its plain resize.

    \b
    Example:
      twinvec show scan.jpg --out digit.png
    """
    try:
        data = picture.read_bytes()
    except OSError as error:
        raise CommandError(f"{picture}: {error.strerror}") from error
    glyph, resized = read_picture(data), read_picture(data, normalise=False)
    if output is not None:
        try:
            with replacing(output) as unfinished:
                Image.fromarray(glyph).save(unfinished)
        except ValueError as error:  # a suffix that names no format
            raise CommandError(f"{output}: {error}") from error
    if json:  # rows of 28 grey levels, 0 to 255
        print_json({"normalised": glyph.tolist(), "resized": resized.tolist(), "saved": output})
        return
    out.print(side_by_side({"normalised": glyph, "plainly resized": resized}, out))
    if output is not None:
        out.print(f"saved {foreign(output)}")
