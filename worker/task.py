"""What every task of ours does besides its work: it refuses what is meant for another installation, and says which
one answers. It must not know what a task is for.
"""

from __future__ import annotations

from typing import Any

from celery import Task

from twinvec_client.contract.broker import INSTALLATION
from twinvec_client.contract.messages import BadMessage
from worker import installation
from worker.runtime import runtime


class MeantElsewhere(Exception):
    """A message was sent by one that means another installation: nothing was done."""


class OwnTask(Task[Any, Any]):
    """Celery's, with its `__call__` replaced. A message that names no installation is for this one."""

    throws = (BadMessage, MeantElsewhere)  # a line of the log, and no traceback: anybody may send such messages
    resultrepr_maxsize = 0  # of what an event says of an answer: it may hold keys, attributes and vectors

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        meant, own = self.request.get(INSTALLATION), installation.own(runtime().settings)
        if None not in (meant, own) and meant != own:
            said = (
                f"these workers are of the installation {own:.8}, and {meant:.8} is meant: check the broker's URL and "
                "prefix, or make a new client if this one is"
            )
            if self.request.ignore_result:
                raise MeantElsewhere(said)
            return {"error": "OtherInstallation", "message": said, INSTALLATION: own}
        answer = self.run(*args, **kwargs)
        return {**answer, INSTALLATION: own} if isinstance(answer, dict) and own is not None else answer
