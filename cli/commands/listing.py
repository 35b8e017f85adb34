"""`twinvec list`: what is stored, in the order in which it was."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from cli.commands.stored import Pictures, show
from cli.connect import client
from cli.options import AnyCollection, Json


def list(
    collection: AnyCollection = None,
    label: Annotated[int | None, typer.Option("--label", min=0, help="With this label only.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many to list.")] = 100,
    pictures: Pictures = False,
    json: Json = False,
) -> None:
    """List stored digits, in the order in which they were stored.

    \b
    Example:
      twinvec list --collection cheques --label 7
      twinvec list -n 20 --pictures
    """
    found = client().digits(collection=collection, label=label, pictures=pictures and not json)
    show([*islice(found, limit)], pictures=pictures, json=json)
