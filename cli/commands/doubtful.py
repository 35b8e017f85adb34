"""`twinvec doubtful`: digits that were stored though they look like none."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from typing import Annotated

import typer

from cli.connect import client
from cli.display.console import err, foreign, out, print_json, table
from cli.display.neighbours import glyph, shown_label
from cli.display.terminal_digits import Captioned, sheet
from cli.inputs.ids import find_job
from cli.options import JobId, Json
from twinvec_client import DoubtfulDigit, EmbedJob


def doubtful(
    id: JobId,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=10_000, help="How many to show.")] = 100,
    pictures: Annotated[bool, typer.Option("--pictures", help="Draw what was made of each.")] = False,
    json: Json = False,
) -> None:
    """List the digits of a job that were stored though they look like nothing their tower was trained on.

    Their pictures were read wrongly, show no digit, or an unusual one: look at them. One in forty that are read well
    stands here, too. Pixels that were taken as they were sent are not asked about.

    \b
    Example:
      twinvec doubtful 0b9f3c52 --pictures
    """
    job = find_job(client(), id)
    found = list(islice(job.doubtful(pictures=pictures and not json), limit)) if isinstance(job, EmbedJob) else []
    if json:
        print_json([{**asdict(digit), "picture": None} for digit in found])
    elif not found:
        err.print("no doubtful digits")
    elif pictures:
        out.print(sheet([_captioned(digit) for digit in found], out))
    else:
        rows = table("key", "collection", "label", fold=("key", "collection"))
        for digit in found:
            rows.add_row(foreign(digit.key), foreign(digit.collection), "" if digit.label is None else str(digit.label))
        out.print(rows)


def _captioned(digit: DoubtfulDigit) -> Captioned:
    return Captioned(glyph(digit.picture), [shown_label(digit.label), foreign(digit.key)])
