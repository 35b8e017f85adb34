"""A fork server: a process that has loaded all code and done nothing yet. Its forks start where a new interpreter would
first load that code, for seconds of the processor.

The workers of a stack are forks of one, and the pool processes of a worker of another: Celery lets a pool process be a
fork of its main process, whose threads and connections it would inherit by halves, or a new interpreter ("spawn"). A
fork of the server has nothing to inherit, and goes on as a new interpreter does. It must not know what it does then.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import logging
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

log = logging.getLogger(__name__)

AVAILABLE = sys.platform == "linux"
FORK_SERVER, POOL = "twinvec-forks", "twinvec-pool"  # names of processes, as `top` and `ps -o comm` show them
_LOADED_WITHIN = 120.0  # seconds, before it answers for the first time
_FORKED_WITHIN = 10.0  # seconds; it takes a hundredth of one
_SIZE = struct.Struct("<q")
_NAME, _ADOPT = 15, 36  # PR_SET_NAME and PR_SET_CHILD_SUBREAPER of prctl(2)
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)  # it ends with the process that it serves


class Start(NamedTuple):
    """What a new interpreter would be started with."""

    code: str  # to run, as by `python -c`
    arguments: list[str]  # `sys.argv`
    environment: dict[str, str]
    niceness: int
    name: str  # at most 15 bytes
    title: str  # in the place of the command line, in lists of processes
    session: bool = False  # whether it begins one of its own


class ForkServer:
    """The server, for the process that it serves. asked: a socket whose other end is `serve`'s."""

    def __init__(self, asked: socket.socket) -> None:
        self._socket = asked
        asked.settimeout(_LOADED_WITHIN)

    def fork(self, start: Start, descriptors: dict[int, int]) -> int:
        """The id of a new child of this process. descriptors: those it has by their numbers there.

        Raises OSError or EOFError where the server does not answer; it is not asked again then, for it may do so late.
        """
        message = pickle.dumps((start, list(descriptors)))
        try:
            with _adopting():
                socket.send_fds(self._socket, [_SIZE.pack(len(message))], list(descriptors.values()))
                self._socket.sendall(message)
                pid = int(_SIZE.unpack(_receive(self._socket, _SIZE.size))[0])
        except (OSError, EOFError):
            self._socket.close()
            raise
        self._socket.settimeout(_FORKED_WITHIN)
        return pid

    def close(self) -> None:
        """Let the server end. Its forks go on."""
        self._socket.close()


def serve_pool(begin: Callable[[], None], title: str) -> None:
    """Have Celery's pool start its processes by a fork server, where there can be one.

    To be called once all code is loaded, and before there is a thread, a connection or anything that is held; the
    threads of OpenBLAS, which has them anew after a fork, do no harm.
    begin: called in each pool process, first of all. title: of those processes, in lists.
    """
    if not AVAILABLE:
        return
    from billiard import popen_spawn_posix  # noqa: PLC0415  # who serves no pool does not load it

    ours, theirs = socket.socketpair()
    gc.freeze()  # else a collection in a fork would write to all that is loaded, and so copy it
    if os.fork() == 0:
        ours.close()
        serve(theirs, begin, f"forks the {title}")
    theirs.close()
    started: Any = popen_spawn_posix  # without types
    started.spawnv_passfds = _Spawn(ForkServer(ours), started.spawnv_passfds, title)


class _Spawn:
    """Takes the place of the function that starts a new interpreter, and calls it where the server does not answer."""

    def __init__(self, server: ForkServer, otherwise: Callable[..., int], title: str) -> None:
        self._server, self._otherwise, self._title = server, otherwise, title

    def __call__(self, path: bytes, command: Sequence[str], descriptors: Iterable[int]) -> int:
        """The id of a new child of this process. command: has code after `-c`. Descriptors keep their numbers."""
        code = command[command.index("-c") + 1]
        start = Start(code, ["-c", command[-1]], dict(os.environ), os.nice(0), POOL, self._title)
        try:
            return self._server.fork(start, {each: each for each in descriptors})
        except (OSError, EOFError) as error:
            log.warning("no fork server (%s): a pool process is a new interpreter", error)
            return self._otherwise(path, command, descriptors)


def serve(asked: socket.socket, begin: Callable[[], None] = lambda: None, title: str = "") -> NoReturn:
    """Fork what is asked for, until the process that is served ends or closes its side.

    begin: called in each fork, first of all. title: of this process; none leaves its command line as it is.
    """
    try:
        _call(FORK_SERVER, title)
        for each in _IGNORED:
            signal.signal(each, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        while True:
            size, descriptors, _, _ = socket.recv_fds(asked, _SIZE.size, 64)
            if not size:
                os._exit(0)
            start, numbers = pickle.loads(_receive(asked, *_SIZE.unpack(size)))
            pid = _fork(asked, start, dict(zip(numbers, descriptors, strict=True)), begin)
            for given in descriptors:
                os.close(given)
            asked.sendall(_SIZE.pack(pid))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _fork(asked: socket.socket, start: Start, descriptors: dict[int, int], begin: Callable[[], None]) -> int:
    """The id of a process whose parent has ended already: who asked adopts it."""
    told, tell = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            for each in (told, tell):
                os.close(each)
            asked.close()
            _run(start, descriptors, begin)
        os.write(tell, _SIZE.pack(pid))
        os._exit(0)
    os.close(tell)
    with open(told, "rb") as answer:
        pid = int(_SIZE.unpack(answer.read())[0])
    os.waitpid(between, 0)
    return pid


def _run(start: Start, descriptors: dict[int, int], begin: Callable[[], None]) -> NoReturn:
    """Be what a new interpreter would be."""
    status = 1
    try:
        for each in _IGNORED:
            signal.signal(each, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _place(descriptors)
        if start.session:
            os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, start.niceness)
        _call(start.name, start.title)
        os.environ.clear()
        os.environ.update(start.environment)
        sys.argv[:] = start.arguments
        gc.enable()
        begin()
        exec(start.code, {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # this and the next: as an interpreter ends
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _place(descriptors: dict[int, int]) -> None:
    """Give descriptors their numbers."""
    free = 1 + max([*descriptors, *descriptors.values()], default=2)
    apart = {number: fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, free) for number, each in descriptors.items()}
    for each in descriptors.values():
        os.close(each)
    for number, each in apart.items():
        os.dup2(each, number, inheritable=number <= 2)
        os.close(each)


def _receive(other: socket.socket, size: int) -> bytes:
    """Exactly so many bytes. Raises EOFError where the other side has ended."""
    found = b""
    while len(found) < size:
        part = other.recv(size - len(found))
        if not part:
            raise EOFError("it has ended")
        found += part
    return found


@contextmanager
def _adopting() -> Iterator[None]:
    """What the children of this process leave behind become its own children."""
    _prctl(_ADOPT, 1)
    try:
        yield
    finally:
        _prctl(_ADOPT, 0)


def _call(name: str, title: str = "") -> None:
    """Give this process a name, and a title as far as its command line was long enough for one."""
    _prctl(_NAME, name.encode())
    if title:
        words = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        begin, end = (int(each) for each in words[45:47])  # arg_start and arg_end of proc(5)
        room = end - begin
        # Where its last byte is no zero, the kernel shows what stands before the first zero.
        written = title.encode()[: room - 2].ljust(room - 1, b"\0") + b"."
        ctypes.memmove(begin, written, room)


def _prctl(option: int, argument: Any) -> None:
    """Ask the kernel for what is good to have: it is not told whether it could be had."""
    ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)
