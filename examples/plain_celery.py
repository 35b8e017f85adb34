"""A Celery application that calls Twinvec by name, in plain JSON: it needs celery[redis], and no package of ours.

    celery -A plain_celery worker --queues shop     # its own worker, for what comes after a look-up
    python plain_celery.py 3.png 7.png              # embeds the files, and looks each of them up

Both read SHOP_BROKER_URL: broker and result backend are the broker of Twinvec's workers.
"""

from __future__ import annotations

import os
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

from celery import Celery, chain, chord, group

URL = os.environ.get("SHOP_BROKER_URL", "redis://localhost:6379/0")
COLLECTION = "plain"

shop = Celery("shop", broker=URL, backend=URL)
shop.conf.task_default_queue = "shop"


@shop.task(name="shop.name_neighbour")
def name_neighbour(found: dict[str, Any]) -> str:
    """Of a look-up that this follows in a chain."""
    return str(found["answers"][0]["neighbours"][0]["key"])


@shop.task(name="shop.gather")
def gather(found: list[dict[str, Any]]) -> list[str]:
    """Of all look-ups of a chord."""
    return [name_neighbour(each) for each in found]


@shop.task(name="shop.embedded")
def embedded(status: dict[str, Any]) -> None:
    """Called by Twinvec when the last picture is accounted for."""
    print(f"job {status['id']} is {status['state']}", flush=True)


def ours(task: Any) -> Any:
    """A signature of a task of this application. Twinvec's workers send it, and know no queue that it does not name."""
    return task.s().set(queue="shop")


def embed(paths: list[Path], **options: Any) -> Any:
    """A signature. Without a label, attributes or options a picture is its key and its bytes."""
    pictures = [{"key": path.name, "picture": b64encode(path.read_bytes()).decode()} for path in paths]
    fields = {"pictures": pictures, "collection": COLLECTION, **options}
    return shop.signature("twinvec.embed", kwargs=fields, queue="twinvec:intake")


def nearest(path: Path, **options: Any) -> Any:
    """A signature."""
    queries = [{"picture": b64encode(path.read_bytes()).decode()}]
    fields = {"queries": queries, "collection": COLLECTION, **options}
    return shop.signature("twinvec.nearest", kwargs=fields, queue="twinvec:query")


def ask(name: str, lane: str, **fields: Any) -> Any:
    """What a task of Twinvec answers. A refusal is raised, as an exception of the refusal's name."""
    return shop.send_task(name, kwargs=fields, queue=f"twinvec:{lane}").get(timeout=30)


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]]
    callback = {"task": "shop.embedded", "queue": "shop"}
    job = embed(paths, id="scans of today", on_finish=callback).apply_async().get(timeout=60)
    again = embed(paths, id="scans of today", on_finish=callback).apply_async().get(timeout=60)
    print("sent twice, one job:", job["id"] == again["id"])
    while (status := ask("twinvec.status", "control", job=job["id"]))["state"] in ("receiving", "queued", "running"):
        time.sleep(0.1)
    print(f"{status['state']}: {status['succeeded']} embedded, {status['failed']} failed")
    print("chain: ", chain(nearest(paths[0]), ours(name_neighbour)).apply_async().get(timeout=60))
    print("group: ", gather(group(nearest(path) for path in paths).apply_async().get(timeout=60)))
    print("chord: ", chord([nearest(path) for path in paths], ours(gather)).apply_async().get(timeout=60))
    try:
        ask("twinvec.nearest", "query", queries=[{"key": "never sent"}])
    except Exception as error:
        print(f"refused: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
