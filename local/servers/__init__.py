"""A broker and a database from wheels, in one folder, where no server is set: started, found again, stopped.

They must not know what is stored in them, nor the workers.
"""

from local.servers.process import EmbeddedError
from local.servers.servers import Servers

__all__ = ["EmbeddedError", "Servers"]
