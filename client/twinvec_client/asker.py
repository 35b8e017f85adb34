"""Who asks for something that stands on record: the user of this process, and its machine."""

from __future__ import annotations

import getpass
import os
import socket

from twinvec_client.contract.limits import MAX_NAME_CHARS


def asker() -> str:
    """As `user@machine`; the user's number where the system knows no name of it, as in a container."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "?"
    return f"{user}@{socket.gethostname()}".replace("\0", "")[:MAX_NAME_CHARS]
