"""`twinvec train`: a training on a worker, followed from here."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.broker import client
from cli.console import out, print_json
from cli.epochs import follow


def train(
    recipe: Annotated[str, typer.Option(help="How to train.")] = "notebook",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same tower.")] = 0,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the job's id and return at once.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Train a tower on a worker and follow its epochs.

    The first tower goes live at once; a later one when every stored digit is embedded under it. Ctrl-C stops
    following; the training goes on, and `twinvec cancel` stops it.

    \b
    Example:
      twinvec train --recipe notebook --seed 1
    """
    job = client().train(recipe=recipe, seed=seed)
    if detach:
        print_json({"job": job.id}) if json else out.print(job.id)
        return
    if json:
        print_json({"job": job.id, "outcome": job.wait()})
        return
    outcome = follow(job)
    accuracy = outcome.metrics.get("pair_accuracy")
    quality = "" if accuracy is None else f", pair accuracy {accuracy:.4f}"
    out.print(
        f"tower {outcome.tower} ({outcome.fingerprint[:12]}) is {outcome.status}{quality}; {outcome.seconds:.0f} s"
    )
