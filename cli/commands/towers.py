"""`twinvec towers` and `tower`: those that were trained, how good they are, and which are in use."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.connect import client
from cli.display.console import err, foreign, key_values, out, print_json, show, table
from cli.display.lineage import lineage, shown_time, was_live
from cli.display.neighbours import looked_at, shown_distance
from cli.errors import CommandError
from cli.inputs.ids import find_tower
from cli.ledger import ledger, named_towers
from cli.options import Json, TowerId
from cli.outputs.files import replacing
from db.engine import transact
from db.vectors.towers import with_file
from training.fit.evaluation import MEASURES
from twinvec_client import Tower
from worker.settings import Settings


def towers(json: Json = False) -> None:
    """List the towers that were trained, newest first.

    Of the test images: `pairs` is how often same and different are distinguished, `1-NN` how often the nearest training
    image shows the same digit.

    \b
    Example:
      twinvec towers
    """
    show(client().towers(), _list, as_json=json)


def tower(
    tower: TowerId,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write its `.keras` file there, which `twinvec register` takes in."),
    ] = None,
    json: Json = False,
) -> None:
    """Show a tower: where it comes from, what its distances mean, how good it is, and the verdict on it.

    Distances: up to which one two pictures are taken for the same digit, and how often that is wrong.

    \b
    Example:
      twinvec tower 3
      twinvec tower last --save tower.keras
    """
    if save is not None:
        saved = save_file(Settings(), tower, save)
        if json:
            print_json({"tower": saved, "path": save})
        else:
            out.print(f"tower {saved} is in {foreign(save)}", soft_wrap=True)
        return
    show(find_tower(client().towers(), tower), _describe, as_json=json)


def save_file(settings: Settings, word: str, path: Path) -> int:
    """Write a tower's file, read from the database; the tower's id. Raises CommandError."""
    with ledger(settings) as engine:
        row = transact(engine, with_file, find_tower(transact(engine, named_towers), word).id)
    if row.file is None:
        raise CommandError(f"the file of tower {row.id} is pruned: it is {row.status}")
    if hashlib.sha256(row.file).digest() != row.file_digest:
        raise CommandError(f"the file of tower {row.id} is damaged in the database: restore it from a backup")
    with replacing(path) as unfinished:
        unfinished.write_bytes(row.file)
    return row.id


def _list(found: list[Tower]) -> None:
    if not found:
        err.print("no tower yet: train one with `twinvec train`")
        return
    numbers = ("seed", "pairs", "1-NN", "MAP@R", "vectors", "due")
    rows = table(
        "id",
        "fingerprint",
        "status",
        "recipe",
        *numbers,
        "created",
        right=numbers,
        fold=("fingerprint", "recipe", "created"),
    )
    for tower in found:
        rows.add_row(
            str(tower.id),
            tower.fingerprint[:12],
            _status(tower),
            foreign(tower.recipe),
            str(tower.seed),
            *(_rate(tower.metrics, name) for name in ("pair_accuracy", "nearest_1", "map_at_r")),
            f"{tower.embedded:,}",
            f"{tower.due:,}",
            tower.created_at[:16].replace("T", " "),
        )
    out.print(rows)


def _describe(tower: Tower) -> None:
    metrics = tower.metrics
    rows = {
        "tower": f"{tower.id} ({tower.fingerprint})",
        "status": _status(tower),
        "recipe": f"{foreign(tower.recipe)}, seed {tower.seed}",
        "trained": shown_time(tower.created_at),
        **{name: foreign(said) for name, said in lineage(tower.lineage or {})},
        **dict(was_live(tower.live_from, tower.live_until, tower.status)),
        "vectors": f"{tower.embedded:,}, {tower.due:,} due",
        "threshold": f"{tower.threshold:.3f}",
    }
    if "search" in metrics:
        rows["a look-up"] = looked_at(metrics["search"])
    rows |= _calibrated(metrics.get("calibration"))
    rows |= {title.long: _rate(metrics, name) for name, title in MEASURES.items()}
    if "cpu_seconds" in metrics:
        rows["training"] = f"{metrics['seconds']:,.1f} s, {metrics['cpu_seconds']:,.1f} s of CPU"
    if "kept_epoch" in metrics:
        rows["stopped"] = f"after epoch {metrics['epochs']}; the weights are those after epoch {metrics['kept_epoch']}"
    out.print(key_values(**rows))
    if tower.verdict is not None:
        _tell_verdict(tower.verdict)
    if "curve" in metrics:
        out.print("\nJudged same below the threshold: different pairs accepted, same pairs rejected", markup=False)
        out.print(_curve(metrics["curve"]))
    if "confusion" in metrics:
        out.print("A row a label: how often its test images were nearest to each label", markup=False)
        out.print(_confusion(metrics["confusion"]))


def _tell_verdict(verdict: dict[str, Any]) -> None:
    """What came of judging it, a line a reason."""
    forced = f"; asked for all the same by {foreign(verdict['forced_by'])}" if verdict.get("forced_by") else ""
    against = f" against tower {verdict['live']}" if verdict.get("live") is not None else ""
    passed = "[green]passed[/]" if verdict["passed"] else "[red]not passed[/]"
    out.print(f"\nVerdict: {passed}{against}{forced}")
    rows = table(
        "", "criterion", "live", "candidate", "tolerance", "", right=("live", "candidate", "tolerance"), fold=("",)
    )
    for reason in verdict["reasons"]:
        mark = "[green]\N{CHECK MARK}[/]" if reason["passed"] else "[red]\N{BALLOT X}[/]"
        figures = [
            "" if reason.get(each) is None else f"{reason[each]:.4g}" for each in ("live", "candidate", "tolerance")
        ]
        rows.add_row(mark, foreign(reason["name"].replace("_", " ")), *figures, foreign(reason["said"]))
    out.print(rows)


def _calibrated(calibration: dict[str, Any] | None) -> dict[str, str]:
    """What distances mean, each measured on other images than it was chosen on."""
    if calibration is None:
        return {"calibrated": "no: it was trained before distances were, or on too few images; train another"}
    rows = {
        "calibrated": f"on {calibration['images']:,} test images, checked on {calibration['checked_on']:,} others",
        "pairs, at the threshold": f"{calibration['accuracy']:.4f}",
    }
    for level in calibration["false_accepts"]:
        name = f"{level['rate']:.1%} false accepts"
        if level["distance"] is None:
            rows[name] = "too few test images to tell"
        else:
            rows[name] = (
                f"within {level['distance']:.3f}; checked: {level['false_accept']:.2%} accepted, "
                f"{level['false_reject']:.2%} of the same rejected"
            )
    for share, distance in zip(calibration["nearest_share"], calibration["nearest_distance"], strict=True):
        rows[f"{share:.1%} have a neighbour"] = f"within {shown_distance(distance)}"
    vote = calibration["vote"]
    rows[f"vote of {vote['neighbours']}"] = (
        f"{vote['accuracy']:.4f} right; calibration error {vote['error']:.4f}, "
        f"{vote['error_unseen']:.4f} among images unseen in training"
    )
    return rows


def _curve(curve: dict[str, list[float]]) -> Any:
    columns = ("threshold", "accepted", "rejected")
    rows = table(*columns, right=columns)
    for threshold, accepted, rejected in zip(
        curve["threshold"], curve["false_accept"], curve["false_reject"], strict=True
    ):
        rows.add_row(f"{threshold:.2f}", f"{accepted:.4%}", f"{rejected:.4%}")
    return rows


def _confusion(confusion: dict[str, Any]) -> Any:
    labels = [str(label) for label in confusion["labels"]]
    rows = table("", *labels, right=labels)
    for label, counts in zip(labels, confusion["counts"], strict=True):
        cells = [f"{count:,}" if count else "[dim]·[/]" for count in counts]
        rows.add_row(f"[bold]{label}[/]", *cells)
    return rows


def _status(tower: Tower) -> str:
    return f"[green]{tower.status}[/]" if tower.status == "live" else tower.status


def _rate(metrics: dict[str, Any], name: str) -> str:
    """Four places; nothing where an older version did not measure it."""
    return f"{metrics[name]:.4f}" if name in metrics else ""
