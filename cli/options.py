"""Options and arguments that several commands take, each declared once. It must not know what is done with them."""

from __future__ import annotations

from typing import Annotated

import typer

_COLLECTION = typer.Option("-c", "--collection", help="The namespace of the keys.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Normalise = Annotated[
    bool, typer.Option("--normalise/--no-normalise", help="Make MNIST-like digits of pictures, or only resize them.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, its first characters (4 or more), or `last`.")]
Collection = Annotated[str, _COLLECTION]
AnyCollection = Annotated[str | None, _COLLECTION]  # None: all of them
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="How many.")]
