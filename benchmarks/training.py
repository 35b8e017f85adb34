"""What our recipes cost and give, beside the notebook as it was written: each in a process of its own, one at a time.

Seconds run from before the first import to the trained tower; the evaluation is not counted. CPU seconds are the
process's own, user and system, of all its threads. Every run is appended to a file of JSON lines as soon as it ends, so
that an interrupted benchmark goes on where it was, and the table is made of all that is there.

    python benchmarks/training.py --seeds 3 --recipes notebook-plain,quick,default,conv,best --backend tensorflow
    python benchmarks/training.py --backend jax --python /path/to/an/environment/with/jax/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import machine  # noqa: E402  # run as a script, from any folder
from training.data import mnist  # noqa: E402
from training.fit.evaluation import MEASURES  # noqa: E402
from training.recipes import RECIPES  # noqa: E402

PLAIN = "notebook-plain"  # as it was written; `notebook` is our own version of it
RUNS = ROOT / "benchmarks" / "runs"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- training -->", "<!-- training: end -->"

Run = dict[str, Any]


def main() -> None:
    """Run what is requested and not recorded yet, then write the table."""
    wanted = arguments()
    results: Path = wanted.results
    results.parent.mkdir(parents=True, exist_ok=True)
    data = results.parent / "mnist.npz"
    if not data.exists():
        digits = mnist.load()
        np.savez(data, **{theirs: getattr(digits, ours) for ours, theirs in mnist.NPZ_NAMES.items()})
    done = {(run["recipe"], run["backend"], run["seed"]) for run in read(results)}
    for seed in range(wanted.seeds):
        for recipe in wanted.recipes.split(","):
            if (recipe, wanted.backend, seed) not in done:
                append(results, measure(recipe, seed, wanted.backend, wanted.python, data))
    runs = read(results)
    table = "\n".join([*lines(runs), "", circumstances(runs)])
    print(table)
    if not wanted.no_page:
        write_page(table)


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", default=",".join([PLAIN, *RECIPES]))
    parser.add_argument("--backend", default="tensorflow", choices=["tensorflow", "jax", "torch"])
    parser.add_argument("--python", default=sys.executable, help="the interpreter whose environment has the backend")
    parser.add_argument("--results", type=Path, default=ROOT / ".twinvec" / "benchmarks" / "training.jsonl")
    parser.add_argument("--no-page", action="store_true", help="print the table only")
    return parser.parse_args()


def measure(recipe: str, seed: int, backend: str, python: str, data: Path) -> Run:
    """One training, alone in its process. Raises CalledProcessError."""
    script = [str(RUNS / "notebook.py")] if recipe == PLAIN else [str(RUNS / "recipe.py")]
    command = [python, *script, str(data), str(seed), *([] if recipe == PLAIN else [recipe])]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    load = os.getloadavg()[0]
    print(f"{recipe}, seed {seed}, {backend}", end=" ", flush=True)
    finished = subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"failed:\n{finished.stderr}")
    run: Run = {"recipe": recipe, "seed": seed, "load": load, **json.loads(finished.stdout.splitlines()[-1])}
    print(f"{run['wall']:.1f} s, {run['cpu']:.1f} s of CPU, 1-NN {run['metrics']['nearest_1']:.4f}", flush=True)
    return run


def read(results: Path) -> list[Run]:
    """Every run that was recorded."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def append(results: Path, run: Run) -> None:
    """Record a run. What is large and not shown is left out."""
    kept = {name: value for name, value in run["metrics"].items() if not isinstance(value, dict)}
    with results.open("a") as file:
        file.write(json.dumps(run | {"metrics": kept}) + "\n")


def lines(runs: list[Run]) -> Iterator[str]:
    """A Markdown table: the mean over seeds, and from lowest to highest where there are several."""
    heads = [
        "recipe",
        "backend",
        "seeds",
        "wall s",
        "CPU s",
        "CPU, notebook = 1",
        *(title.short for title in MEASURES.values()),
    ]
    yield f"| {' | '.join(heads)} |"
    yield f"| --- | --- | {' | '.join(['---:'] * (len(heads) - 2))} |"
    plain = [run["cpu"] for run in runs if (run["recipe"], run["backend"]) == (PLAIN, "tensorflow")]
    names = [PLAIN, *RECIPES]
    for backend in ("tensorflow", "jax", "torch"):
        for recipe in names:
            some = [run for run in runs if (run["recipe"], run["backend"]) == (recipe, backend)]
            if not some:
                continue
            cpu = [run["cpu"] for run in some]
            ratio = f"{statistics.mean(cpu) / statistics.mean(plain):.3f}" if plain else ""
            cells = [recipe, backend, str(len(some)), spread([run["wall"] for run in some], 1), spread(cpu, 1), ratio]
            cells += [spread([run["metrics"][name] for run in some], 4) for name in MEASURES]
            yield f"| {' | '.join(cells)} |"


def circumstances(runs: list[Run]) -> str:
    """Where this ran, and how busy it was."""
    loads = [run["load"] for run in runs]
    return (
        f"{machine.described()}. The load average before a run was "
        f"{min(loads):.1f} to {max(loads):.1f}: above 0, other work took its share of the wall clock."
    )


def spread(values: list[float], places: int) -> str:
    """`mean (lowest to highest)`; of one value, itself."""
    mean = f"{statistics.mean(values):.{places}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{places}f} to {max(values):.{places}f})"


def write_page(table: str) -> None:
    """Put the table between its marks. Raises ValueError where the page lacks them."""
    page = PAGE.read_text()
    before, rest = page[: page.index(BEGIN)], page[page.index(END) :]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{rest}")


if __name__ == "__main__":
    main()
