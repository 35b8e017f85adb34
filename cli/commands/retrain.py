"""`twinvec retrain` and `twinvec schedule`: a tower from its training to its promotion, now and by itself."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from cli import exit_codes
from cli.connect import client, who
from cli.display.console import foreign, key_values, out, print_json, show
from cli.display.epochs import follow
from cli.options import Json
from twinvec_client import Schedule
from twinvec_client.contract.states import TrainingData


def retrain(
    data: Annotated[str, typer.Option(help="What to learn from: mnist, stored, or both.")] = "both",
    recipe: Annotated[str, typer.Option(help="How to train, as of `twinvec train`.")] = "default",
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="The same seed and data give the same tower. Else drawn.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and return at once.")] = False,
    json: Json = False,
) -> None:
    """Train a tower on a worker, embed what is stored under it, and let it go live where it is no worse: one job.

    `mnist` is MNIST, or what TWINVEC_DATA names; `stored` the stored digits that have a label, except for those that
    are held out to judge towers; `both` both. Ctrl-C stops following; the job goes on, and after a worker's death from
    its last epoch. `twinvec job last --follow` follows it again, `twinvec cancel last` drops its tower.

    Exit status: 0 the tower is live, 1 it was rejected or the training failed.

    \b
    Example:
      twinvec retrain --data both
    """
    if data not in ("mnist", "stored", "both"):
        raise typer.BadParameter(f"--data is {data!r}: mnist, stored or both")
    job = client().retrain(data=cast(TrainingData, data), recipe=recipe, seed=seed, started_by=who())
    if detach:
        print_json({"job": job.id}) if json else out.print(job.id)
        return
    outcome = job.wait() if json else follow(job)
    status = job.status()
    if json:
        print_json({"job": job.id, "outcome": outcome, "message": status.message})
    elif status.message is None:
        out.print(f"tower {outcome.tower} ({outcome.fingerprint[:12]}) is {outcome.status}; {status.seconds:.0f} s")
    else:
        out.print(foreign(status.message))
    if status.state != "finished":
        raise typer.Exit(exit_codes.REFUSED)


def schedule(json: Json = False) -> None:
    """Show when towers are retrained by themselves: TWINVEC_TRAIN_CRON, and what the scheduler did last.

    It is what the worker's settings say that answers; the scheduler (`twinvec beat`) must have the same.

    \b
    Example:
      twinvec schedule
    """
    show(client().schedule(), _describe, as_json=json)


def _describe(found: Schedule) -> None:
    if found.cron is None:
        rows = {"schedule": "none: set TWINVEC_TRAIN_CRON, for instance to `0 3 * * *`"}
    else:
        rows = {
            "schedule": f"{foreign(found.cron)} (UTC)",
            "recipe": f"{foreign(found.recipe)}, learnt from {found.data}",
            "next": "" if found.next_at is None else found.next_at[:16].replace("T", " "),
        }
    rows["last"] = "none yet" if found.last_tower is None else f"tower {found.last_tower}"
    if found.running is not None:
        rows["under way"] = f"training {found.running}"
    out.print(key_values(**rows))
