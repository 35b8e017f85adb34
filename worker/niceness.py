"""Where cores are few, processes whose answers nobody waits for let the others go first, and take what they leave."""

import os
import time
from pathlib import Path

_GROUP = Path("/proc/self/autogroup")  # Linux alone has it, where its autogroups are on
_TRIES = 20


def let_others_first(by: int) -> None:
    """Make this process and those it starts nicer, by 0 to 19, than those with whom they share the machine's cores.

    Where autogroups are on (sched(7)), niceness counts inside of a session alone, and each session gets an equal share
    whatever its processes' niceness: a process that leads a session, as the stack and service managers start it, makes
    its session as nice. One in a terminal leaves it as it is: the shell there belongs to somebody else.
    """
    niceness = os.nice(by)
    if os.getsid(0) != os.getpid():
        return
    for _ in range(_TRIES):
        try:
            _GROUP.write_text(f"{niceness}\n")
        except BlockingIOError:  # without root, one change in a tenth of a second, whoever's process it is
            time.sleep(0.1)
        except OSError:
            return
        else:
            return
