"""`twinvec towers`: what was trained, and what of it is in use."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.broker import client
from cli.console import err, out, print_json, table


def towers(json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False) -> None:
    """List the towers that were trained, newest first.

    \b
    Example:
      twinvec towers
    """
    found = client().towers()
    if json:
        print_json(found)
        return
    if not found:
        err.print("no tower yet: train one with `twinvec train`")
        return
    numbers = ("seed", "pairs", "vectors", "owed")
    rows = table("id", "fingerprint", "status", "recipe", *numbers, "created", right=numbers, fold=("recipe",))
    for tower in found:
        accuracy = tower.metrics.get("pair_accuracy")
        rows.add_row(
            str(tower.id),
            tower.fingerprint[:12],
            f"[green]{tower.status}[/]" if tower.status == "live" else tower.status,
            tower.recipe,
            str(tower.seed),
            "" if accuracy is None else f"{accuracy:.4f}",
            f"{tower.embedded:,}",
            f"{tower.owed:,}",
            tower.created[:16].replace("T", " "),
        )
    out.print(rows)
