"""Celery's store of answers, with a journey to the broker less for each. It must not know what is answered.

Before it stores one, Celery asks whether one is there: a failure must not take the place of an answer. An answer may
take any place, and is stored at once here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery.app import backends
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.states import SUCCESS


class Answers(RedisBackend):
    """Over one server."""

    expires: Any
    _get_result_meta: Any

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **options: Any
    ) -> Any:
        if state != SUCCESS:
            return super()._store_result(  # type: ignore[misc]  # which the stubs do not know
                task_id, result, state, traceback, request, **options
            )
        self.store_together([(task_id, result)], request)
        return result

    def store_together(self, answers: Iterable[tuple[str, Any]], request: Any = None) -> None:
        """Store several answers, each with its message's id. Whoever hears of one finds it stored: the broker does one
        after the other, which needs no transaction."""
        written = [self._written(id, answer, request) for id, answer in answers]

        def send() -> None:
            with self.client.pipeline(transaction=False) as pipe:
                for key, value in written:
                    pipe.set(key, value, ex=self.expires).publish(key, value)
                pipe.execute()

        self.ensure(send, ())

    def _written(self, id: str, answer: Any, request: Any = None) -> tuple[Any, Any]:
        """Its key, and what stands there."""
        meta = self._get_result_meta(answer, SUCCESS, None, request)
        return self.get_key_for_task(id), self.encode(meta | {"task_id": id})


class SentinelAnswers(Answers, SentinelBackend):
    """Over the primary that Sentinels name."""


def install() -> None:
    """Let applications that this process makes from now on store their answers so, whatever the broker's URL."""
    names = {"redis": "Answers", "rediss": "Answers", "sentinel": "SentinelAnswers"}
    backends.BACKEND_ALIASES.update({scheme: f"{__name__}:{name}" for scheme, name in names.items()})
