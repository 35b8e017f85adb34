"""A broker and a database from wheels, in one folder, for whoever has none: started, found again, stopped."""

from local.servers.process import EmbeddedError
from local.servers.servers import Servers

__all__ = ["EmbeddedError", "Servers"]
