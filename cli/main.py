"""The console command: loads the rest of it, and ends in silence where that is interrupted.

It must not import anything of ours itself: Ctrl-C in the first moments finds no module half loaded above this one.
"""

from __future__ import annotations

import gc
import sys

INTERRUPTED = 130  # as in `cli.exit_codes`


def main() -> None:
    """Exits with one of `cli.exit_codes`, or as what Ctrl-C has ended."""
    gc.disable()  # as in `cli.__main__`
    try:
        from cli.calling import call  # noqa: PLC0415  # it may be interrupted while it loads

        call()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
