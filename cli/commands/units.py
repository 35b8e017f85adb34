"""`twinvec units`: service files of an installation, for systemd or for what reads a Procfile."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.display.console import err, out, show
from cli.errors import CommandError
from cli.options import Json
from cli.outputs import units as texts


def units(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Where to write them; made if missing.")] = None,
    user: Annotated[bool, typer.Option("--user", help="For a user's own service manager, without root.")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="Let the embedder see the machine's devices.")] = False,
    procfile: Annotated[bool, typer.Option("--procfile", help="Print a Procfile instead.")] = False,
    json: Json = False,
) -> None:
    """Write systemd's units for this installation, or print a Procfile.

    One service for each kind of worker, one for beat, one that migrates before they start, and twinvec.target, which
    starts them all. They read their settings from twinvec.env in DIR, and the migration the owner's database from
    twinvec-owner.env; both are made with mode 0600 where they are missing, and never written over. Units are replaced.

    \b
    Example:
      twinvec units /etc/twinvec && systemctl link /etc/twinvec/twinvec*.service /etc/twinvec/twinvec.target
      twinvec units --user ~/.config/systemd/user
      twinvec units --procfile > Procfile
    """
    command = _command()
    if procfile:
        out.print(texts.procfile(command), end="", markup=False, soft_wrap=True, highlight=False)
        return
    if folder is None:
        raise CommandError("name the folder to write the units to, or ask for a Procfile with --procfile")
    folder = folder.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    place = texts.Place(str(folder), command, user=user, gpu=gpu)
    written = [_replaced(folder / name, text) for name, text in texts.units(place)]
    for name, text in ((texts.ENVIRONMENT, texts.environment()), (texts.OWNER, texts.owner())):
        if _made(folder / name, text):
            written.append(folder / name)
            err.print(f"fill in {folder / name}", markup=False, soft_wrap=True)
    show(
        {"written": written},
        lambda _: out.print("\n".join(map(str, written)), markup=False, soft_wrap=True, highlight=False),
        as_json=json,
    )


def _command() -> list[str]:
    """The words that run this installation's `twinvec`."""
    console = Path(sys.executable).parent / "twinvec"
    return [str(console)] if console.exists() else [sys.executable, "-P", "-m", "cli"]


def _replaced(file: Path, text: str) -> Path:
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.write_text(text)
    unfinished.replace(file)
    return file


def _made(file: Path, text: str) -> bool:
    """Whether the file was missing, and is there now, for its owner alone."""
    try:
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(opened, "w") as made:
        made.write(text)
    return True
