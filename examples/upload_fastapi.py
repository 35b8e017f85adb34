"""A FastAPI application that embeds a picture when it is uploaded, and shows its nearest neighbours.

TWINVEC_BROKER_URL=redis://localhost:6379/0 uvicorn upload_fastapi:app
curl --data-binary @7.png http://localhost:8000/digits/cheque-17
curl http://localhost:8000/digits/cheque-17/neighbours
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

from twinvec_client import AsyncTwinvec, NotEmbedded, UnknownKey

COLLECTION = "uploads"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncTwinvec(os.environ.get("TWINVEC_BROKER_URL", "redis://localhost:6379/0")) as tv:
        app.state.twinvec = tv
        yield


def twinvec(request: Request) -> AsyncTwinvec:
    """A test puts a fake in its place, by `app.dependency_overrides`."""
    tv: AsyncTwinvec = request.app.state.twinvec
    return tv


app = FastAPI(lifespan=lifespan)
Client = Annotated[AsyncTwinvec, Depends(twinvec)]


@app.post("/digits/{key}", status_code=202)
async def upload(key: str, request: Request, tv: Client) -> dict[str, str]:
    """Sent again, the same picture under the same key is the same job's work: nothing is stored twice."""
    job = await tv.embed({key: await request.body()}, collection=COLLECTION)
    return {"job": job.id}


@app.get("/digits/{key}/neighbours")
async def neighbours(key: str, tv: Client) -> list[dict[str, object]]:
    try:
        answer = await tv.nearest(key=key, k=5, collection=COLLECTION)
    except UnknownKey:
        raise HTTPException(404, "no such picture") from None
    except NotEmbedded:
        raise HTTPException(409, "not embedded yet: try again in a moment") from None
    return [{"key": each.key, "distance": each.distance} for each in answer]
