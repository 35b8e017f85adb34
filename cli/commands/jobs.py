"""`twinvec jobs`, `job`, `failures`, `retry`, `cancel` and `stop`: what was asked for, and what became of it."""

from __future__ import annotations

from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import quote

import typer
from PIL import Image

from cli import exit_codes
from cli.connect import client
from cli.display.console import err, foreign, key_values, out, print_json, show, table
from cli.display.epochs import follow as follow_training
from cli.errors import CommandError
from cli.inputs.ids import find_job, shorten
from cli.options import AnyCollection, AnyJob, JobId, Json, Limit, Normalise, Since, seconds_of
from cli.outputs.files import Creating
from twinvec_client import EmbedJob, Failure, JobStatus, RetrainingStage, TrainingJob, TrainingProgress

if TYPE_CHECKING:
    from twinvec_client.contract.reasons import Reason

_COLOURS = {
    "finished": "green",
    "finished_with_failures": "yellow",
    "failed": "red",
    "abandoned": "red",
    "waiting_for_tower": "yellow",
}
_WIDE = 120  # columns that a list with whole ids takes


def jobs(limit: Limit = 20, json: Json = False) -> None:
    """List the latest jobs, newest first.

    \b
    Example:
      twinvec jobs -n 5
    """
    show(client().jobs(limit=limit), _list, as_json=json)


def _list(latest: list[JobStatus]) -> None:
    if not latest:
        err.print("no job yet: store pictures with `twinvec embed`")
        return
    numbers = ("pictures", "embedded", "failed", "seconds")
    rows = table("id", "kind", "collection", "state", *numbers, right=numbers, fold=("collection", "state"))
    ids = shorten([job.id for job in latest]) if out.width < _WIDE else [job.id for job in latest]
    for id, job in zip(ids, latest, strict=True):
        counts = [job.total, job.succeeded, job.failed] if job.kind != "train" else [None] * 3
        cells = ["" if count is None else f"{count:,}" for count in counts]
        rows.add_row(id, job.kind, foreign(job.collection or ""), _state(job), *cells, f"{job.seconds:,.1f}")
    out.print(rows)


def job(
    id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for its end and show how it goes on.")] = False,
    json: Json = False,
) -> None:
    """Show one job; with --follow until it ends.

    Exit status: 0 finished or under way, 3 finished with failures, 1 failed, cancelled or abandoned.

    \b
    Example:
      twinvec job last --follow
      twinvec job 0b9f3c52
    """
    found = find_job(client(), id)
    if follow:
        follow_training(found) if isinstance(found, TrainingJob) else found.wait(progress=not json)
    status = found.status()
    show(status, _describe, as_json=json)
    raise typer.Exit(exit_code(status))


def failures(
    id: JobId,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FOLDER", help="Write what was sent there, to look at.")
    ] = None,
    json: Json = False,
) -> None:
    """List the pictures of a job that were not embedded, and why.

    \b
    Example:
      twinvec failures 0b9f3c52 --save bad/
    """
    job = find_job(client(), id)
    found, kept = [], 0
    saving = None if save is None else Creating(save)
    for failure in job.failures(pictures=save is not None) if isinstance(job, EmbedJob) else ():
        if saving is not None and failure.picture is not None:
            save_picture(failure, saving)
            kept += 1
        found.append(replace(failure, picture=None))  # all of them together may be larger than memory
    if saving is not None:
        err.print(f"{kept:,} of {len(found):,} pictures were kept and are in {foreign(save)}")
    if json:
        print_json([asdict(failure) for failure in found])
    else:
        _list_failures(found)


def _list_failures(found: list[Failure]) -> None:
    if not found:
        err.print("no failures")
        return
    rows = table("key", "reason", "message", "attempts", right=("attempts",), fold=("key", "reason", "message"))
    for failure in found:
        rows.add_row(foreign(failure.key), foreign(failure.reason), foreign(failure.message), str(failure.attempts))
    out.print(rows)


def retry(
    id: AnyJob = None,
    since: Since = None,
    reason: Annotated[
        str | None, typer.Option(help="Of all jobs: what failed for this reason, as `failures` says it.")
    ] = None,
    collection: AnyCollection = None,
    normalise: Normalise = True,
    json: Json = False,
) -> None:
    """Send the failed pictures of a job again, as a new job; the old one keeps its list.

    Not those whose key holds another picture now (superseded, duplicate_key): they would take that one's place.
    Without a job, those of all jobs that the options let pass, as one new job for each collection; nor those, then,
    whose key has got a picture since.

    \b
    Example:
      twinvec retry last
      twinvec retry --since 1h --reason damaged
    """
    if id is None:
        _retry_all(since, reason, collection, normalise=normalise, json=json)
        return
    _refuse_filters(since=since, reason=reason, collection=collection)
    job = find_job(client(), id)
    if not isinstance(job, EmbedJob):
        raise CommandError(f"job {job.id} is a training: start another with `twinvec train`")
    again = job.retry(normalise=normalise, progress=not json)
    if again.status().state != "waiting_for_tower":
        again.wait(progress=not json)
    status = again.status()
    show(status, _describe, as_json=json)
    raise typer.Exit(exit_code(status))


def _retry_all(since: str | None, reason: str | None, collection: str | None, *, normalise: bool, json: bool) -> None:
    if since is None and reason is None and collection is None:
        raise CommandError("name a job, or what to retry of all: --since, --reason, --collection", exit_codes.USAGE)
    within = None if since is None else seconds_of(since)
    again = client().retry_failures(
        since=within,
        reason=cast("Reason | None", reason),
        collection=collection,
        normalise=normalise,
        progress=not json,
    )
    statuses = []
    for job in again:
        if job.status().state != "waiting_for_tower" and job.status().paused is None:
            job.wait(progress=not json)
        statuses.append(job.status())
    if not statuses and not json:
        err.print("nothing failed that could be sent again")
    else:
        show(statuses, _list, as_json=json)
    raise typer.Exit(max(map(exit_code, statuses), default=0))


def cancel(
    id: AnyJob = None,
    collection: AnyCollection = None,
    kind: Annotated[str | None, typer.Option(help="Of all jobs: embed, backfill, train or judge.")] = None,
    state: Annotated[str | None, typer.Option(help="Of all jobs: those in this state, as `jobs` shows it.")] = None,
    since: Since = None,
    all: Annotated[bool, typer.Option("--all", help="Every job that has not ended.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List them, and cancel none.")] = False,
    json: Json = False,
) -> None:
    """Cancel what has not begun of a job; what is done stays.

    Without a job, all those that the options let pass and that have not ended. Who asked stands in `twinvec actions`.

    \b
    Example:
      twinvec cancel 0b9f3c52
      twinvec cancel --collection cheques --state queued --dry-run
      twinvec cancel --collection cheques --state queued
    """
    if id is not None:
        _refuse_filters(collection=collection, kind=kind, state=state, since=since, all=all or None)
        job = find_job(client(), id)
        show(job.status() if dry_run else job.cancel(), _describe, as_json=json)
        return
    if collection is None and kind is None and state is None and since is None and not all:
        raise CommandError("name a job, or which ones: --collection, --kind, --state, --since, --all", exit_codes.USAGE)
    filters: dict[str, Any] = {"collection": collection, "kind": kind, "state": state}
    filters["since"] = None if since is None else seconds_of(since)
    found = client().unfinished_jobs(**filters) if dry_run else client().cancel_jobs(**filters)
    if not found and not json:
        err.print("no job that has not ended is like that")
        return
    show(found, _list, as_json=json)
    if not json:
        err.print(f"{len(found):,} would be cancelled" if dry_run else f"cancelled {len(found):,}")


def _refuse_filters(**given: Any) -> None:
    """Raises CommandError where one is given: a job is named, and they are of many."""
    if named := [f"--{name}" for name, value in given.items() if value is not None]:
        raise CommandError(f"{', '.join(named)}: of many jobs, and one is named", exit_codes.USAGE)


def stop(id: JobId, json: Json = False) -> None:
    """End a training early: its tower is the best that it has learnt so far. `cancel` would keep none.

    \b
    Example:
      twinvec stop last
    """
    found = find_job(client(), id)
    if not isinstance(found, TrainingJob):
        raise CommandError(f"job {found.id} is not a training: `twinvec cancel {found.id}` ends it")
    status = found.stop()
    show(status, _describe, as_json=json)


def save_picture(failure: Failure, folder: Creating) -> Path:
    """Write a kept picture as a new file, under its key made safe for any file system. Raises CommandError."""
    name, suffix = quote(failure.key, safe=" ()+,=@")[:150].lstrip(".") or "picture", ""
    picture = failure.picture or b""
    if failure.is_glyph:
        file = BytesIO()
        Image.frombytes("L", (28, 28), picture).save(file, "PNG")
        picture, suffix = file.getvalue(), ".png"
    return folder.create(name, suffix, picture)


def exit_code(status: JobStatus) -> int:
    """What a script is told of a job."""
    if status.state in ("failed", "cancelled", "abandoned"):
        return exit_codes.REFUSED
    return exit_codes.WITH_FAILURES if status.state == "finished_with_failures" else 0


def _describe(status: JobStatus) -> None:
    rows = {"job": status.id, "kind": status.kind, "state": _state(status)}
    if status.kind != "train":
        rows |= {
            "collection": foreign(status.collection or ""),
            "pictures": _pictures(status),
            "embedded": f"{status.succeeded:,}",
            "unchanged": f"{status.unchanged:,}",
            "failed": f"{status.failed:,}",
            "cancelled": f"{status.cancelled:,}",
            "doubtful": f"{status.doubtful:,}",
        }
    if status.stage and not status.final:
        rows["stage"] = _stage(status.stage)
    if status.progress and not status.final and not status.outcome:
        rows |= _progress(status.progress)
    if status.outcome:
        rows["tower"] = f"{status.outcome['tower']} ({status.outcome['fingerprint'][:12]})"
    if status.paused:
        rows["paused"] = f"[yellow]{foreign(str(status.paused))}[/]"
    if status.message:
        rows["message"] = foreign(status.message)
    out.print(key_values(**rows, seconds=f"{status.seconds:,.1f}"))
    if status.failed:
        out.print(f"`twinvec failures {status.id}` lists what failed, `twinvec retry` sends it again")
    if status.doubtful:
        out.print(f"`twinvec doubtful {status.id}` lists what was stored though it looks like no digit")


def _pictures(status: JobStatus) -> str:
    if status.state == "abandoned":
        return f"{status.accepted:,}, and no more came: sent again with the same idempotency key, it goes on"
    return "still arriving" if status.total is None else f"{status.total:,}"


def _progress(at: TrainingProgress) -> dict[str, str]:
    """How far a running training is."""
    rows = {"epoch": f"{at.epoch} of {at.epochs}, step {at.step:,} of {at.steps:,}"}
    rows |= {foreign(name): f"{value:.4f}" for name, value in sorted(at.metrics.items())}
    rows["left"] = f"about {at.remaining:,.0f} s, and the evaluation"
    if at.attempt > 1:
        rows["attempt"] = f"{at.attempt}: another worker went on after one was lost"
    return rows


def _stage(at: RetrainingStage) -> str:
    """How far a retraining is."""
    if at.total is None:
        return at.name
    left = "" if at.remaining is None else f", about {at.remaining:,.0f} s left"
    return f"{at.name}, {at.done:,} of {at.total:,}{left}"


def _state(status: JobStatus) -> str:
    colour = _COLOURS.get(status.state)
    held = " [yellow](paused)[/]" if status.paused else ""
    return (f"[{colour}]{status.state}[/]" if colour else status.state) + held
