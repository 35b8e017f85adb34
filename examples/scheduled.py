"""A beat schedule in somebody else's Celery application, whose task embeds what is new and is called back at the end.

SHOP_BROKER_URL=redis://localhost:6379/0 celery -A scheduled worker --beat --queues shop
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery

from twinvec_client import Callback, Twinvec

URL = os.environ.get("SHOP_BROKER_URL", "redis://localhost:6379/0")
FOLDER = Path(os.environ.get("SHOP_FOLDER", "scans"))

shop = Celery("shop", broker=URL)
shop.conf.task_default_queue = "shop"
shop.conf.beat_schedule = {
    "embed what is new": {"task": "shop.embed_new", "schedule": float(os.environ.get("SHOP_SECONDS", "600"))}
}
tv = Twinvec(URL)


@shop.task(name="shop.embed_new")
def embed_new() -> None:
    """It waits until the pictures are stored, and not until they are embedded."""
    files = sorted(FOLDER.glob("*.png"))
    tv.embed(((path.name, path) for path in files), collection="shop", on_finish=Callback("shop.embedded", "shop"))


@shop.task(name="shop.embedded")
def embedded(status: dict[str, Any]) -> None:
    """Called by Twinvec's workers, at least once: know a job by its id."""
    print(f"job {status['id']}: {status['succeeded']} embedded, {status['unchanged']} unchanged", flush=True)
    for failure in tv.job(status["id"]).failures() if status["failed"] else ():
        print(f"{failure.key}: {failure.reason}", flush=True)
