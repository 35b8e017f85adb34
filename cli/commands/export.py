"""`twinvec export`: stored vectors -> a file for other programs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from cli.display.console import err, foreign, out, print_json
from cli.options import AnyCollection, Json
from cli.outputs.vectors import check, writing
from db.engine import connect, transact_once
from db.vectors import export as exporting
from twinvec_client import bars
from worker.settings import Settings


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to write: .parquet, .npz or .npy.")],
    collection: AnyCollection = None,
    tower: Annotated[
        str | None, typer.Option("--tower", help="Its id, or the beginning of its fingerprint. Unset: the live one.")
    ] = None,
    json: Json = False,
) -> None:
    """Write stored vectors to a file, as the store is at one moment. It reads the database itself.

    Parquet has the columns key, collection, label and vector, and the tower in its metadata. An .npz has the arrays
    vectors, (n, 128) float32, keys, collections, labels (-1 for none) and tower. An .npy has the vectors alone, and can
    be mapped into memory; the rest is in a second file, NAME.keys.npz. A file that is there is replaced at the end.

    \b
    Example:
      twinvec export vectors.parquet
      twinvec export cheques.npy --collection cheques
    """
    check(file)
    engine = connect(Settings().require_database())
    start = time.perf_counter()
    done = transact_once(engine, write, file, collection, tower, progress=err.is_terminal and not json)
    done["seconds"] = time.perf_counter() - start
    if json:
        print_json(done)
    else:
        wrote = f"wrote {done['vectors']:,} vectors of tower {done['tower']:.12} to {foreign(file)}"
        out.print(f"{wrote} in {done['seconds']:.1f} s", soft_wrap=True)


def write(session: Session, file: Path, collection: str | None, tower: str | None, *, progress: bool) -> dict[str, Any]:
    """What was written. Raises NoTower, CommandError."""
    exporting.begin(session)
    id, fingerprint = exporting.exported(session, tower)
    extent = exporting.extent(session, id, collection)
    with bars.bar(progress, "export") as bar, writing(file, fingerprint, extent) as append:
        bar.expect(extent.vectors)
        for page in exporting.pages(session, id, collection):
            append(page)
            bar.advance(len(page.keys))
    return {"file": file, "tower": fingerprint, "vectors": extent.vectors}
