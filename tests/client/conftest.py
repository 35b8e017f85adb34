"""What a client calls: a worker that answers."""

from tests.serving import tv, worker

__all__ = ["tv", "worker"]
