"""An application of its own that sends digits under an idempotency key: `python -m tests.chaos.sender URL KEY ...`."""

import subprocess
import sys
from collections.abc import Sequence

from tests.chaos.pictures import noise
from twinvec_client import Twinvec


def start(
    url: str, key: str, count: int, chunk: int, collection: str, *, before: Sequence[str] = ()
) -> "subprocess.Popen[bytes]":
    """Start one; it ends with status 0 once all is accepted. before: words that start it on another host."""
    command = [*before, sys.executable, "-m", "tests.chaos.sender", url, key, str(count), str(chunk), collection]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def main(url: str, key: str, count: str, chunk: str, collection: str) -> None:
    """Send `noise(count)`, in chunks of `chunk`."""
    client = Twinvec(url)
    client.resend_after, client.chunk = 3, int(chunk)
    client.embed(noise(int(count)), collection=collection, idempotency_key=key)


if __name__ == "__main__":
    main(*sys.argv[1:])
