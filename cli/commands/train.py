"""`twinvec train`: a training on a worker, followed from here."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.connect import client, who
from cli.display.console import out, print_json
from cli.display.epochs import follow
from cli.options import Json


def train(
    recipe: Annotated[str, typer.Option(help="How to train.")] = "default",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same tower.")] = 0,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and return at once.")] = False,
    json: Json = False,
) -> None:
    """Train a tower on a worker and follow its epochs.

    The first tower goes live at once; a later one when every stored digit is embedded under it. Ctrl-C stops
    following; the training goes on. `twinvec stop` ends it with the best tower so far, `twinvec cancel` with none.

    Recipes: `notebook`, as it was written; `quick`, better in a tenth of its time; `default`, the best in about its
    time; `conv`, a convolutional tower, slower and better; `best`, the tower of `default`, trained three times as long.

    \b
    Example:
      twinvec train --recipe default --seed 1
      twinvec report last
    """
    job = client().train(recipe=recipe, seed=seed, started_by=who())
    if detach:
        print_json({"job": job.id}) if json else out.print(job.id)
        return
    outcome = job.wait() if json else follow(job)
    if json:
        print_json({"job": job.id, "outcome": outcome})
        return
    metrics = outcome.metrics
    quality = f", pair accuracy {metrics['pair_accuracy']:.4f}, 1-NN {metrics['nearest_1']:.4f}"
    out.print(
        f"tower {outcome.tower} ({outcome.fingerprint[:12]}) is {outcome.status}{quality}; {outcome.seconds:.0f} s"
    )
