"""`twinvec help`: the commands of a topic, or all of them.

It must not load any: where a command is named, `cli.calling` calls that command's own help instead.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli.display.console import print_json
from cli.display.topics import show_first_look, show_statuses, show_topics
from cli.errors import CommandError
from cli.exit_codes import USAGE
from cli.options import Json
from cli.topics import TOPICS


def help(
    about: Annotated[str | None, typer.Argument(metavar="[TOPIC|COMMAND]", help="What to show.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every command, with what it does.")] = False,
    json: Json = False,
) -> None:
    """List the commands of a topic, or show one.

    A topic lists its commands with what each does; the name of a command shows that command's own help.

    \b
    Example:
      twinvec help towers
      twinvec help nearest
      twinvec help --all
    """
    if about is not None and about not in TOPICS:
        raise CommandError(f"there is no topic or command {about}; the topics are {', '.join(TOPICS)}", USAGE)
    topics = [about] if about is not None else list(TOPICS)
    if json:
        print_json({topic: {name: says for name, (_, says) in TOPICS[topic].items()} for topic in topics})
    elif about is None and not everything:
        show_first_look()
    else:
        show_topics(topics)
        if everything:
            show_statuses()
