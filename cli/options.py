"""Options and arguments that several commands take, declared once, and how they are read. It must not know more."""

from __future__ import annotations

import re
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
AnyJob = Annotated[
    str | None,
    typer.Argument(metavar="[JOB]", help="One job: its id, its first characters (4 or more), or `last`."),
]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Not longer ago than this: 90s, 15m, 2h or 3d.")]
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


def seconds_of(time: str) -> float:
    """Of `90s`, `15m`, `2h` or `3d`; a number alone is seconds. Raises CommandError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", time.strip())
    if found is None:
        raise CommandError(f"{time!r:.40} is not a time: write 90s, 15m, 2h or 3d", USAGE)
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def lane_names(joined: str) -> list[str]:
    """The lanes of an option, which joins them by commas. Raises CommandError where one does not exist."""
    wanted = [lane.strip() for lane in joined.split(",") if lane.strip()]
    unknown = sorted(set(wanted) - set(LANES))
    if unknown or not wanted:
        raise CommandError(f"no lane {', '.join(unknown) or 'is named'}: there are {', '.join(LANES)}", USAGE)
    return wanted
