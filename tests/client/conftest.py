"""What a client calls: a worker that answers."""

from tests.serving import worker

__all__ = ["worker"]
