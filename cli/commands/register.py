"""`twinvec register`: a tower that was trained elsewhere becomes a candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.display.console import err, out, print_json
from cli.display.quiet import loading_tensorflow
from cli.options import Json
from worker.settings import Settings


def register(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A tower's `.keras` file.", show_default=False)],
    json: Json = False,
) -> None:
    """Register a tower from its file, as `twinvec tower ID --save FILE` writes it.

    Nothing in the file is executed; it must be made of plain layers alone, and map 784 pixels to 128 numbers. It is
    measured here, on what workers train on, or on stored labelled digits where this machine lacks that. Then it is a
    candidate, filled and judged like any other; the first tower of an installation is live at once.

    \b
    Example:
      twinvec register tower.keras
    """
    with loading_tensorflow():
        from cli.commands.register_file import register_file  # noqa: PLC0415  # loads Keras, which takes seconds
    with err.status("measuring"):
        found = register_file(Settings(), file)
    if json:
        print_json(found)
    elif found.new:
        accuracy = f"pair accuracy {found.metrics['pair_accuracy']:.4f}, 1-NN {found.metrics['nearest_1']:.4f}"
        out.print(f"tower {found.id} ({found.fingerprint[:12]}) is {found.status}: {accuracy}")
    else:
        out.print(f"these weights are registered already: tower {found.id}, {found.status}")
