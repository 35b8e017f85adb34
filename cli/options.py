"""Options and arguments that several commands take, declared once, and how they are read. It must not know more."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.errors import CommandError
from cli.exit_codes import USAGE
from twinvec_client.contract.broker import LANES

_COLLECTION = typer.Option("-c", "--collection", help="The namespace of the keys.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Normalise = Annotated[
    bool, typer.Option("--normalise/--no-normalise", help="Make MNIST-like digits of pictures, or only resize them.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, its first characters (4 or more), or `last`.")]
TowerId = Annotated[
    str,
    typer.Argument(metavar="TOWER", help="The tower's id, the start of its fingerprint (4 or more), or `last`."),
]
Collection = Annotated[str, _COLLECTION]
AnyCollection = Annotated[str | None, _COLLECTION]  # None: all of them
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="How many.")]
LookedAt = Annotated[
    int,
    typer.Option("--most", min=1, max=10_000_000, help="How many digits to look at, in the order they were stored."),
]


def lane_names(joined: str) -> list[str]:
    """The lanes of an option, which joins them by commas. Raises CommandError where one does not exist."""
    wanted = [lane.strip() for lane in joined.split(",") if lane.strip()]
    unknown = sorted(set(wanted) - set(LANES))
    if unknown or not wanted:
        raise CommandError(f"no lane {', '.join(unknown) or 'is named'}: there are {', '.join(LANES)}", USAGE)
    return wanted
