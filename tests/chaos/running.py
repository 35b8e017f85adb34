"""Finds the cases, and runs one."""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.chaos.result import Result

SPINNER = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"


def modules() -> dict[int, ModuleType]:
    """Every case by its number."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("case_*.py"))
    return {int(name.split("_")[1]): importlib.import_module(f"tests.chaos.{name}") for name in names}


def end_with_parent() -> None:
    """Interrupt this process when the process that started it is gone: its case then ends all that it has started."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def busy() -> Iterator[None]:
    """Keep one core busy meanwhile, as other work on the machine does."""
    with subprocess.Popen([sys.executable, "-c", SPINNER]) as spinner:
        try:
            yield
        finally:
            spinner.kill()


def run(number: int, *, short: bool, beside: bool = False) -> Result:
    """A case's result; what it raises is a fault that it found. beside: whether a core is kept busy meanwhile."""
    start = time.monotonic()
    case: Any = modules()[number]
    try:
        with busy() if beside else nullcontext():
            result: Result = case.run(**(case.SHORT if short else case.LONG))
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)  # a pool would go on with the next case
    except Exception as error:
        traceback.print_exc()
        problem = " ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
        result = Result(case=number, name=case.__name__.rpartition(".")[2], faults="", problems=[problem])
    result.seconds = time.monotonic() - start
    return result
