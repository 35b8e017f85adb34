"""The users and roles of docs/security.md, as the page has them."""

import re
import shlex
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def acl_commands() -> list[list[str]]:
    """Each `ACL SETUSER ...` of the page, as its words."""
    lines = PAGE.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("valkey-cli ACL ")]


def statements(block: str) -> list[str]:
    """The SQL of the block that the page calls `block`, one by one."""
    found = re.search(rf"<!-- sql: {block} -->\n\n```sql\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, f"docs/security.md has no SQL block {block}"
    return [statement.strip() for statement in found[1].split(";") if statement.strip()]
