"""How workers and the scheduler write their logs: each record is one line of text, or one line of JSON.

What strangers have a hand in, such as a key, an error of a server or the name of a task, cannot begin a line of its own
nor move a terminal's cursor. It must not know what is logged.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

from celery import current_task
from celery.utils.log import ColorFormatter

_ABOUT = "about"
_CONTINUED = "    | "  # before each line of a traceback


def about(**fields: Any) -> dict[str, Any]:
    """What a line is about, for `extra` of a logging call: `job`, `batch` and other ids and numbers.

    They are fields of a line of JSON, and stand in the sentence already.
    """
    return {_ABOUT: {name: value for name, value in fields.items() if value is not None}}


def one_line(text: str) -> str:
    """The text with everything escaped that could begin a line, move the cursor or turn the direction of writing."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "backslashreplace").decode() for each in text
    )


class TextFormatter(ColorFormatter):
    """A sentence on one line; a traceback follows on lines that begin as no record does."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return _continued(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _continued(super().formatStack(stack_info))


class JsonFormatter(logging.Formatter):
    """An object on one line: `at` (ISO 8601, UTC), `level`, `logger`, `process` and `message`; `task` and `task_id`
    where a task is being worked on, `error` with a traceback, and what the line is about."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        task: Any = current_task
        if task and task.request.id:
            said |= {"task": task.name, "task_id": task.request.id}
        said = getattr(record, _ABOUT, {}) | said
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        elif record.exc_text:
            said["error"] = record.exc_text
        if record.stack_info:
            said["stack"] = record.stack_info
        return json.dumps(said, default=str)  # ASCII: no character of Unicode ends a line


def set_format(logger: logging.Logger, written: str, *, format: str, colorize: bool | None) -> None:
    """Have a logger write text or JSON. format: of a line of text, as `logging.Formatter` has it."""
    for handler in logger.handlers:
        handler.setFormatter(JsonFormatter() if written == "json" else TextFormatter(format, use_color=bool(colorize)))


def quieten_libraries(written: str) -> None:
    """Where lines are JSON, have TensorFlow's C++ say nothing, which writes lines of its own; before it is loaded."""
    if written == "json":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _continued(lines: str) -> str:
    return "\n".join(_CONTINUED + one_line(line) for line in lines.split("\n"))
