"""Corrupt files of 24 kinds among good ones: each is a failure with its reason, and costs nothing else."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from tests.chaos.corrupt import KINDS, corrupt_files
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import extra_work, judge
from tests.chaos.result import Result

LONG: dict[str, Any] = {"good": 10_000, "bad": 1_000}
SHORT: dict[str, Any] = {"good": 960, "bad": 96}

GROWTH = 50 * 2**20  # bytes that the process which decodes may grow by, at any moment
CHUNK = 256  # pictures
CREW = {"front": "query,control,express", "intake": "intake", "embedder": "embed,backfill", "beat": ""}
SAMPLE = Path(__file__).parents[1] / "data" / "mnist-sample.npz"


def run(*, good: int, bad: int) -> Result:
    result = Result(case=7, name="corrupt files among good ones", faults=f"{bad:,} files of {len(KINDS)} kinds")
    pictures, sent, reasons = mixture(good, bad)
    warm = {key: picture for key, picture in list(pictures.items())[:CHUNK] if key in sent}
    with Fleet(CREW) as fleet:
        fleet.ledger.settled(fleet.application.embed(warm, collection="warm", chunk=CHUNK))
        before = {name: [process.pid for process in member.pool()] for name, member in fleet.members.items()}
        (decoder,) = fleet.members["intake"].pool()
        forget_peak(decoder)
        start = decoder.memory_info().rss
        job = fleet.application.embed(pictures, chunk=CHUNK)
        fleet.ledger.settled(job)
        after = {name: [process.pid for process in member.pool()] for name, member in fleet.members.items()}
        growth = (peak(decoder) if after == before else 0) - start
        verdict = judge(fleet, sent, failing=reasons)
        verdict.write(result)
        result.images = len(pictures)
        result.extra_work = extra_work(fleet)
        found = {failure.key: failure.reason for failure in fleet.application.failures(job)}
        deaths = sum(member.starts - 1 for member in fleet.members.values())
    result.require(found == reasons, "the client lists other failures than it should")
    result.require(verdict.embedded == good, f"{verdict.embedded} vectors of {good}")
    result.require(not deaths and after == before, f"{deaths} workers died; pool processes {before} became {after}")
    result.require(growth < GROWTH, f"intake grew by {growth / 2**20:.0f} MB")
    result.note = f"no process died; intake grew by {growth / 2**20:.0f} MB at its peak"
    return result


def mixture(good: int, bad: int) -> tuple[dict[str, bytes], dict[str, bytes], dict[str, str]]:
    """Files by key, shuffled; of the good ones the SHA-256 of their pixels, of the bad ones the expected reason."""
    with np.load(SAMPLE) as sample:
        digits = np.concatenate([sample["x_train"], sample["x_test"]])
    files: dict[str, bytes] = {}
    sent: dict[str, bytes] = {}
    reasons: dict[str, str] = {}
    for at in range(good):
        glyph = digits[at % len(digits)]
        png = io.BytesIO()
        Image.fromarray(glyph).save(png, "PNG")
        files[f"good/{at:05}"] = png.getvalue()
        sent[f"good/{at:05}"] = hashlib.sha256(glyph.tobytes()).digest()
    for at, (kind, file, reason) in enumerate(corrupt_files(bad)):
        files[f"{kind}/{at:04}"] = file
        reasons[f"{kind}/{at:04}"] = reason
    keys = list(files)
    np.random.default_rng(7).shuffle(keys)
    return {key: files[key] for key in keys}, sent, reasons


def forget_peak(process: psutil.Process) -> None:
    """Have the kernel count a process's largest size anew."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak(process: psutil.Process) -> int:
    """The largest size in memory that a process had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
