"""The same tower file on every available backend: how fast it embeds, and how well the vectors agree.

Each backend runs alone in a process of its own. Those of this environment are taken; others may be named by an
interpreter whose environment has them, beside keras, numpy and psutil:

    python -m venv /tmp/with-jax && /tmp/with-jax/bin/pip install jax keras numpy psutil
    python benchmarks/backends.py --also jax=/tmp/with-jax/bin/python --also torch=/tmp/with-torch/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import machine  # noqa: E402  # run as a script, from any folder
from training.data import mnist  # noqa: E402

BACKENDS = ("tensorflow", "jax", "torch")
COUNTS = (1, 256, 1024, 2048, 4096)  # images a call, as `runs/backend.py` has them
LIMIT = 1e-5  # of the largest difference in any of the 128 numbers

Run = dict[str, Any]


def main() -> None:
    """Run each backend, print the tables, and fail where vectors do not agree."""
    wanted = arguments()
    interpreters = {name: sys.executable for name in BACKENDS if find_spec(name)} | dict(wanted.also)
    with tempfile.TemporaryDirectory() as folder:
        data = mnist.load()
        glyphs = np.concatenate([data.train_images, data.test_images]).reshape(-1, 784)
        np.save(Path(folder, "glyphs.npy"), glyphs)
        tower = wanted.tower or train_quick(Path(folder))
        runs = {
            name: measure(name, interpreters[name], tower, Path(folder)) for name in BACKENDS if name in interpreters
        }
        apart = differences({name: np.load(Path(folder, f"{name}.npy")) for name in runs})
    print("\n".join([*rates(runs), "", *agreement(runs, apart), "", circumstances(runs)]))
    if max(apart.values()) > LIMIT:
        sys.exit(f"the vectors of two backends differ by {max(apart.values()):.1e}: more than {LIMIT:g}")


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--also", action="append", default=[], metavar="BACKEND=PYTHON", type=named)
    parser.add_argument("--tower", type=Path, help="a dense tower's `.keras` file; else the recipe `quick` is trained")
    return parser.parse_args()


def named(text: str) -> tuple[str, str]:
    """`jax=/path/to/python` as a pair."""
    name, _, python = text.partition("=")
    if name not in BACKENDS or not Path(python).exists():
        raise argparse.ArgumentTypeError(f"{text!r}: expected one of {', '.join(BACKENDS)}, `=`, and an interpreter")
    return name, python


def train_quick(folder: Path) -> Path:
    """A tower by the recipe `quick`, trained here."""
    code = (
        "import sys; from pathlib import Path; from training.data import mnist; "
        "from training.fit.train import train; from training.recipes import RECIPES; "
        "Path(sys.argv[1]).write_bytes(train(RECIPES['quick'], mnist.load(), seed=0).file)"
    )
    path = folder / "tower.keras"
    subprocess.run([sys.executable, "-c", code, str(path)], env=environment("tensorflow"), check=True)
    return path


def measure(backend: str, python: str, tower: Path, folder: Path) -> Run:
    """One backend, alone in its process."""
    script = ROOT / "benchmarks" / "runs" / "backend.py"
    command = [python, str(script), str(tower), str(folder / "glyphs.npy"), str(folder / f"{backend}.npy")]
    print(f"{backend} ...", file=sys.stderr, flush=True)
    finished = subprocess.run(command, env=environment(backend), capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"{backend} failed:\n{finished.stderr}")
    run: Run = json.loads(finished.stdout.splitlines()[-1])
    return run


def environment(backend: str) -> dict[str, str]:
    """For a process of this backend."""
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}


def differences(vectors: dict[str, Any]) -> dict[tuple[str, str], float]:
    """The largest difference in any number of any vector, of every two backends."""
    names = list(vectors)
    pairs = [(one, other) for at, one in enumerate(names) for other in names[at:]]
    return {(one, other): float(np.abs(vectors[one] - vectors[other]).max()) for one, other in pairs}


def rates(runs: dict[str, Run]) -> Iterator[str]:
    """Images a second, by backend, way and images a call."""
    yield f"| backend | way | {' | '.join(f'{count:,}' for count in COUNTS)} |"
    yield f"| --- | --- | {' | '.join(['---:'] * len(COUNTS))} |"
    for name, run in runs.items():
        for way, found in run["rates"].items():
            yield f"| {name} | {way} | {' | '.join(f'{rate:,.0f}' for rate in found)} |"


def agreement(runs: dict[str, Run], apart: dict[tuple[str, str], float]) -> Iterator[str]:
    """How each backend gets ready, how it keeps its memory, and how far its vectors are from the others'."""
    yield f"| backend | version | device | ready in s | grown by MB in 1,000 calls | {' | '.join(runs)} |"
    yield f"| --- | --- | --- | ---: | ---: | {' | '.join(['---:'] * len(runs))} |"
    for name, run in runs.items():
        device = ", ".join(run["gpus"]) or "CPU"
        distances = [apart.get((name, other), apart.get((other, name), 0.0)) for other in runs]
        cells = [name, run["version"], device, f"{run['warm_up']:.2f}", f"{run['grown']:.1f}"]
        yield f"| {' | '.join(cells + [f'{distance:.1e}' if distance else '0' for distance in distances])} |"


def circumstances(runs: dict[str, Run]) -> str:
    """Where this ran, and how busy it was."""
    loads = [run["load"] for run in runs.values()]
    return (
        f"{machine.described()}. The load average at the end of a run "
        f"was {min(loads):.1f} to {max(loads):.1f}; its own share is up to {os.cpu_count()}."
    )


if __name__ == "__main__":
    main()
