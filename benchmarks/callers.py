"""Three applications call one installation, each from an environment that has only what it needs: one page.

    python -m benchmarks.callers --broker redis://localhost:6379/0     # of an installation with a tower

A Celery application calls inside its tasks with the client; another has `celery[redis]` alone and sends plain JSON; the
third is asyncio's. Seconds are of the calls, from Python's start on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environments import closure, environment
from cli.demo import strokes

EXAMPLES = Path(__file__).parents[1] / "examples"

IN_A_TASK = '''
"""A Celery application whose tasks call Twinvec."""
import os
from pathlib import Path
from celery import Celery
from twinvec_client import Twinvec

URL = os.environ["SHOP_BROKER_URL"]
shop = Celery("shop", broker=URL, backend=URL)
shop.conf.task_default_queue = "in-a-task"
tv = Twinvec(URL)


@shop.task(name="shop.embed")
def embed(names):
    outcome = tv.embed({Path(name).name: name for name in names}, collection="in-a-task").wait(timeout=60)
    return f"in a task: {outcome.state}, {outcome.succeeded + outcome.unchanged} stored"


@shop.task(name="shop.nearest")
def nearest(name):
    return "in a task: nearest " + tv.nearest(name, k=1, collection="in-a-task")[0].key


if __name__ == "__main__":
    import sys
    print(embed.delay(sys.argv[1:]).get(timeout=90))
    print(nearest.delay(sys.argv[1]).get(timeout=30))
'''

ASYNC = '''
"""An asyncio program."""
import asyncio, os, sys
from pathlib import Path
from twinvec_client import AsyncTwinvec


async def main():
    async with AsyncTwinvec(os.environ["SHOP_BROKER_URL"]) as tv:
        job = await tv.embed({Path(name).name: name for name in sys.argv[1:]}, collection="async")
        states = [status.state async for status in job.follow()]
        print("followed until:", states[-1])
        answers = await asyncio.gather(*(tv.nearest(name, k=1, collection="async") for name in sys.argv[1:]))
        print("at the same time:", [answer[0].key for answer in answers])


asyncio.run(main())
'''


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", default=os.environ.get("TWINVEC_BROKER_URL", "redis://localhost:6379/0"))
    url = parser.parse_args().broker
    with tempfile.TemporaryDirectory(prefix="twinvec-callers-") as folder:
        pictures = _pictures(Path(folder))
        (Path(folder) / "in_a_task.py").write_text(IN_A_TASK)
        (Path(folder) / "use_asyncio.py").write_text(ASYNC)
        place = Path(folder)
        call("Celery, with the client", "twinvec-client", place, place / "in_a_task.py", url, pictures, "in-a-task")
        call("Celery alone, plain JSON", "celery[redis]", place, EXAMPLES / "plain_celery.py", url, pictures, "shop")
        call("asyncio, with the client", "twinvec-client", place, place / "use_asyncio.py", url, pictures, None)


def call(title: str, needs: str, folder: Path, program: Path, url: str, pictures: list[str], queue: str | None) -> None:
    """Run a program in an environment of its own, beside a worker of its own where it has a queue."""
    python = environment(folder / program.stem, needs)
    variables = {"PATH": os.environ["PATH"], "SHOP_BROKER_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}
    print(f"{title}: {needs}, {len(closure((needs,)))} distributions in all", flush=True)
    with worker(python, program, variables, queue):
        start = time.perf_counter()
        ran = subprocess.run(
            [python, program, *pictures], env=variables, capture_output=True, text=True, timeout=180, check=False
        )
        seconds = time.perf_counter() - start
    for line in (ran.stdout + ran.stderr[-2000:]).splitlines():
        print(f"    {line}")
    print(f"    exit {ran.returncode} after {seconds:.1f} s\n", flush=True)


@contextmanager
def worker(python: Path, program: Path, variables: dict[str, str], queue: str | None) -> Iterator[None]:
    """A Celery worker of the program's own, in processes that are forked."""
    if queue is None:
        yield
        return
    words = ["-m", "celery", "-A", program.stem, "worker", "--queues", queue, "--concurrency", "2", "-l", "INFO"]
    log = python.parents[1] / "worker.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [str(python), *words], cwd=program.parent, env=variables, stdout=written, stderr=written
        )
    try:
        deadline = time.monotonic() + 120
        while " ready." not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the worker of {program.name} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _pictures(folder: Path) -> list[str]:
    names = [folder / "3.png", folder / "7.png"]
    for name in names:
        name.write_bytes(strokes.png(int(name.stem)))
    return [*map(str, names)]


if __name__ == "__main__":
    main()
