"""Every error a user can expect, as one sentence and an exit status.

Errors are known here by their name, so that no module is loaded only to recognise what it never raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cli import exit_codes
from cli.display.console import masked


class CommandError(Exception):
    """What was asked for cannot be done. The message says why, and what to do."""

    def __init__(self, message: str, code: int = exit_codes.REFUSED) -> None:
        super().__init__(message)
        self.code = code


def explain(error: Exception) -> tuple[str, int]:
    """(one sentence, exit status). The sentence may hold anybody's words.

    An unexpected error is named by its class, with how to see its traceback.
    """
    for kind in type(error).__mro__:
        teller = EXPECTED.get(f"{kind.__module__}.{kind.__qualname__}")
        if teller is not None:
            notes = getattr(error, "__notes__", ())  # which job holds what was accepted, for instance
            return _one_line(" ".join([teller(error), *notes])), _code(error)
    sentence = f"unexpected {type(error).__name__}: {error} (TWINVEC_DEBUG=1 shows the traceback)"
    return _one_line(sentence), exit_codes.REFUSED


def _code(error: Exception) -> int:
    if isinstance(code := getattr(error, "code", None), int):  # SQLAlchemy's errors have one that is a word
        return code
    names = {kind.__name__ for kind in type(error).__mro__}
    return exit_codes.NO_ANSWER if names & {"BrokerUnavailable", "NoAnswer"} else exit_codes.REFUSED


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _silence(error: Any) -> str:
    return f"{error} Start one with `twinvec up`, or set TWINVEC_BROKER_URL."


def _setting(error: Any) -> str:
    return wrong_settings(error)[0]


def wrong_settings(error: Any) -> list[str]:
    """A sentence for each setting that pydantic refused."""
    return [_wrong_setting(each) for each in error.errors()]


def _wrong_setting(refused: Any) -> str:
    name = "TWINVEC_" + "_".join(str(part) for part in refused["loc"]).upper()
    shown = "" if name.endswith("_URL") else f"={refused['input']}"  # URLs hold passwords
    return f"{name}{shown}: {refused['msg'].removeprefix('Value error, ')}"


def _database(error: Any) -> str:
    """The driver's first line; SQLAlchemy adds the statement and a link below it."""
    cause = getattr(error, "orig", None) or error
    if type(cause).__name__ == "UndefinedTable":
        return "the database has no Twinvec tables yet: run `twinvec migrate`"
    if "unsupported startup parameter" in str(cause):
        return "a pooler refused the connection's options: add pooler=transaction to TWINVEC_DATABASE_URL"
    if "no password supplied" in str(cause):
        return "the database wants a password: say it in TWINVEC_DATABASE_URL (PGPASSWORD and ~/.pgpass are not read)"
    return f"the database refused: {(str(cause).strip() or type(cause).__name__).splitlines()[0]}"


def _url(error: Any) -> str:
    return f"TWINVEC_DATABASE_URL is not a database URL: {masked(str(error))}"


EXPECTED: dict[str, Callable[[Any], str]] = {
    "cli.errors.CommandError": str,
    "twinvec_client.errors.NoAnswer": _silence,
    "twinvec_client.errors.BrokerUnavailable": _silence,
    "twinvec_client.errors.TwinvecError": str,
    "local.servers.process.EmbeddedError": str,
    "local.errors.StackError": str,
    "worker.preflight.StartRefused": str,
    "worker.runfile.RunFileError": str,
    "worker.settings.NoDatabase": str,
    "worker.settings.OpenBroker": str,
    "training.errors.DataError": str,
    "training.errors.PictureError": str,
    "training.errors.TowerError": str,
    "db.errors.LedgerError": str,
    "pydantic_core._pydantic_core.ValidationError": _setting,
    "sqlalchemy.exc.ArgumentError": _url,
    "sqlalchemy.exc.SQLAlchemyError": _database,
    "psycopg.Error": _database,
}
