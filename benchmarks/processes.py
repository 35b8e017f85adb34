"""Runs in processes of their own: what they are told, and what they answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.place import Place

ROOT = Path(__file__).resolve().parents[1]
# What TensorFlow and Ray say of their start, whatever level they are set to; nothing of it is an error.
CHATTER = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} [\d:.]+ +\d+ \S+\.cc:\d+\] "
    r"|\[\d{4}-[-\d :,]+ I \d+ \d+\] |\d{4}-[-\d :,]+\t(INFO|WARNING) \S+\.py:\d+ -- "
)


def alone(run: str, *, before: Sequence[str] = (), **told: Any) -> dict[str, Any]:
    """What `benchmarks/runs/<run>.py` tells, run in a process of its own. Ends this process where it fails.

    before: words that start a command elsewhere, on another host for instance.
    """
    command = [*before, sys.executable, "-m", f"benchmarks.runs.{run}", json.dumps(told)]
    with subprocess.Popen(
        command, env=quiet(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        threading.Thread(target=_pass_on, args=(process.stderr,), daemon=True).start()
        try:
            said = process.stdout.read() if process.stdout else ""
        except BaseException:  # a request to end: it would work on
            process.kill()
            raise
    if process.returncode:
        sys.exit(f"{run} failed with status {process.returncode}")
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def _pass_on(lines: Iterable[str]) -> None:
    """Put on stderr what is not CHATTER."""
    for line in lines:
        if not CHATTER.match(line):
            print(line, end="", file=sys.stderr, flush=True)


def told() -> dict[str, Any]:
    """In such a process: what it was told."""
    words: dict[str, Any] = json.loads(sys.argv[1])
    return words | {"place": Place(**words["place"])} if "place" in words else words


def tell(**answer: Any) -> None:
    """In such a process: its answer."""
    print(json.dumps(answer), flush=True)


def quiet() -> dict[str, str]:
    """The environment without Twinvec's settings, where TensorFlow and Ray are silent, and Ray sends no report."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TWINVEC_")}
    silent = {"TF_CPP_MIN_LOG_LEVEL": "3", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_USAGE_STATS_ENABLED": "0"}
    return kept | silent | {"PYTHONPATH": str(ROOT)}
