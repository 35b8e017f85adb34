"""A Celery task of the caller's own that is told when a job has ended."""

from __future__ import annotations

from twinvec_client.contract import messages
from twinvec_client.contract.broker import KEY_PREFIX
from twinvec_client.contract.limits import MAX_NAME_CHARS, is_name
from twinvec_client.errors import InvalidRequest


class Callback(messages.Callback, frozen=True):
    """The task `task` on the queue `queue` of the same broker, as the caller's own Celery workers know them.

    It is called with one argument, a dict: the job's `id`, `kind`, `collection`, `state` and counts, as `JobStatus`
    names them. It is called when the last picture is accounted for, with failures or without, and when the job is
    cancelled or abandoned; at least once, so know a job by its id. An abandoned job that goes on after all is told of
    once more. Raises InvalidRequest on names that cannot be a task's or a queue's.
    """

    def __post_init__(self) -> None:
        for name, value in (("task", self.task), ("queue", self.queue)):
            if not is_name(value, MAX_NAME_CHARS) or value.startswith(KEY_PREFIX):
                raise InvalidRequest(
                    f"callback {name} {value!r:.80}: a string of 1 to {MAX_NAME_CHARS} characters "
                    f"that does not begin with {KEY_PREFIX!r}"
                )
