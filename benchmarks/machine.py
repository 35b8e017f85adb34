"""What a benchmark ran on, in a line. It needs nothing that an environment of one backend alone would lack."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def described() -> str:
    """`2 cores (a processor's name), Python 3.11.7`."""
    cpu = Path("/proc/cpuinfo")
    models = [line for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}"
