"""`twinvec train`: a training on a worker, followed from here."""

from __future__ import annotations

import os
from pathlib import Path
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
    plots: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Draw the notebook's pictures of it into this folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Train a tower on a worker and follow its epochs.

    The first tower goes live at once; a later one when every stored digit is embedded under it. Ctrl-C stops
    following; the training goes on. `twinvec stop` ends it with the best tower so far, `twinvec cancel` with none.

    Recipes: `notebook`, as it was written; `quick`, better in a tenth of its time; `default`, the best in about its
    time; `conv`, a convolutional tower, slower and better.

    \b
    Example:
      twinvec train --recipe default --seed 1 --plots pictures/
    """
    if detach and plots is not None:
        raise typer.BadParameter("--plots waits for the tower, and --detach does not: give one of the two")
    job = client().train(recipe=recipe, seed=seed, started_by=who())
    if detach:
        print_json({"job": job.id}) if json else out.print(job.id)
        return
    outcome = job.wait() if json else follow(job)
    drawn = [] if plots is None else _draw(outcome.tower, plots)
    if json:
        print_json({"job": job.id, "outcome": outcome, "plots": drawn})
        return
    metrics = outcome.metrics
    quality = f", pair accuracy {metrics['pair_accuracy']:.4f}, 1-NN {metrics['nearest_1']:.4f}"
    out.print(
        f"tower {outcome.tower} ({outcome.fingerprint[:12]}) is {outcome.status}{quality}; {outcome.seconds:.0f} s"
    )
    for path in drawn:
        out.print(str(path), markup=False, soft_wrap=True)


def _draw(tower: int, folder: Path) -> list[Path]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow tells all about the machine unless told not to
    from cli.commands.train_plots import draw  # noqa: PLC0415  # loads Keras, which takes seconds

    return draw(tower, folder)
