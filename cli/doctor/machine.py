"""Checks of this machine: Python, packages, disk, and the backend with its devices."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from cli.doctor.finding import OK, PROBLEM, WARNING, Finding, findings
from worker.preflight import existing, home_faults

BACKEND_TIMEOUT = 120  # seconds for the backend to load


class Backend:
    """The backend and its devices, asked in a process of its own: loading it takes seconds, and it may crash."""

    def __init__(self) -> None:
        self._asked = subprocess.Popen(
            [sys.executable, "-P", "-m", "training.model.devices"],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def findings(self) -> Iterator[Finding]:
        """Wait for its answer."""
        try:
            answer, errors = self._asked.communicate(timeout=BACKEND_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._asked.kill()
            self._asked.communicate()
            yield Finding(
                "backend", PROBLEM, f"did not load within {BACKEND_TIMEOUT} s", "look at the load of this machine"
            )
            return
        if self._asked.returncode:
            said = (errors.strip().splitlines() or [f"status {self._asked.returncode}"])[-1]
            advice = "set KERAS_BACKEND to tensorflow, jax or torch, and install that"
            yield Finding("backend", PROBLEM, f"does not load: {said}", advice)
            return
        told = json.loads(answer)
        yield Finding("backend", OK, f"{told['backend']} {told['version']}")
        yield device(told)


def device(told: dict[str, Any], *, driver: bool | None = None) -> Finding:
    """What is computed on, as `training.model.devices` tells it. driver: whether there is one for an NVIDIA GPU."""
    if driver is None:
        driver = Path("/proc/driver/nvidia/version").exists()
    if told["gpus"]:
        names = ", ".join(told["gpus"])
        if told["shares_gpu"]:
            return Finding("device", OK, f"{names}; its memory is taken as it is needed")
        advice = "unset TF_FORCE_GPU_ALLOW_GROWTH and XLA_PYTHON_CLIENT_PREALLOCATE: several workers share the GPU"
        return Finding("device", WARNING, f"{names}; the first process takes all its memory", advice)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if driver:
        advice = "install what it wants for CUDA: for tensorflow, requirements/gpu.txt"
        return Finding("device", WARNING, f"{cores} CPU cores; there is an NVIDIA driver, no GPU is seen", advice)
    return Finding("device", OK, f"{cores} CPU cores, no GPU")


def python() -> Finding:
    return Finding("python", OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def packages(wanted: Iterable[str] | None = None) -> Iterator[Finding]:
    """Whether what is installed is recent enough. wanted: as pyproject.toml has them; Twinvec's own if None."""
    advice = "install again: `make env`"
    wrong = False
    for line in requires("twinvec") or [] if wanted is None else wanted:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong = True
            yield Finding("packages", PROBLEM, f"{requirement.name} is not installed", advice)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong = True
            yield Finding("packages", PROBLEM, f"{requirement.name} {found}: needed is {requirement}", advice)
    if not wrong:
        shown = ", ".join(f"{name} {version(name)}" for name in ("twinvec", "keras", "pillow", "celery"))
        yield Finding("packages", OK, shown)


def home(folder: Path, *, free: float | None = None) -> Iterator[Finding]:
    """Whether servers can keep their data there. free: bytes; looked up if None."""
    found = list(findings("home", home_faults(folder, free=free)))
    if not found:
        free = shutil.disk_usage(existing(folder)).free if free is None else free
        found = [Finding("home", OK, f"{free / 1e9:,.1f} GB free in {folder}")]
    yield from found
