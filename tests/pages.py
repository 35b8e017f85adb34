"""The commands, the Python and the expected output of every page, and the one list of what is not run, with reasons."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "client/README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SHELLS = {"sh", "bash", "console"}
NOT_COMMANDS = {  # what a block may hold beside commands and Python: none of it is run
    "text": "output or a drawing",
    "sql": "run by tests/security from the page",
    "yaml": "read by its parser",
    "json": "read by its parser",
    "ini": "a part of a configuration",
    "promql": "asked of a real Prometheus elsewhere",
}

# how a command begins, as a regular expression -> why no test runs it from its page
NOT_RUN = {
    r"make \w+": "installs, or runs for minutes; CI runs `make test`, and tests/test_docs.py checks that it exists",
    r"\. \.venv/bin/activate": "the tests' own environment is active",
    r"(\.venv/bin/)?pip install": "installs from a package registry",
    r"pre-commit ": "changes the checkout's hooks",
    r"docker compose ": "needs a container engine",
    r"valkey-cli ": "tests/security runs it from the page",
    r"python -m (benchmarks|tests)\.": "takes minutes to hours",
    r"export TWINVEC_(BROKER|DATABASE)_URL=": "the servers are examples",
    r"twinvec (demo|up|down)\b": "starts or stops the stack that these tests share; tests/cli and tests/stack run it",
    r"twinvec (worker|beat)\b": "runs until it is stopped; every stack runs it",
    r"twinvec (web|top)\b": "runs until it is stopped; tests of its own start it",
    r"twinvec migrate": "the shared stack is migrated; tests/db runs it",
    r"twinvec judge *(#|$)": "asks a person; tests/stack/test_review.py answers it",
    r"twinvec (re)?train\b": "another tower would take the place of the shared one; tests/stack runs it",
    r"twinvec doctor\b": "loads all that it checks; tests/stack/test_doctor.py runs it",
    r"twinvec report\b": "draws for ten seconds; tests/training and tests/stack run it",
    r"twinvec export \S+\.parquet": "another test of the command has pyarrow",
}
# the same, of single pages, commands and Python
NOT_RUN_THERE = {
    "docs/page.md": {
        r"export TWINVEC_WEB_TOKEN=": "is for the command that follows",
    },
    "docs/steering.md": {
        r"twinvec pause [0-9a-f]{8}": "the job is an example",
        r"twinvec drain\b": "holds back the work of all tests that share the stack; tests/stack runs it",
        r"tv\.pause\(": "parts of an application, each run by the tests of the client",
    },
    "docs/watching.md": {
        r"TWINVEC_HTTP_PORT=\d+ twinvec |curl ": "the port is an example; tests/stack/test_watching.py asks a stack's",
        r"prometheus ": "runs until it is stopped; tests/stack/test_watching.py runs it",
        r"celery -A worker": "runs until it is stopped; a test reads the events that it shows",
    },
    "docs/deploying.md": {
        r"sh deploy/compose/|export COMPOSE=|for step in |apt install ": "needs a container engine",
        r"kubectl ": "needs a cluster; tests/deploy reads the manifests by their schema",
        r"useradd |vi |systemctl |twinvec units /etc": "changes the machine; tests/deploy runs `twinvec units`",
    },
    "docs/backup.md": {r"pg_dump |pg_restore |createdb ": "PostgreSQL's own programs; the tests of backups run them"},
}
# how a block of Python begins -> why no test runs it from its page
PYTHON_NOT_RUN = {
    r"# \S+\.py\n": "quotes a file; tests/test_docs.py compares it",
    r"from twinvec_client import Twinvec\n\ntv = Twinvec\(\)\nfor name": "sends 70,000 digits; the tests store less",
    r"from twinvec_client import submit\n": "a part of an application with tables; tests/tasks/test_inbox.py",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. expected: the text block that follows it at once or after a line, or None."""

    page: Path
    line: int
    language: str
    text: str
    expected: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    found = list(re.finditer(r"^```([\w+-]*)[^\n]*\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE))
    for at, block in enumerate(found):
        after = found[at + 1] if at + 1 < len(found) else None
        between = text[block.end() : after.start()] if after else "-"
        expected = after[2] if after and after[1] == "text" and not between.strip() else None
        yield Block(page, text[: block.start()].count("\n") + 1, block[1], block[2], expected)


def commands_of(block: Block) -> list[str]:
    """The commands of a shell block, continued lines joined, without comments and prompts."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def why_not_run(command: str, page: Path) -> str | None:
    return _why(command, page, NOT_RUN)


def why_python_is_not_run(text: str, page: Path) -> str | None:
    return _why(text, page, PYTHON_NOT_RUN)


def _why(text: str, page: Path, starts: dict[str, str]) -> str | None:
    starts = starts | NOT_RUN_THERE.get(str(page.relative_to(ROOT)), {})
    return next((why for start, why in starts.items() if re.match(start, text)), None)


def shape(text: str) -> list[str]:
    """Output without what differs from run to run: numbers, ids, times, which of MNIST's keys, and spaces."""
    text = re.sub(r"[─━]+", "", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{12,64}\b", "ID", text)
    text = re.sub(r"\b(train|test)/\d+", "MNIST", text)
    text = re.sub(r"\d+(?:[.,:]\d+)*(?:e[+-]?\d+)?", "0", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]
