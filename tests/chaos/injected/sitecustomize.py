"""What a case does to its processes from within: Python imports this at every start, in spawned pool children too.

The folder CHAOS_FOLDER steers it and keeps its notes, so that a case can change its mind while processes run:
`armed/<point>` holds how often a process still exits at that point, `noted/<what>` gets a line for each event.
An injection that no longer finds the name it wraps ends the process and says so in `refused`.
"""

import fcntl
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

REFUSED = 78  # exit status: an injection does not fit the product
EXITED = 9  # exit status: at an armed point
DEADLY = b"\xde\xad\xbe\xef this picture kills \xfe"  # in a file's bytes; the first 20 in a glyph's line

FOLDER = Path(os.environ.get("CHAOS_FOLDER", ""))


def note(what: str, line: str = "") -> None:
    """Append a line with the time, the process and `line` to `noted/<what>`; whole, whatever other processes write."""
    with (FOLDER / "noted" / what).open("ab", buffering=0) as file:
        file.write(f"{real_time():.3f} {os.getpid()} {line}\n".encode())


def exit_if_armed(point: str) -> None:
    """End this process here and now, if the case asked for one more exit at this point."""
    try:
        file = (FOLDER / "armed" / point).open("r+")
    except FileNotFoundError:
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        left = int(file.read() or 0)
        if left <= 0:
            return
        file.seek(0)
        file.truncate()
        file.write(str(left - 1))
        file.flush()
        note(point)
        os._exit(EXITED)


def refuse(what: str) -> NoReturn:
    (FOLDER / "refused").write_text(what)
    sys.stderr.write(f"chaos: {what}\n")
    sys.stderr.flush()
    os._exit(REFUSED)


def wrap(module: ModuleType, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a module's function by what `wrapper` makes of it."""
    original = getattr(module, name, None)
    if original is None or not callable(original):
        refuse(f"{module.__name__} has no function {name} to inject at")
    setattr(module, name, functools.wraps(original)(wrapper(original)))


def exits(*, before: str | None = None, after: str | None = None) -> Callable[[Callable[..., Any]], Any]:
    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        def exiting(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                exit_if_armed(before)
            result = original(*args, **kwargs)
            if after is not None:
                exit_if_armed(after)
            return result

        return exiting

    return wrapper


def noting_claims(claim: Callable[..., Any]) -> Callable[..., Any]:
    """For a function that claims one batch, or None, or a list of them."""

    def noting(*args: Any, **kwargs: Any) -> Any:
        claimed = claim(*args, **kwargs)
        for lease in claimed if isinstance(claimed, list) else [claimed]:
            if lease is not None:
                note("claims", f"{lease.batch} {lease.kind}")
        return claimed

    return noting


def dying_of(read_picture: Callable[..., Any]) -> Callable[..., Any]:
    def deadly(picture: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(picture, bytes) and DEADLY in picture:
            die("decoder")
        return read_picture(picture, *args, **kwargs)

    return deadly


def die(where: str) -> None:
    """As a broken C library does."""
    note(f"segfault-{where}")
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def in_leases(module: ModuleType) -> None:
    wrap(module, "claim", noting_claims)
    wrap(module, "claim_more", noting_claims)


def in_finish(module: ModuleType) -> None:
    wrap(module, "finish", committing_last)
    wrap(module, "finish", exits(after="inside-finish"))  # all is written, nothing is committed


def committing_last(finish: Callable[..., Any]) -> Callable[..., Any]:
    """It commits on its own way back otherwise."""

    def finishing(*args: Any, ends: bool = False, **kwargs: Any) -> Any:
        return finish(*args, **kwargs)

    return finishing


def in_embed(module: ModuleType) -> None:
    wrap(module, "embed_leased", exits(before="after-claim", after="after-commit"))
    wrap(module, "store", exits(before="after-tower"))


def in_intake(module: ModuleType) -> None:
    wrap(module, "read", exits(after="after-decode"))
    wrap(module, "take_in", exits(after="after-intake"))  # committed, not yet acknowledged


def in_training(module: ModuleType) -> None:
    wrap(module, "fit", exits(before="training-claimed", after="training-fitted"))
    wrap(module, "report", exits(before="training-under-way"))
    wrap(module, "register", exits(after="training-registered"))  # written, not committed
    wrap(module, "sweep", exits(before="training-committed"))  # not yet acknowledged


def noting_epochs(keep_state: Callable[..., Any]) -> Callable[..., Any]:
    def noting(session: Any, lease: Any, epoch: int, state: bytes) -> Any:
        note("epochs-kept", str(epoch))  # those before this one are committed
        return keep_state(session, lease, epoch, state)

    return noting


def in_trainings(module: ModuleType) -> None:
    wrap(module, "keep_state", noting_epochs)


def in_pictures(module: ModuleType) -> None:
    wrap(module, "read_picture", dying_of)


INJECTIONS = {
    "db.queue.leases": in_leases,
    "db.queue.finish": in_finish,
    "tasks.embed": in_embed,
    "tasks.intake": in_intake,
    "tasks.train": in_training,
    "db.queue.trainings": in_trainings,
    "training.pictures.read": in_pictures,
}


class Loader(importlib.abc.Loader):
    """Loads a module as its own loader does, and wraps its functions then."""

    def __init__(self, loader: Any, inject: Callable[[ModuleType], None]) -> None:
        self._loader, self._inject = loader, inject

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._inject(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name == "worker.tower_cache" and os.environ.get("CHAOS_TOWER") == "stand-in":
            return importlib.util.spec_from_file_location(name, Path(__file__).with_name("stand_in.py"))
        if name not in INJECTIONS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = Loader(spec.loader, INJECTIONS[name])
        return spec


def shift_clock(seconds: float) -> None:
    """Set this process's clock: what Python's `time` and `datetime` answer, and so all that they are asked for."""
    import datetime  # noqa: PLC0415  # only a process with a wrong clock needs it

    right = datetime.datetime
    wrong_by = datetime.timedelta(seconds=seconds)
    read, read_ns = time.time, time.time_ns

    class Kind(type):
        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, right)

    class Wrong(datetime.datetime, metaclass=Kind):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return right.now(tz) + wrong_by

        @classmethod
        def utcnow(cls) -> Any:
            return right.utcnow() + wrong_by

    datetime.datetime = Wrong  # type: ignore[misc]  # that is the fault
    time.time = lambda: read() + seconds
    time.time_ns = lambda: read_ns() + int(seconds * 1e9)


real_time = time.time
if os.environ.get("CHAOS_FOLDER"):
    if os.environ.get("CHAOS_CLOCK"):
        shift_clock(float(os.environ["CHAOS_CLOCK"]))
    sys.meta_path.insert(0, Finder())
