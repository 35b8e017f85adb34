"""Every reason code that a picture can fail with is in the list that callers are given, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

from twinvec_client.contract.reasons import REASONS

ROOT = Path(__file__).parents[2]
ROOMS = ("client/twinvec_client", "db", "tasks", "training")


def nodes() -> Iterator[ast.AST]:
    """The code that could refuse a picture; the list of reasons itself left out."""
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            if file.name != "reasons.py":
                yield from ast.walk(ast.parse(file.read_text()))


def is_code(node: ast.AST) -> TypeGuard[ast.Constant]:
    return (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(re.fullmatch("[a-z_]{3,}", node.value))
    )


def is_sentence(node: ast.AST) -> bool:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) and " " in part.value for part in parts)


def test_the_list_of_reasons_is_what_the_code_gives() -> None:
    said, given = set(), set()
    for node in nodes():
        if is_code(node):
            said.add(node.value)
        parts = node.elts if isinstance(node, ast.Tuple) else node.args if isinstance(node, ast.Call) else []
        if len(parts) == 2 and is_code(parts[0]) and is_sentence(parts[1]):
            given.add(parts[0].value)
    assert given >= {"damaged", "bad_label", "unreadable"}, "refusals are written in another way now"
    assert given <= set(REASONS), "a refusal that the list does not know"
    assert set(REASONS) <= said, "a reason that nothing fails with"


def test_the_page_lists_the_reasons() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", page, re.MULTILINE))
    assert rows == REASONS
