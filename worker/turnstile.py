"""Where a process waits that has been started early: it has loaded its code, and what it works on is not there yet.

It must not know what that is.
"""

from __future__ import annotations

import os
import sys

WAIT = "TWINVEC_STARTED_EARLY"  # set in its environment: it is told on its standard input to go on
GO = b"\n"


def pass_through() -> None:
    """Wait until this process is told to go on; exits where the one that would tell it has ended."""
    if os.environ.pop(WAIT, None) is not None and os.read(sys.stdin.fileno(), 1) != GO:
        sys.exit(1)
