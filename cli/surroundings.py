"""Settles what a process of ours takes from its surroundings: our own settings, and nothing that happens to lie around.

Variables, files and folders that were meant for other programs change neither where data go nor what is computed. It
must not load what it protects: it runs before anything else does.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ROOMS = ("cli", "db", "local", "tasks", "training", "worker")

# libpq fills in what a URL does not say; a service file is read only where the URL names a service
_POSTGRES = re.compile(r"PG(?!SERVICEFILE$|SYSCONFDIR$)[A-Z_]+")
_CELERY = re.compile(r"(CELERY|KOMBU)_\w+|C_(WNOCONF|REMDEBUG|FAKEFORK)|_MP_FORK_\w+|FORKED_BY_MULTIPROCESSING|MP_LOG")
_KERAS = re.compile(r"KERAS_(MAX_EPOCHS|MAX_STEPS_PER_EPOCH|NNX_ENABLED)")
_NO_FILE = os.path.join(os.devnull, "none")

unread: list[str] = []  # PostgreSQL's variables that were left out: a user may have meant them


def settle() -> None:
    """Leave out, in this process and those it starts, what was meant for other programs."""
    for name in list(os.environ):
        if _POSTGRES.fullmatch(name) and name != "PGPASSFILE":
            unread.append(name)
        if any(kind.fullmatch(name) for kind in (_POSTGRES, _CELERY, _KERAS)):
            del os.environ[name]
    os.environ["PGPASSFILE"] = _NO_FILE  # instead of ~/.pgpass; a URL may name one with `passfile`
    os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or "tensorflow"  # instead of keras.json's
    _look_here_first()


def _look_here_first() -> None:
    """Have Python look last in folders that hold a module with a name of ours, but for the one that we lie in."""
    ours = Path(__file__).resolve().parents[1]
    strangers = [folder for folder in sys.path if Path(folder).resolve() != ours and _holds_a_room(Path(folder))]
    if strangers:
        sys.path[:] = [folder for folder in sys.path if folder not in strangers] + strangers
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join(folder for folder in given if folder and folder not in strangers)


def _holds_a_room(folder: Path) -> bool:
    return any(os.path.exists(folder / name) or os.path.exists(folder / f"{name}.py") for name in ROOMS)
