"""What a stack says when it cannot run. It must load no driver: who starts one in the background needs none."""

from __future__ import annotations

GRACE = 45.0  # seconds that workers have for what they are doing
READY_WITHIN = 300.0  # seconds; TensorFlow loads slowly on a busy machine


class StackError(Exception):
    """The stack cannot run. The message is one sentence that says why and what to do."""
