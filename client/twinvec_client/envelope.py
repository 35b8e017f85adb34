"""A message as it stands on its lane: a Celery task message, as kombu writes it for Redis.

Celery makes the same, with much that a message of ours never has: exchanges, chains, countdowns, retries. It must not
know how it gets there.
"""

from __future__ import annotations

import json
import uuid
from base64 import b64encode
from typing import Any

import msgpack

from twinvec_client.contract.broker import SERIALIZER
from twinvec_client.contract.messages import Message


def envelope(message: Message, id: str, lane: str, *, answered: bool, said: dict[str, Any]) -> str:
    """answered: whether its answer is wanted. said: headers of ours."""
    body = msgpack.packb([[], message.write(), {}])
    headers = {"lang": "py", "task": message.task, "id": id, "root_id": id, "ignore_result": not answered, **said}
    properties = {
        "correlation_id": id,
        "delivery_tag": str(uuid.uuid4()),
        "delivery_info": {"exchange": "", "routing_key": lane},
        "delivery_mode": 2,
        "priority": 0,
        "body_encoding": "base64",
    }
    return json.dumps(
        {
            "body": b64encode(body).decode(),
            "content-type": f"application/x-{SERIALIZER}",
            "content-encoding": "binary",
            "headers": headers,
            "properties": properties,
        }
    )
