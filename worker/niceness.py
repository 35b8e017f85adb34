"""Where cores are few, workers whose answers nobody waits for let the others go first, and take what they leave."""

import os
import time
from pathlib import Path

_GROUP = Path("/proc/self/autogroup")  # Linux alone has it, where its autogroups are on
_TRIES = 20


def have_session_yield() -> None:
    """Make the session of a worker as nice as this pool process of it, which is ready for work.

    Where autogroups are on (sched(7)), niceness counts inside of a session alone, and each session gets an equal share
    of the cores. A worker leads a session of its own where the stack or a service manager started it; one in a terminal
    leaves the session as it is: it is the shell's. Not sooner: on a busy machine a worker would load for minutes.
    """
    niceness = os.nice(0)
    if niceness <= 0 or os.getsid(0) != os.getppid():
        return
    for _ in range(_TRIES):
        try:
            _GROUP.write_text(f"{niceness}\n")
        except BlockingIOError:  # without root, the system takes one change in a tenth of a second
            time.sleep(0.1)
        except OSError:
            return
        else:
            return
