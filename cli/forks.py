"""`python -m cli.forks DESCRIPTOR`: the fork server of a stack, on an open socket. It has loaded what workers need.

What follows in its command line is room for those of the processes that it forks.
"""

from __future__ import annotations

import gc
import socket
import sys

from cli import surroundings


def main() -> None:
    """Ends when the other side of the socket is closed."""
    gc.disable()  # as in `cli.__main__`
    surroundings.settle()
    from training.model.devices import settle_blas  # noqa: PLC0415

    settle_blas(one_thread=True)  # before NumPy is loaded
    from cli import calling  # noqa: F401, PLC0415
    from cli.commands import beat, worker  # noqa: F401, PLC0415
    from worker import forkserver, monitor  # noqa: F401, PLC0415
    from worker.app import app  # noqa: PLC0415

    app.loader.import_default_modules()
    gc.freeze()  # as in `forkserver.serve_pool`
    forkserver.serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
