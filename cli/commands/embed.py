"""`twinvec embed`: pictures on this machine -> vectors in the database."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer

from cli.commands.jobs import exit_code
from cli.connect import client
from cli.display.console import err, foreign, out, print_json
from cli.errors import CommandError
from cli.inputs.sources import Reading, pictures
from cli.options import Collection, Json, Normalise
from twinvec_client import EmbedJob, JobStatus
from worker.settings import Settings

_FIRST = 5  # failures that are shown at once


def embed(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Pictures, folders, patterns, zip and tar archives, .npz, .npy, CSV, Parquet and IDX files, URLs; "
            "`-` for standard input.",
        ),
    ],
    collection: Collection = "default",
    label_from_folder: Annotated[
        bool, typer.Option("--label-from-folder", help="A picture in a folder `7` has the label 7.")
    ] = False,
    label_column: Annotated[
        str | None, typer.Option(help="Column of the labels in tables of paths, where it is not called `label`.")
    ] = None,
    transposed: Annotated[
        bool | None,
        typer.Option(
            "--transposed/--upright",
            help="Whether rows and columns of arrays are exchanged, as in EMNIST's files.",
            show_default=False,
        ),
    ] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Read what links in a folder lead to outside of it, too.")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key with the same pictures is the same job, however often sent.")
    ] = None,
    normalise: Normalise = True,
    priority: Annotated[
        int, typer.Option(min=1, max=100, help="Jobs that wait take turns: one of 2 gets twice as many as one of 1.")
    ] = 1,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all are embedded.")] = True,
    json: Json = False,
) -> None:
    """Store and embed pictures; a key that is sent again with the same pixels is left as it is.

    The key of a picture is its path as it is given here, the key of an array its file and index: `digits.npz#17`,
    or `mnist.npz#train/17` where the file has several sets, and that of a file in an archive `scans.zip#7/a.png`.
    Folders are searched recursively; archives are read without being unpacked, and links in them are left out. So are
    links that lead out of a folder. A file of several pictures that cannot be read fails, and the others are sent.

    A CSV or Parquet file with a column `path` (or `file`, `filename`, `image`) names pictures in its own folder, or has
    their bytes in that column; `label` and `key` are read beside it. Standard input holds paths, one a line, or a tar
    archive, or one picture. URLs need fsspec, and TWINVEC_INPUT_URLS to allow how they begin.

    Labels beside arrays are read: `images` and `labels`, `X` and `y`, `x_train` and `y_train` and their like, one-hot
    or not; the column `label` of a CSV with 784 pixels a row; the IDX file that belongs to one of images.

    Exit status: 0 all embedded, 3 some failed, 1 no tower is live (the pictures are stored).

    \b
    Example:
      twinvec embed scans/ --label-from-folder --collection cheques
      twinvec embed 'scans/**/*.png' more.zip train.csv
      find scans -name '*.png' -print0 | twinvec embed -
    """
    tv = client()
    reading = Reading(
        label_from_folder=label_from_folder,
        label_column=label_column,
        transposed=transposed,
        follow_links=follow_links,
        urls=Settings().allowed_urls(),
        say=_warn,
    )
    stream = pictures(paths, reading)
    try:
        job = tv.embed(
            stream,
            collection=collection,
            idempotency_key=idempotency_key,
            normalise=normalise,
            priority=priority,
            progress=not json,
        )
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt, "__notes__", ()):  # which job holds what was accepted
            err.print(foreign(note), soft_wrap=True)
        raise
    status = job.status()
    if wait and not status.final and status.state != "waiting_for_tower":
        job.wait(progress=not json)
        status = job.status()
    if json:
        print_json({**_counts(status), "failures": list(islice(job.failures(), _FIRST)) if status.failed else []})
    else:
        _tell(job, status)
    if wait and status.state == "waiting_for_tower":
        raise CommandError(
            f"{status.accepted:,} pictures are stored, and no tower is live to embed them: train one with "
            f"`twinvec train`; they are embedded then (`twinvec job {job.id} --follow`)"
        )
    raise typer.Exit(exit_code(status) if wait else 0)


def _warn(line: str) -> None:
    err.print(f"warning: {foreign(line)}", soft_wrap=True)


def _counts(status: JobStatus) -> dict[str, Any]:
    return {
        "job": status.id,
        "state": status.state,
        "total": status.total,
        "succeeded": status.succeeded,
        "unchanged": status.unchanged,
        "failed": status.failed,
        "cancelled": status.cancelled,
        "doubtful": status.doubtful,
        "seconds": status.seconds,
    }


def _tell(job: EmbedJob, status: JobStatus) -> None:
    if not status.final:
        out.print(f"job {job.id}: {status.state}, {status.accepted:,} pictures are stored")
    else:
        rate = status.succeeded / status.seconds if status.seconds else 0
        pace = f" ({rate:,.0f} a second)" if status.succeeded >= 1000 else ""
        out.print(
            f"job {job.id}: {status.succeeded:,} embedded, {status.unchanged:,} unchanged, {status.failed:,} failed, "
            f"{status.cancelled:,} cancelled in {status.seconds:.1f} s{pace}"
        )
    if status.failed:
        for failure in islice(job.failures(), _FIRST):
            err.print(f"[red]{foreign(failure.key)}[/]: {foreign(failure.reason)}: {foreign(failure.message)}")
        err.print(f"`twinvec failures {job.id}` lists all {status.failed:,}")
    if status.doubtful:
        err.print(
            f"[yellow]{status.doubtful:,} are doubtful[/]: stored, though they look like no digit: "
            f"`twinvec doubtful {job.id} --pictures` shows them",
            soft_wrap=True,
        )
