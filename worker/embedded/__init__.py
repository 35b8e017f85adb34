"""A broker and a database from wheels, in one folder, for whoever has none: started, found again, stopped."""

from worker.embedded.process import EmbeddedError
from worker.embedded.servers import Servers

__all__ = ["EmbeddedError", "Servers"]
