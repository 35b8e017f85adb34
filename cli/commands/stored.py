"""`twinvec collections`, `get`, `label` and `delete`: what is stored, and changing it without its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from cli.connect import client
from cli.display.console import err, foreign, out, print_json, table
from cli.display.neighbours import glyph, shown_label
from cli.display.terminal_digits import Captioned, sheet
from cli.errors import CommandError
from cli.options import Collection, Json
from twinvec_client import Deleted, StoredDigit

Keys = Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys of stored digits.", show_default=False)]
Pictures = Annotated[bool, typer.Option("--pictures", help="Draw them.")]


def collections(json: Json = False) -> None:
    """List the collections, and how many digits each has.

    \b
    Example:
      twinvec collections
    """
    found = client().collections()
    if json:
        print_json([asdict(each) for each in found])
        return
    rows = table("collection", "digits", "with a label", right=("digits", "with a label"), fold=("collection",))
    for each in found:
        rows.add_row(foreign(each.name), f"{each.digits:,}", f"{each.labelled:,}")
    out.print(rows)


def get(keys: Keys, collection: Collection = "default", pictures: Pictures = False, json: Json = False) -> None:
    """Show stored digits by their keys.

    \b
    Example:
      twinvec get cheque-17/3 cheque-17/4 --collection cheques --pictures
    """
    found = list(client().get_many(keys, collection=collection, pictures=pictures and not json))
    show(found, pictures=pictures, json=json)
    stored = {digit.key for digit in found}
    missing = [key for key in keys if key not in stored]
    if missing:
        raise CommandError(f"not stored in the collection {collection!r}: {', '.join(missing[:10])}")


def label(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Key of a stored digit.", show_default=False)],
    value: Annotated[int, typer.Argument(metavar="LABEL", min=0, help="What it shows.", show_default=False)],
    collection: Collection = "default",
    json: Json = False,
) -> None:
    """Give a stored digit another label, without sending its picture again.

    \b
    Example:
      twinvec label cheque-17/3 7 --collection cheques
    """
    if client().label({key: value}, collection=collection):
        raise CommandError(f"no digit of the collection {collection!r} has the key {key!r}")
    if json:
        print_json({"key": key, "collection": collection, "label": value})
    else:
        out.print(f"{foreign(key)} is labelled {value}", soft_wrap=True)


def delete(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Keys of stored digits.", show_default=False)
    ] = None,
    collection: Collection = "default",
    everything: Annotated[bool, typer.Option("--all", help="The whole collection.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete digits: their pixels, vectors, judged pairs, and what failures kept of their pictures.

    It cannot be undone. What is sent again is stored again. It is verified by a search afterwards. Towers that were
    trained on one of them are named: what they learnt goes with them alone.

    \b
    Example:
      twinvec delete cheque-17/3 --collection cheques
      twinvec delete --all --collection cheques
    """
    if bool(keys) == everything:
        raise typer.BadParameter("give keys, or --all for the whole collection, one of the two")
    what = f"all digits of the collection {collection!r}" if everything else f"{len(keys or []):,} keys"
    if not yes and not typer.confirm(f"Delete {what} for good?", err=True):
        raise CommandError("nothing was deleted")
    tv = client()
    gone = tv.delete_collection(collection) if everything else tv.delete(keys or [], collection=collection)
    if json:
        print_json(asdict(gone))
    else:
        out.print(
            f"deleted {gone.digits:,} digits, {gone.vectors:,} vectors, {gone.judgements:,} judged pairs and "
            f"{gone.pictures:,} pictures of failures; a search finds {gone.left:,} of them",
            soft_wrap=True,
        )
        if gone.towers or gone.trainings:
            out.print(learnt(gone), soft_wrap=True)
    if gone.left:
        raise CommandError("some were stored again meanwhile: delete them again once nothing sends them any more")


def learnt(gone: Deleted) -> str:
    """What still knows what was deleted, and what to do."""
    who = []
    if gone.towers:
        who.append(f"tower{'s' * (len(gone.towers) > 1)} {', '.join(map(str, gone.towers))}")
    if gone.trainings:
        who.append(f"the training {gone.trainings[0]} that is under way")
    return (
        f"{' and '.join(who)} learnt from some of them: `twinvec retrain` makes a tower that has not, "
        f"`twinvec retire TOWER` drops one, and `twinvec cancel JOB` ends a training"
    )


def show(found: Sequence[StoredDigit], *, pictures: bool, json: bool) -> None:
    """Digits as a table, as pictures or as JSON."""
    if json:
        print_json([{**asdict(digit), "picture": None} for digit in found])
    elif not found:
        err.print("nothing is stored there")
    elif pictures:
        captions = [Captioned(glyph(each.picture), [shown_label(each.label), foreign(each.key)]) for each in found]
        out.print(sheet(captions, out))
    else:
        rows = table("key", "collection", "label", "attributes", fold=("key", "collection", "attributes"))
        for digit in found:
            shown = "" if digit.label is None else str(digit.label)
            attributes = "" if digit.attributes is None else str(digit.attributes)
            rows.add_row(foreign(digit.key), foreign(digit.collection), shown, foreign(attributes))
        out.print(rows)
