"""What MkDocs calls while it builds the site: pages that stand elsewhere or are made of the code, and links to them.

Pages are written to be read in the repository as well, so that their links lead to files; here they lead to pages. It
must fetch nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.main import get_command

from cli.calling import app_for
from cli.topics import AUDIENCES, TOPICS

ROOT = Path(__file__).resolve().parents[2]

# pages of the site that are files elsewhere in the repository: page -> file
ELSEWHERE = {
    "index.md": "README.md",
    "client.md": "client/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "vulnerabilities.md": "SECURITY.md",
}
# files that pages link to, and that the site holds as they are
KEPT = ["LICENSE", *(f"examples/{path.name}" for path in sorted((ROOT / "examples").glob("*.py")))]
COMMANDS = "reference/commands.md"

_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for name in KEPT:  # as text: a browser shows it, and does not offer to save it
        files.append(File.generated(config, f"files/{name}.txt", abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, COMMANDS, content=commands_page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links to files of the repository led to where the site has them."""
    here = ELSEWHERE.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    parts = _CODE.split(markdown)
    parts[::2] = [_LINK.sub(lambda link: _led(link, here, page.file.src_uri), part) for part in parts[::2]]
    return "".join(parts)


def commands_page() -> str:
    """A reference of every command, in Markdown: what it says of itself, and its arguments and options."""
    return "\n".join(_of_commands())


def _led(link: re.Match[str], here: str, page: str) -> str:
    opening, target, anchor, closing = link.groups()
    if re.match(r"[a-z]+:", target):
        return link[0]
    file = os.path.normpath(os.path.join(os.path.dirname(here), target))
    pages = {source: made for made, source in ELSEWHERE.items()} | {name: f"files/{name}.txt" for name in KEPT}
    place = pages.get(file, file.removeprefix("docs/"))
    if file == "examples":  # the folder itself: what is said of it
        place, anchor = "client.md", "#twinvec-client"
    return f"{opening}{os.path.relpath(place, os.path.dirname(page) or '.')}{anchor or ''}{closing}"


def _of_commands() -> Iterator[str]:
    yield "# Commands\n"
    yield "Made of the command itself: `twinvec COMMAND --help` says the same. `twinvec --help` fits a screen, and"
    yield "`twinvec help TOPIC` lists the commands of a topic. The exit status is 0 where all is done, 1 where a"
    yield "command was refused or failed, 2 where it was not understood, 3 where some pictures were not embedded, 4"
    yield "where no broker or no worker answered, and 130 after Ctrl-C.\n"
    for topic, commands in TOPICS.items():
        yield f"## {topic.capitalize()}\n"
        yield f"{AUDIENCES[topic].capitalize()}.\n"
        for name in commands:
            yield f"### twinvec {name}\n"
            yield from _of_command(name)


def _of_command(name: str) -> Iterator[str]:
    command = get_command(app_for([name])).commands[name]  # type: ignore[attr-defined]  # a group has commands
    for part in (command.help or "").split("\n\n"):
        title, _, lines = part.removeprefix("\b\n").partition("\n")
        yield f"{title}\n\n```text\n{_outdented(lines)}\n```\n" if part.startswith("\b") else f"{_escaped(part)}\n"
    rows = [_row(parameter) for parameter in command.params if not parameter.hidden]
    if rows:
        yield "| argument or option | default | what it says |\n| --- | --- | --- |"
        yield "\n".join(rows) + "\n"


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if not names[0].startswith("-"):
        names = [parameter.metavar or parameter.name.upper()]
    elif parameter.metavar:
        names[-1] += f" {parameter.metavar}"
    default = "" if parameter.default in (None, False, ()) or parameter.required else f"`{parameter.default}`"
    if isinstance(parameter.default, bool) and parameter.secondary_opts:
        default = f"`{(parameter.opts if parameter.default else parameter.secondary_opts)[0]}`"
    default = "needed" if parameter.required else default
    return f"| {', '.join(f'`{name}`' for name in names)} | {default} | {_escaped(parameter.help or '')} |".replace(
        "||", "|"
    )


def _escaped(text: str) -> str:
    """Text of a docstring as Markdown: angle brackets and bars are meant."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _outdented(lines: str) -> str:
    return "\n".join(line.removeprefix("  ") for line in lines.splitlines())
