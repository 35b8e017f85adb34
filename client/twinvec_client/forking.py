"""What a fork leaves behind in Celery and kombu. It must not know messages or connections.

Each of their cached properties has one lock for all instances. Where another thread holds it at the moment of a fork,
in the child nobody does, and nobody lets go of it: the first call there would wait for ever.
"""

from __future__ import annotations

import os
import sys
import threading

from kombu.utils.objects import cached_property

_LIBRARIES = ("celery", "kombu")


def renew_locks() -> None:
    """Give every cached property of theirs a lock that is free."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _LIBRARIES:
            for kind in vars(module).values():
                if isinstance(kind, type):
                    for attribute in vars(kind).values():
                        if isinstance(attribute, cached_property):
                            vars(attribute)["lock"] = threading.RLock()


os.register_at_fork(after_in_child=renew_locks)
